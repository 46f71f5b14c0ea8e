// Bit fields of PSTATE, FPCR, FPSR and the system registers that are read most.
//
// Transcribed from the Arm ARM (DDI 0487), C5.2 (SPSR_EL1, FPCR, FPSR) and D24 (the register of each
// heading); the identification registers also stand in Linux arch/arm64/tools/sysreg. A field is written `NAME:high.low`
// or, for one bit, `NAME:bit`. Reserved bits are left out.

import type { BitField } from '../architecture.ts';
import { memoryType } from './memoryType.ts';

type Values = Readonly<Record<string, Readonly<Record<number, string>>>>;

/** The fields of one register from the notation above, most significant first. */
function fields(notation: string, values: Values = {}): readonly BitField[] {
  return notation
    .trim()
    .split(/\s+/)
    .map((item): BitField => {
      const [name = '', bits = ''] = item.split(':');
      const [high = '', low = high] = bits.split('.');
      const named = values[name];
      return { name, high: Number(high), low: Number(low), ...(named ? { values: named } : {}) };
    })
    .sort((a, b) => b.high - a.high);
}

// PSTATE as SPSR_EL1 lays it out (C5.2). M[4] is nRW; with nRW = 1 M[3:0] is an AArch32 mode, else M[3:2] is EL, M[0] SP.
const mode: Readonly<Record<number, string>> = {
  0: 'EL0t',
  4: 'EL1t',
  5: 'EL1h',
  8: 'EL2t',
  9: 'EL2h',
  16: 'User (AArch32)',
  17: 'FIQ (AArch32)',
  18: 'IRQ (AArch32)',
  19: 'Supervisor (AArch32)',
  23: 'Abort (AArch32)',
  27: 'Undefined (AArch32)',
  31: 'System (AArch32)',
};

const pstate = fields(
  `EXLOCK:34 PPEND:33 PM:32 N:31 Z:30 C:29 V:28 TCO:25 DIT:24 UAO:23 PAN:22 SS:21 IL:20 ALLINT:13 SSBS:12 BTYPE:11.10
   D:9 A:8 I:7 F:6 nRW:4 M:4.0`,
  { nRW: { 0: 'AArch64', 1: 'AArch32' }, M: mode },
);

// ESR_EL1, EC: the classes that a guest kernel sees. debug.ts has the whole table.
const exceptionClass: Readonly<Record<number, string>> = {
  0: 'unknown',
  7: 'SVE, SIMD or floating point trapped',
  13: 'branch target exception',
  14: 'illegal execution state',
  17: 'SVC (AArch32)',
  21: 'SVC',
  24: 'MSR, MRS or system instruction',
  25: 'SVE trapped',
  28: 'pointer authentication failure',
  32: 'instruction abort, lower EL',
  33: 'instruction abort, same EL',
  34: 'PC alignment',
  36: 'data abort, lower EL',
  37: 'data abort, same EL',
  38: 'SP alignment',
  44: 'floating-point exception',
  47: 'SError',
  48: 'breakpoint, lower EL',
  49: 'breakpoint, same EL',
  50: 'software step, lower EL',
  51: 'software step, same EL',
  52: 'watchpoint, lower EL',
  53: 'watchpoint, same EL',
  56: 'BKPT (AArch32)',
  60: 'BRK',
};

const attributes = Object.fromEntries(
  Array.from({ length: 256 }, (_, attribute) => [attribute, memoryType(attribute)]),
);

const debugControl = { PMC: { 1: 'EL1', 2: 'EL0', 3: 'EL0 and EL1' } };
const implemented = { 0: 'no', 1: 'yes' };
const timerControl = fields('ISTATUS:2 IMASK:1 ENABLE:0');

