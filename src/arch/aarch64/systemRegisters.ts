// Names and encodings of the AArch64 system registers that KVM_GET_REG_LIST can offer.
//
// Encodings: Arm ARM (DDI 0487) D24 "AArch64 System Register Descriptions", as in Linux arch/arm64/tools/sysreg and
// arch/arm64/include/asm/sysreg.h. Which ones KVM offers: Linux arch/arm64/kvm/sys_regs.c (sys_reg_descs) and
// tools/testing/selftests/kvm/arm64/get-reg-list.c.

/** op0, op1, CRn, CRm, op2 of an MRS/MSR. */
export type SystemRegisterEncoding = readonly [op0: number, op1: number, crn: number, crm: number, op2: number];

type Row = readonly [name: string, ...encoding: SystemRegisterEncoding];

const numbered = (count: number, row: (n: number) => Row): Row[] => Array.from({ length: count }, (_, n) => row(n));

const topics: Readonly<Record<string, readonly Row[]>> = {
  exception: [
    ['esr_el1', 3, 0, 5, 2, 0],
    ['far_el1', 3, 0, 6, 0, 0],
    ['afsr0_el1', 3, 0, 5, 1, 0],
    ['afsr1_el1', 3, 0, 5, 1, 1],
    ['vbar_el1', 3, 0, 12, 0, 0],
    ['isr_el1', 3, 0, 12, 1, 0],
    ['disr_el1', 3, 0, 12, 1, 1],
    ['allint', 3, 0, 4, 3, 0],
    ['spsr_el2', 3, 4, 4, 0, 0],
    ['elr_el2', 3, 4, 4, 0, 1],
    ['sp_el2', 3, 6, 4, 1, 0],
    ['afsr0_el2', 3, 4, 5, 1, 0],
    ['afsr1_el2', 3, 4, 5, 1, 1],
    ['esr_el2', 3, 4, 5, 2, 0],
    ['vsesr_el2', 3, 4, 5, 2, 3],
    ['far_el2', 3, 4, 6, 0, 0],
    ['hpfar_el2', 3, 4, 6, 0, 4],
    ['vbar_el2', 3, 4, 12, 0, 0],
    ['vdisr_el2', 3, 4, 12, 1, 1],
    ['ifsr32_el2', 3, 4, 5, 0, 1],
    ['fpexc32_el2', 3, 4, 5, 3, 0],
  ],
  translation: [
    ['sctlr_el1', 3, 0, 1, 0, 0],
    ['sctlr2_el1', 3, 0, 1, 0, 3],
    ['tcr_el1', 3, 0, 2, 0, 2],
    ['tcr2_el1', 3, 0, 2, 0, 3],
    ['ttbr0_el1', 3, 0, 2, 0, 0],
    ['ttbr1_el1', 3, 0, 2, 0, 1],
    ['mair_el1', 3, 0, 10, 2, 0],
    ['mair2_el1', 3, 0, 10, 2, 1],
    ['amair_el1', 3, 0, 10, 3, 0],
    ['amair2_el1', 3, 0, 10, 3, 1],
    ['pire0_el1', 3, 0, 10, 2, 2],
    ['pir_el1', 3, 0, 10, 2, 3],
    ['por_el1', 3, 0, 10, 2, 4],
    ['por_el0', 3, 3, 10, 2, 4],
    ['par_el1', 3, 0, 7, 4, 0],
    ['contextidr_el1', 3, 0, 13, 0, 1],
    ['dacr32_el2', 3, 4, 3, 0, 0],
    ['sctlr_el2', 3, 4, 1, 0, 0],
    ['sctlr2_el2', 3, 4, 1, 0, 3],
    ['ttbr0_el2', 3, 4, 2, 0, 0],
    ['ttbr1_el2', 3, 4, 2, 0, 1],
    ['tcr_el2', 3, 4, 2, 0, 2],
    ['tcr2_el2', 3, 4, 2, 0, 3],
    ['vttbr_el2', 3, 4, 2, 1, 0],
    ['vtcr_el2', 3, 4, 2, 1, 2],
    ['vncr_el2', 3, 4, 2, 2, 0],
    ['mair_el2', 3, 4, 10, 2, 0],
    ['pire0_el2', 3, 4, 10, 2, 2],
    ['pir_el2', 3, 4, 10, 2, 3],
    ['por_el2', 3, 4, 10, 2, 4],
    ['amair_el2', 3, 4, 10, 3, 0],
    ['contextidr_el2', 3, 4, 13, 0, 1],
  ],
  timers: [
    ['cntkctl_el1', 3, 0, 14, 1, 0],
    ['cntfrq_el0', 3, 3, 14, 0, 0],
    ['cntpct_el0', 3, 3, 14, 0, 1],
    ['cntp_ctl_el0', 3, 3, 14, 2, 1],
    ['cntp_cval_el0', 3, 3, 14, 2, 2],
    ['cntv_ctl_el0', 3, 3, 14, 3, 1],
    ['cntvct_el0', 3, 3, 14, 0, 2],
    ['cntv_cval_el0', 3, 3, 14, 3, 2],
    ['cntvoff_el2', 3, 4, 14, 0, 3],
    ['cnthctl_el2', 3, 4, 14, 1, 0],
    ['cnthp_ctl_el2', 3, 4, 14, 2, 1],
    ['cnthp_cval_el2', 3, 4, 14, 2, 2],
    ['cnthv_ctl_el2', 3, 4, 14, 3, 1],
    ['cnthv_cval_el2', 3, 4, 14, 3, 2],
  ],
  debug: [
    ['mdscr_el1', 2, 0, 0, 2, 2],
    ['mdccint_el1', 2, 0, 0, 2, 0],
    ['oslsr_el1', 2, 0, 1, 1, 4],
    ['osdlr_el1', 2, 0, 1, 3, 4],
    ['dbgprcr_el1', 2, 0, 1, 4, 4],
    ['dbgclaimset_el1', 2, 0, 7, 8, 6],
    ['dbgclaimclr_el1', 2, 0, 7, 9, 6],
    ['dbgauthstatus_el1', 2, 0, 7, 14, 6],
    ['dbgvcr32_el2', 2, 4, 0, 7, 0],
    ['mdcr_el2', 3, 4, 1, 1, 1],
    ...numbered(16, (n) => [`dbgbvr${n}_el1`, 2, 0, 0, n, 4]),
    ...numbered(16, (n) => [`dbgbcr${n}_el1`, 2, 0, 0, n, 5]),
    ...numbered(16, (n) => [`dbgwvr${n}_el1`, 2, 0, 0, n, 6]),
    ...numbered(16, (n) => [`dbgwcr${n}_el1`, 2, 0, 0, n, 7]),
  ],
  identification: [
    ['midr_el1', 3, 0, 0, 0, 0],
    ['mpidr_el1', 3, 0, 0, 0, 5],
    ['revidr_el1', 3, 0, 0, 0, 6],
    ['aidr_el1', 3, 1, 0, 0, 7],
    ['smidr_el1', 3, 1, 0, 0, 6],
    ['ccsidr_el1', 3, 1, 0, 0, 0],
    ['clidr_el1', 3, 1, 0, 0, 1],
    ['ccsidr2_el1', 3, 1, 0, 0, 2],
    ['gmid_el1', 3, 1, 0, 0, 4],
    ['csselr_el1', 3, 2, 0, 0, 0],
    ['ctr_el0', 3, 3, 0, 0, 1],
    ['dczid_el0', 3, 3, 0, 0, 7],
    ['vpidr_el2', 3, 4, 0, 0, 0],
    ['vmpidr_el2', 3, 4, 0, 0, 5],
    ['id_aa64pfr0_el1', 3, 0, 0, 4, 0],
    ['id_aa64pfr1_el1', 3, 0, 0, 4, 1],
    ['id_aa64pfr2_el1', 3, 0, 0, 4, 2],
    ['id_aa64zfr0_el1', 3, 0, 0, 4, 4],
    ['id_aa64smfr0_el1', 3, 0, 0, 4, 5],
    ['id_aa64fpfr0_el1', 3, 0, 0, 4, 7],
    ['id_aa64dfr0_el1', 3, 0, 0, 5, 0],
    ['id_aa64dfr1_el1', 3, 0, 0, 5, 1],
    ['id_aa64dfr2_el1', 3, 0, 0, 5, 2],
    ['id_aa64afr0_el1', 3, 0, 0, 5, 4],
    ['id_aa64afr1_el1', 3, 0, 0, 5, 5],
    ['id_aa64isar0_el1', 3, 0, 0, 6, 0],
    ['id_aa64isar1_el1', 3, 0, 0, 6, 1],
    ['id_aa64isar2_el1', 3, 0, 0, 6, 2],
    ['id_aa64isar3_el1', 3, 0, 0, 6, 3],
    ['id_aa64mmfr0_el1', 3, 0, 0, 7, 0],
    ['id_aa64mmfr1_el1', 3, 0, 0, 7, 1],
    ['id_aa64mmfr2_el1', 3, 0, 0, 7, 2],
    ['id_aa64mmfr3_el1', 3, 0, 0, 7, 3],
    ['id_aa64mmfr4_el1', 3, 0, 0, 7, 4],
    ['id_pfr0_el1', 3, 0, 0, 1, 0],
    ['id_pfr1_el1', 3, 0, 0, 1, 1],
    ['id_dfr0_el1', 3, 0, 0, 1, 2],
    ['id_afr0_el1', 3, 0, 0, 1, 3],
    ['id_mmfr0_el1', 3, 0, 0, 1, 4],
    ['id_mmfr1_el1', 3, 0, 0, 1, 5],
    ['id_mmfr2_el1', 3, 0, 0, 1, 6],
    ['id_mmfr3_el1', 3, 0, 0, 1, 7],
    ['id_isar0_el1', 3, 0, 0, 2, 0],
    ['id_isar1_el1', 3, 0, 0, 2, 1],
    ['id_isar2_el1', 3, 0, 0, 2, 2],
    ['id_isar3_el1', 3, 0, 0, 2, 3],
    ['id_isar4_el1', 3, 0, 0, 2, 4],
    ['id_isar5_el1', 3, 0, 0, 2, 5],
    ['id_mmfr4_el1', 3, 0, 0, 2, 6],
    ['id_isar6_el1', 3, 0, 0, 2, 7],
    ['mvfr0_el1', 3, 0, 0, 3, 0],
    ['mvfr1_el1', 3, 0, 0, 3, 1],
    ['mvfr2_el1', 3, 0, 0, 3, 2],
    ['id_pfr2_el1', 3, 0, 0, 3, 4],
    ['id_dfr1_el1', 3, 0, 0, 3, 5],
    ['id_mmfr5_el1', 3, 0, 0, 3, 6],
  ],
  performance: [
    ['pmcr_el0', 3, 3, 9, 12, 0],
    ['pmcntenset_el0', 3, 3, 9, 12, 1],
    ['pmcntenclr_el0', 3, 3, 9, 12, 2],
    ['pmovsclr_el0', 3, 3, 9, 12, 3],
    ['pmswinc_el0', 3, 3, 9, 12, 4],
    ['pmselr_el0', 3, 3, 9, 12, 5],
    ['pmceid0_el0', 3, 3, 9, 12, 6],
    ['pmceid1_el0', 3, 3, 9, 12, 7],
    ['pmccntr_el0', 3, 3, 9, 13, 0],
    ['pmxevtyper_el0', 3, 3, 9, 13, 1],
    ['pmxevcntr_el0', 3, 3, 9, 13, 2],
    ['pmuserenr_el0', 3, 3, 9, 14, 0],
    ['pmovsset_el0', 3, 3, 9, 14, 3],
    ['pmintenset_el1', 3, 0, 9, 14, 1],
    ['pmintenclr_el1', 3, 0, 9, 14, 2],
    ['pmmir_el1', 3, 0, 9, 14, 6],
    // 31 event counters: PMEVCNTR<n>_EL0 is CRm 0b10:n[4:3], PMEVTYPER<n>_EL0 is CRm 0b11:n[4:3], op2 n[2:0].
    ...numbered(31, (n) => [`pmevcntr${n}_el0`, 3, 3, 14, 8 + (n >> 3), n & 7]),
    ...numbered(31, (n) => [`pmevtyper${n}_el0`, 3, 3, 14, 12 + (n >> 3), n & 7]),
    ['pmccfiltr_el0', 3, 3, 14, 15, 7],
  ],
  'pointer authentication': [
    ['apiakeylo_el1', 3, 0, 2, 1, 0],
    ['apiakeyhi_el1', 3, 0, 2, 1, 1],
    ['apibkeylo_el1', 3, 0, 2, 1, 2],
    ['apibkeyhi_el1', 3, 0, 2, 1, 3],
    ['apdakeylo_el1', 3, 0, 2, 2, 0],
    ['apdakeyhi_el1', 3, 0, 2, 2, 1],
    ['apdbkeylo_el1', 3, 0, 2, 2, 2],
    ['apdbkeyhi_el1', 3, 0, 2, 2, 3],
    ['apgakeylo_el1', 3, 0, 2, 3, 0],
    ['apgakeyhi_el1', 3, 0, 2, 3, 1],
  ],
  interrupts: [
    ['icc_pmr_el1', 3, 0, 4, 6, 0],
    ['icc_bpr0_el1', 3, 0, 12, 8, 3],
    ['icc_ctlr_el1', 3, 0, 12, 12, 4],
    ['icc_sre_el1', 3, 0, 12, 12, 5],
    ['icc_igrpen0_el1', 3, 0, 12, 12, 6],
    ['icc_igrpen1_el1', 3, 0, 12, 12, 7],
    ['icc_bpr1_el1', 3, 0, 12, 12, 3],
    ['icc_sre_el2', 3, 4, 12, 9, 5],
    ['ich_hcr_el2', 3, 4, 12, 11, 0],
    ['ich_vtr_el2', 3, 4, 12, 11, 1],
    ['ich_vmcr_el2', 3, 4, 12, 11, 7],
  ],
  other: [
    ['actlr_el1', 3, 0, 1, 0, 1],
    ['cpacr_el1', 3, 0, 1, 0, 2],
    ['rgsr_el1', 3, 0, 1, 0, 5],
    ['gcr_el1', 3, 0, 1, 0, 6],
    ['zcr_el1', 3, 0, 1, 2, 0],
    ['smpri_el1', 3, 0, 1, 2, 4],
    ['smcr_el1', 3, 0, 1, 2, 6],
    ['gcscr_el1', 3, 0, 2, 5, 0],
    ['gcspr_el1', 3, 0, 2, 5, 1],
    ['gcscre0_el1', 3, 0, 2, 5, 2],
    ['gcspr_el0', 3, 3, 2, 5, 1],
    ['tfsr_el1', 3, 0, 5, 6, 0],
    ['tfsre0_el1', 3, 0, 5, 6, 1],
    ['tpidr_el1', 3, 0, 13, 0, 4],
    ['scxtnum_el1', 3, 0, 13, 0, 7],
    ['svcr', 3, 3, 4, 2, 2],
    ['fpmr', 3, 3, 4, 4, 2],
    ['tpidr_el0', 3, 3, 13, 0, 2],
    ['tpidrro_el0', 3, 3, 13, 0, 3],
    ['tpidr2_el0', 3, 3, 13, 0, 5],
    ['scxtnum_el0', 3, 3, 13, 0, 7],
    ['actlr_el2', 3, 4, 1, 0, 1],
    ['hcr_el2', 3, 4, 1, 1, 0],
    ['cptr_el2', 3, 4, 1, 1, 2],
    ['hstr_el2', 3, 4, 1, 1, 3],
    ['hfgrtr_el2', 3, 4, 1, 1, 4],
    ['hfgwtr_el2', 3, 4, 1, 1, 5],
    ['hfgitr_el2', 3, 4, 1, 1, 6],
    ['hacr_el2', 3, 4, 1, 1, 7],
    ['nvhcr_el2', 3, 4, 1, 5, 0],
    ['zcr_el2', 3, 4, 1, 2, 0],
    ['hcrx_el2', 3, 4, 1, 2, 2],
    ['hdfgrtr2_el2', 3, 4, 3, 1, 0],
    ['hdfgwtr2_el2', 3, 4, 3, 1, 1],
    ['hfgrtr2_el2', 3, 4, 3, 1, 2],
    ['hfgwtr2_el2', 3, 4, 3, 1, 3],
    ['hdfgrtr_el2', 3, 4, 3, 1, 4],
    ['hdfgwtr_el2', 3, 4, 3, 1, 5],
    ['hafgrtr_el2', 3, 4, 3, 1, 6],
    ['hfgitr2_el2', 3, 4, 3, 1, 7],
    ['tpidr_el2', 3, 4, 13, 0, 2],
  ],
};

export interface SystemRegister {
  readonly name: string;
  readonly topic: string;
  readonly encoding: SystemRegisterEncoding;
}

/** Every named register, topic by topic. */
export const systemRegisters: readonly SystemRegister[] = Object.entries(topics).flatMap(([topic, rows]) =>
  rows.map(([name, ...encoding]) => ({ name, topic, encoding })),
);

/** op0:op1:CRn:CRm:op2 as the 16 bits that MRS/MSR and KVM's register ids share (op0 in bits 15:14). */
export const packEncoding = ([op0, op1, crn, crm, op2]: SystemRegisterEncoding): number =>
  (op0 << 14) | (op1 << 11) | (crn << 7) | (crm << 3) | op2;

export const unpackEncoding = (packed: number): SystemRegisterEncoding => [
  (packed >> 14) & 3,
  (packed >> 11) & 7,
  (packed >> 7) & 15,
  (packed >> 3) & 15,
  packed & 7,
];

const byEncoding = new Map(systemRegisters.map((register) => [packEncoding(register.encoding), register]));
// op0 3, op1 0, CRn 0, CRm 1-7 is reserved for identification registers, allocated or not (Arm ARM, D22, encodings of
// op0 0b11).
const isIdentificationSpace = ([op0, op1, crn, crm]: SystemRegisterEncoding): boolean =>
  op0 === 3 && op1 === 0 && crn === 0 && crm >= 1 && crm <= 7;

/** The register at an encoding; one without a name here gets the generic one, `s3_0_c1_c0_1` (Arm ARM, C5.1.2). */
export function systemRegisterAt(encoding: SystemRegisterEncoding): SystemRegister {
  const known = byEncoding.get(packEncoding(encoding));
  if (known) return known;
  const topic = isIdentificationSpace(encoding) ? 'identification' : 'other';
  return { name: genericName(encoding), topic, encoding };
}

/** `S<op0>_<op1>_<Cn>_<Cm>_<op2>` in lower case. */
export const genericName = ([op0, op1, crn, crm, op2]: SystemRegisterEncoding): string =>
  `s${op0}_${op1}_c${crn}_c${crm}_${op2}`;