const table: Readonly<Record<string, readonly BitField[]>> = {
  pstate,
  spsr_el1: pstate,
  spsr_el2: pstate,

  fpcr: fields(
    `AHP:26 DN:25 FZ:24 RMode:23.22 Stride:21.20 FZ16:19 Len:18.16 IDE:15 EBF:13 IXE:12 UFE:11 OFE:10 DZE:9 IOE:8 NEP:2
     AH:1 FIZ:0`,
    { RMode: { 0: 'nearest', 1: 'plus infinity', 2: 'minus infinity', 3: 'zero' } },
  ),
  fpsr: fields('N:31 Z:30 C:29 V:28 QC:27 IDC:7 IXC:4 UFC:3 OFC:2 DZC:1 IOC:0'),

  sctlr_el1: fields(
    `TIDCP:63 SPINTMASK:62 NMI:61 EnTP2:60 TCSO:59 TCSO0:58 EPAN:57 EnALS:56 EnAS0:55 EnASR:54 TME:53 TME0:52 TMT:51
     TMT0:50 TWEDEL:49.46 TWEDEn:45 DSSBS:44 ATA:43 ATA0:42 TCF:41.40 TCF0:39.38 ITFSB:37 BT1:36 BT0:35 EnFPM:34 MSCEn:33
     CMOW:32 EnIA:31 EnIB:30 LSMAOE:29 nTLSMD:28 EnDA:27 UCI:26 EE:25 E0E:24 SPAN:23 EIS:22 IESB:21 TSCXT:20 WXN:19
     nTWE:18 nTWI:16 UCT:15 DZE:14 EnDB:13 I:12 EOS:11 EnRCTX:10 UMA:9 SED:8 ITD:7 nAA:6 CP15BEN:5 SA0:4 SA:3 C:2 A:1 M:0`,
    { M: { 0: 'MMU off', 1: 'MMU on' } },
  ),
  tcr_el1: fields(
    `MTX1:61 MTX0:60 DS:59 TCMA1:58 TCMA0:57 E0PD1:56 E0PD0:55 NFD1:54 NFD0:53 TBID1:52 TBID0:51 HWU162:50 HWU161:49
     HWU160:48 HWU159:47 HWU062:46 HWU061:45 HWU060:44 HWU059:43 HPD1:42 HPD0:41 HD:40 HA:39 TBI1:38 TBI0:37 AS:36
     IPS:34.32 TG1:31.30 SH1:29.28 ORGN1:27.26 IRGN1:25.24 EPD1:23 A1:22 T1SZ:21.16 TG0:15.14 SH0:13.12 ORGN0:11.10
     IRGN0:9.8 EPD0:7 T0SZ:5.0`,
    {
      TG0: { 0: '4 KiB', 1: '64 KiB', 2: '16 KiB' },
      TG1: { 1: '16 KiB', 2: '4 KiB', 3: '64 KiB' },
      IPS: {
        0: '32 bits',
        1: '36 bits',
        2: '40 bits',
        3: '42 bits',
        4: '44 bits',
        5: '48 bits',
        6: '52 bits',
        7: '56 bits',
      },
      AS: { 0: '8-bit ASID', 1: '16-bit ASID' },
    },
  ),
  ttbr0_el1: fields('ASID:63.48 BADDR:47.1 CnP:0'),
  ttbr1_el1: fields('ASID:63.48 BADDR:47.1 CnP:0'),
  mair_el1: fields(
    'Attr7:63.56 Attr6:55.48 Attr5:47.40 Attr4:39.32 Attr3:31.24 Attr2:23.16 Attr1:15.8 Attr0:7.0',
    Object.fromEntries(Array.from({ length: 8 }, (_, n) => [`Attr${n}`, attributes])),
  ),
  contextidr_el1: fields('PROCID:31.0'),

  esr_el1: fields('ISS2:55.32 EC:31.26 IL:25 ISS:24.0', { EC: exceptionClass }),
  vbar_el1: fields('VBA:63.11'),
  cpacr_el1: fields('E0POE:29 TTA:28 SMEN:25.24 FPEN:21.20 ZEN:17.16', {
    FPEN: { 0: 'trap EL0 and EL1', 1: 'trap EL0', 2: 'trap EL0 and EL1', 3: 'no trap' },
  }),

  mdscr_el1: fields(
    `EnSTEPOP:50 EHBWE:35 EnSPM:34 TTA:33 EMBWE:32 TFO:31 RXfull:30 TXfull:29 RXO:27 TXU:26 INTdis:23.22 TDA:21 SC2:19
     MDE:15 HDE:14 KDE:13 TDCC:12 ERR:6 SS:0`,
  ),
  oslsr_el1: fields('OSLM1:3 nTT:2 OSLK:1 OSLM0:0'),

  cntkctl_el1: fields('EVNTIS:17 ECV:12 EL0PTEN:9 EL0VTEN:8 EVNTI:7.4 EVNTDIR:3 EVNTEN:2 EL0VCTEN:1 EL0PCTEN:0'),
  cntv_ctl_el0: timerControl,
  cntp_ctl_el0: timerControl,
  cnthp_ctl_el2: timerControl,
  cnthv_ctl_el2: timerControl,

  pmcr_el0: fields('IMP:31.24 IDCODE:23.16 N:15.11 FZO:9 LP:7 LC:6 DP:5 X:4 D:3 C:2 P:1 E:0'),
  pmuserenr_el0: fields('ER:3 CR:2 SW:1 EN:0'),

  midr_el1: fields('Implementer:31.24 Variant:23.20 Architecture:19.16 PartNum:15.4 Revision:3.0', {
    Implementer: {
      65: 'Arm',
      66: 'Broadcom',
      67: 'Cavium',
      70: 'Fujitsu',
      72: 'HiSilicon',
      78: 'NVIDIA',
      80: 'Applied Micro',
      81: 'Qualcomm',
      97: 'Apple',
      109: 'Microsoft',
      192: 'Ampere',
    },
  }),
  mpidr_el1: fields('Aff3:39.32 U:30 MT:24 Aff2:23.16 Aff1:15.8 Aff0:7.0'),
  ctr_el0: fields('TminLine:37.32 DIC:29 IDC:28 CWG:27.24 ERG:23.20 DminLine:19.16 L1Ip:15.14 IminLine:3.0'),
  csselr_el1: fields('TnD:4 Level:3.1 InD:0', { InD: { 0: 'data or unified', 1: 'instruction' } }),
  id_aa64pfr0_el1: fields(
    `CSV3:63.60 CSV2:59.56 RME:55.52 DIT:51.48 AMU:47.44 MPAM:43.40 SEL2:39.36 SVE:35.32 RAS:31.28 GIC:27.24
     AdvSIMD:23.20 FP:19.16 EL3:15.12 EL2:11.8 EL1:7.4 EL0:3.0`,
    {
      SVE: implemented,
      DIT: implemented,
      AdvSIMD: { 0: 'yes', 1: 'yes, half precision', 15: 'no' },
      FP: { 0: 'yes', 1: 'yes, half precision', 15: 'no' },
      EL1: { 1: 'AArch64', 2: 'AArch64 and AArch32' },
      EL0: { 1: 'AArch64', 2: 'AArch64 and AArch32' },
    },
  ),
  id_aa64pfr1_el1: fields(
    `PFAR:63.60 DF2:59.56 MTEX:55.52 THE:51.48 GCS:47.44 MTE_frac:43.40 NMI:39.36 CSV2_frac:35.32 RNDR_trap:31.28
     SME:27.24 MPAM_frac:19.16 RAS_frac:15.12 MTE:11.8 SSBS:7.4 BT:3.0`,
    { BT: implemented, NMI: implemented, MTE: { 0: 'no', 1: 'instructions only', 2: 'MTE2', 3: 'MTE3' } },
  ),
  id_aa64dfr0_el1: fields(
    `HPMN0:63.60 ExtTrcBuff:59.56 BRBE:55.52 MTPMU:51.48 TraceBuffer:47.44 TraceFilt:43.40 DoubleLock:39.36
     PMSVer:35.32 CTX_CMPs:31.28 SEBEP:27.24 WRPs:23.20 PMSS:19.16 BRPs:15.12 PMUVer:11.8 TraceVer:7.4 DebugVer:3.0`,
    { DebugVer: { 6: 'Armv8', 7: 'Armv8.1', 8: 'Armv8.2', 9: 'Armv8.4', 10: 'Armv8.8', 11: 'Armv8.9' } },
  ),
  id_aa64isar0_el1: fields(
    `RNDR:63.60 TLB:59.56 TS:55.52 FHM:51.48 DP:47.44 SM4:43.40 SM3:39.36 SHA3:35.32 RDM:31.28 TME:27.24 Atomic:23.20
     CRC32:19.16 SHA2:15.12 SHA1:11.8 AES:7.4`,
  ),
  id_aa64isar1_el1: fields(
    `LS64:63.60 XS:59.56 I8MM:55.52 DGH:51.48 BF16:47.44 SPECRES:43.40 SB:39.36 FRINTTS:35.32 GPI:31.28 GPA:27.24
     LRCPC:23.20 FCMA:19.16 JSCVT:15.12 API:11.8 APA:7.4 DPB:3.0`,
  ),
  id_aa64mmfr0_el1: fields(
    `ECV:63.60 FGT:59.56 ExS:47.44 TGran4_2:43.40 TGran64_2:39.36 TGran16_2:35.32 TGran4:31.28 TGran64:27.24
     TGran16:23.20 BigEndEL0:19.16 SNSMem:15.12 BigEnd:11.8 ASIDBits:7.4 PARange:3.0`,
    {
      TGran4: { 0: '4 KiB', 1: '4 KiB, 52 bits', 15: 'no 4 KiB' },
      TGran64: { 0: '64 KiB', 15: 'no 64 KiB' },
      TGran16: { 0: 'no 16 KiB', 1: '16 KiB', 2: '16 KiB, 52 bits' },
      ASIDBits: { 0: '8 bits', 2: '16 bits' },
      PARange: {
        0: '32 bits',
        1: '36 bits',
        2: '40 bits',
        3: '42 bits',
        4: '44 bits',
        5: '48 bits',
        6: '52 bits',
        7: '56 bits',
      },
    },
  ),
  id_aa64mmfr1_el1: fields(
    `ECBHB:63.60 CMOW:59.56 TIDCP1:55.52 nTLBPA:51.48 AFP:47.44 HCX:43.40 ETS:39.36 TWED:35.32 XNX:31.28 SpecSEI:27.24
     PAN:23.20 LO:19.16 HPDS:15.12 VH:11.8 VMIDBits:7.4 HAFDBS:3.0`,
    {
      PAN: { 0: 'no', 1: 'PAN', 2: 'PAN2', 3: 'PAN3' },
      HAFDBS: { 0: 'no', 1: 'access flag', 2: 'access flag and dirty state' },
    },
  ),
  id_aa64mmfr2_el1: fields(
    `E0PD:63.60 EVT:59.56 BBM:55.52 TTL:51.48 FWB:43.40 IDS:39.36 AT:35.32 ST:31.28 NV:27.24 CCIDX:23.20 VARange:19.16
     IESB:15.12 LSM:11.8 UAO:7.4 CnP:3.0`,
    { VARange: { 0: '48 bits', 1: '52 bits with 64 KiB', 2: '56 bits' } },
  ),
};

// DBGBCR<n>_EL1 and DBGWCR<n>_EL1 (D24.3).
const breakpointControl = fields(
  'LBNX:31.30 SSCE:29 MASK:28.24 BT:23.20 LBN:19.16 SSC:15.14 HMC:13 BAS:8.5 PMC:2.1 E:0',
  {
    ...debugControl,
  },
);
const watchpointControl = fields(
  'LBNX:31.30 SSCE:29 MASK:28.24 WT2:23 WT:20 LBN:19.16 SSC:15.14 HMC:13 BAS:12.5 LSC:4.3 PAC:2.1 E:0',
  { PAC: debugControl.PMC, LSC: { 1: 'load', 2: 'store', 3: 'load and store' } },
);

/** The fields of the register `name`, where they are transcribed here. */
export function fieldsOf(name: string): readonly BitField[] | undefined {
  if (/^dbgbcr\d+_el1$/.test(name)) return breakpointControl;
  if (/^dbgwcr\d+_el1$/.test(name)) return watchpointControl;
  return Object.hasOwn(table, name) ? table[name] : undefined;
}
