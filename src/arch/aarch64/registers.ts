// The registers of an arm64 vCPU as KVM names them: ids of KVM_GET_ONE_REG and KVM_SET_ONE_REG.
//
// A register id (Linux include/uapi/linux/kvm.h, arch/arm64/include/uapi/asm/kvm.h):
//   63:56  architecture   0x60 KVM_REG_ARM64
//   55:52  size           KVM_REG_SIZE_*: 2^n bytes
//   27:16  kind           KVM_REG_ARM_COPROC_MASK, below
//   15:0   within the kind
// Kinds:
//   0x0010 KVM_REG_ARM_CORE         offset in struct kvm_regs, in 32-bit words
//   0x0011 KVM_REG_ARM_DEMUX        15:8 which (0 CCSIDR), 7:0 CSSELR value
//   0x0013 KVM_REG_ARM64_SYSREG     15:14 op0, 13:11 op1, 10:7 CRn, 6:3 CRm, 2:0 op2
//   0x0014 KVM_REG_ARM_FW           firmware pseudo-registers
//   0x0015 KVM_REG_ARM64_SVE        Z at 0, P at 0x400, FFR at 0x600: 9:5 number, 4:0 slice; 0xffff vector lengths
//   0x0016 KVM_REG_ARM_FW_FEAT_BMAP firmware feature bitmaps

import type { BitField, RegisterDescription, RegisterGroup } from '../architecture.ts';
import { fieldsOf } from './registerFields.ts';
import { genericName, packEncoding, systemRegisterAt, systemRegisters, unpackEncoding } from './systemRegisters.ts';

const KVM_REG_ARM64 = 0x6000_0000_0000_0000n;
const KVM_REG_SIZE_SHIFT = 52n;

const Kind = { core: 0x10, demux: 0x11, system: 0x13, firmware: 0x14, sve: 0x15, firmwareBitmap: 0x16 } as const;

const registerId = (kind: number, bits: number, low: number): bigint =>
  KVM_REG_ARM64 | (BigInt(Math.log2(bits / 8)) << KVM_REG_SIZE_SHIFT) | BigInt((kind << 16) | low);

/** Width in bits of the value that `id` transfers (KVM_REG_SIZE). PSTATE is 64 bits wide, whatever its fields. */
export const registerBits = (id: bigint): number => 8 << Number((id >> KVM_REG_SIZE_SHIFT) & 0xfn);

// The counters of the Generic Timer (Arm ARM, D12.1) and of the performance monitors (D13.1).
const isCounter = (name: string): boolean => /^(cnt[vp]ct(ss)?|pmccntr|pmxevcntr|pmevcntr\d+)_el0$/.test(name);

const describe = (name: string, group: RegisterGroup, bits: number, topic?: string): RegisterDescription => {
  const fields: readonly BitField[] | undefined = fieldsOf(name);
  return {
    name,
    group,
    bits,
    ...(topic === undefined ? {} : { topic }),
    ...(fields ? { fields } : {}),
    ...(isCounter(name) ? { counts: true } : {}),
  };
};

// struct kvm_regs (asm/kvm.h), holding struct user_pt_regs and struct user_fpsimd_state (asm/ptrace.h). Byte offsets:
//     0  regs.regs[31]   u64    x0-x30
//   248  regs.sp         u64    SP_EL0
//   256  regs.pc         u64
//   264  regs.pstate     u64
//   272  sp_el1          u64
//   280  elr_el1         u64
//   288  spsr[5]         u64    KVM_SPSR_EL1, _ABT, _UND, _IRQ, _FIQ
//   336  fp_regs.vregs[32] u128 (aligned to 16)
//   848  fp_regs.fpsr    u32
//   852  fp_regs.fpcr    u32
const spsrNames = ['spsr_el1', 'spsr_abt', 'spsr_und', 'spsr_irq', 'spsr_fiq'];
const coreLayout: readonly (readonly [offset: number, description: RegisterDescription])[] = [
  ...Array.from({ length: 31 }, (_, n) => [8 * n, describe(`x${n}`, 'general', 64)] as const),
  [248, describe('sp_el0', 'system', 64, 'exception')],
  [256, describe('pc', 'general', 64)],
  [264, describe('pstate', 'general', 64)],
  [272, describe('sp_el1', 'system', 64, 'exception')],
  [280, describe('elr_el1', 'system', 64, 'exception')],
  ...spsrNames.map((name, n) => [288 + 8 * n, describe(name, 'system', 64, 'exception')] as const),
  ...Array.from({ length: 32 }, (_, n) => [336 + 16 * n, describe(`v${n}`, 'float', 128)] as const),
  [848, describe('fpsr', 'float', 32)],
  [852, describe('fpcr', 'float', 32)],
];

const coreById = new Map(
  coreLayout.map(([offset, description]) => [registerId(Kind.core, description.bits, offset / 4), description]),
);

/** Ids of the core registers by name: x0-x30, sp_el0, pc, pstate, sp_el1, elr_el1, spsr_*, v0-v31, fpsr, fpcr. */
export const coreRegisterIds: ReadonlyMap<string, bigint> = new Map([...coreById].map(([id, { name }]) => [name, id]));

// KVM's ids of the virtual timer's counter and compare value are swapped against the architecture's encodings, and are
// ABI (asm/kvm.h, KVM_REG_ARM_TIMER_CVAL and KVM_REG_ARM_TIMER_CNT).
const CNTVCT_EL0 = packEncoding([3, 3, 14, 0, 2]);
const CNTV_CVAL_EL0 = packEncoding([3, 3, 14, 3, 2]);
/** From the architecture's encoding to KVM's, and back. */
const swapTimerEncoding = (packed: number): number =>
  packed === CNTVCT_EL0 ? CNTV_CVAL_EL0 : packed === CNTV_CVAL_EL0 ? CNTVCT_EL0 : packed;

/** Ids of the system registers that have a name here, by name; whether a vCPU has one is for KVM_GET_REG_LIST to say. */
export const systemRegisterIds: ReadonlyMap<string, bigint> = new Map(
  systemRegisters.map(({ name, encoding }) => [
    name,
    registerId(Kind.system, 64, swapTimerEncoding(packEncoding(encoding))),
  ]),
);

/** The computed register `sp`: the stack pointer in use, see `activeStackPointer`. */
export const stackPointer: RegisterDescription = describe('sp', 'general', 64);

const PSTATE_NRW = 1n << 4n;

/** The register that `sp` stands for. EL0 always uses SP_EL0; above it PSTATE.SP (bit 0) chooses between SP_EL0 and the
 *  Exception level's own (Arm ARM, D1.2 and C5.2, SPSel). Linux runs EL1 on SP_EL1 and keeps `current` in SP_EL0.
 *  AArch32 code at EL0 has its stack pointer in R13_usr, which is X13 (Arm ARM, D1, mapping of AArch32
 *  to AArch64 registers). */
export function activeStackPointer(pstate: bigint): 'sp_el0' | 'sp_el1' | 'sp_el2' | 'x13' {
  if (pstate & PSTATE_NRW) return 'x13';
  const el = (pstate >> 2n) & 3n;
  if (el === 0n || (pstate & 1n) === 0n) return 'sp_el0';
  return el === 1n ? 'sp_el1' : 'sp_el2';
}

// KVM_REG_ARM_FW_REG(n) and KVM_REG_ARM_FW_FEAT_BMAP_REG(n) (asm/kvm.h).
const firmwareNames = ['psci_version', 'smccc_arch_workaround_1', 'smccc_arch_workaround_2', 'smccc_arch_workaround_3'];
const firmwareBitmapNames = ['std_bmap', 'std_hyp_bmap', 'vendor_hyp_bmap', 'vendor_hyp_bmap_2'];

const SVE_VECTOR_LENGTHS = 0xffff;
const SVE_P_BASE = 0x400;
const SVE_FFR_BASE = 0x600;

function describeSve(low: number, bits: number): RegisterDescription {
  if (low === SVE_VECTOR_LENGTHS) return describe('sve_vls', 'system', bits, 'other');
  const number = (low >> 5) & 0x1f;
  const slice = low & 0x1f;
  const suffix = slice === 0 ? '' : `_slice${slice}`;
  if (low >= SVE_FFR_BASE) return describe(`ffr${suffix}`, 'float', bits);
  if (low >= SVE_P_BASE) return describe(`p${number}${suffix}`, 'float', bits);
  return describe(`z${number}${suffix}`, 'float', bits);
}

export type KvmRegisterDescription = RegisterDescription & { readonly id: bigint };

/** What the register `id` of KVM_GET_REG_LIST is. Never fails: an id of no known kind is named by its number. */
export function describeKvmRegister(id: bigint): KvmRegisterDescription {
  const kind = Number((id >> 16n) & 0xfffn);
  const low = Number(id & 0xffffn);
  const bits = registerBits(id);
  const unknown = (): RegisterDescription => describe(`kvm_0x${id.toString(16)}`, 'system', bits, 'other');
  const description = ((): RegisterDescription => {
    switch (kind) {
      case Kind.core:
        return coreById.get(id) ?? unknown();
      case Kind.system: {
        const { name, topic } = systemRegisterAt(unpackEncoding(swapTimerEncoding(low)));
        return describe(name, 'system', bits, topic);
      }
      case Kind.demux:
        return low >> 8 === 0 ? describe(`ccsidr_${low & 0xff}`, 'system', bits, 'identification') : unknown();
      case Kind.firmware:
        return describe(firmwareNames[low] ?? `firmware_${low}`, 'system', bits, 'firmware');
      case Kind.firmwareBitmap:
        return describe(firmwareBitmapNames[low] ?? `firmware_bmap_${low}`, 'system', bits, 'firmware');
      case Kind.sve:
        return describeSve(low, bits);
      default:
        return unknown();
    }
  })();
  return { ...description, id };
}

const coreByName = new Map(coreLayout.map(([, description]) => [description.name, description]));
const topicByName = new Map(systemRegisters.map(({ name, topic }) => [name, topic]));

/** Whether a name is one of those here: of a core register, `sp`, a vector register or a system register. */
export const isKnownRegister = (name: string): boolean =>
  name === 'sp' || coreByName.has(name) || topicByName.has(name) || isSve(name);

const isSve = (name: string): boolean => /^([zp]\d+|ffr)$/.test(name);

/** What a register of that name is, wherever its value comes from; an unknown one is an `other` system register. */
export function describeRegister(name: string, bits: number): RegisterDescription {
  const core = name === 'sp' ? stackPointer : coreByName.get(name);
  if (core) return { ...core, bits };
  if (isSve(name)) return describe(name, 'float', bits);
  // Identification registers are more than are named here, and all called that.
  return describe(name, 'system', bits, topicByName.get(name) ?? (/^id_/.test(name) ? 'identification' : 'other'));
}

/** Where the value of a catalogue entry comes from. */
export type RegisterSource =
  | { readonly kind: 'register'; readonly id: bigint }
  /** `sp`: the register that `activeStackPointer(pstate)` names. */
  | { readonly kind: 'stackPointer' }
  /** `v<n>` of a vCPU with SVE: the low 128 bits of Z<n>. KVM hides the V registers then (Linux
   *  Documentation/virt/kvm/api.rst, KVM_ARM_VCPU_SVE); a write must keep the upper bits. */
  | { readonly kind: 'lowBits'; readonly id: bigint };

export type CatalogueEntry = RegisterDescription & { readonly source: RegisterSource };

const topicOrder = [
  'exception',
  'translation',
  'timers',
  'debug',
  'identification',
  'performance',
  'pointer authentication',
  'interrupts',
  'firmware',
  'other',
];
const groupOrder: readonly RegisterGroup[] = ['general', 'float', 'system'];
const general = [...Array.from({ length: 31 }, (_, n) => `x${n}`), 'sp', 'pc', 'pstate'];
// Within `float`: v0-v31, fpsr, fpcr, then SVE.
const floatRank = (name: string): number => ['v', 'fpsr', 'fpcr', 'z', 'p', 'ffr'].indexOf(name.replace(/\d.*$/, ''));
const trailingNumber = (name: string): number => Number(/^[a-z]+(\d+)/.exec(name)?.[1] ?? 0);

/** The order of catalogues: general first, system registers by topic. */
export function compareRegisters(a: RegisterDescription, b: RegisterDescription): number {
  const byGroup = groupOrder.indexOf(a.group) - groupOrder.indexOf(b.group);
  if (byGroup !== 0) return byGroup;
  if (a.group === 'general') return general.indexOf(a.name) - general.indexOf(b.name);
  if (a.group === 'float') {
    return floatRank(a.name) - floatRank(b.name) || trailingNumber(a.name) - trailingNumber(b.name);
  }
  return topicOrder.indexOf(a.topic ?? 'other') - topicOrder.indexOf(b.topic ?? 'other');
}

/** The registers of a vCPU whose KVM_GET_REG_LIST gave `ids`, general first, names unique: the ids' own, and `sp` and
 *  (with SVE) `v0`-`v31`, which are computed. System registers stay in the order of `ids` within their topic. */
export function registerCatalogue(ids: readonly bigint[]): readonly CatalogueEntry[] {
  const entries: CatalogueEntry[] = [{ ...stackPointer, source: { kind: 'stackPointer' } }];
  const names = new Set(['sp']);
  for (const id of new Set(ids)) {
    const { id: _, ...description } = describeKvmRegister(id);
    const isSystem = Number((id >> 16n) & 0xfffn) === Kind.system;
    const candidates = [
      description.name,
      ...(isSystem ? [genericName(unpackEncoding(Number(id & 0xffffn)))] : []),
      `kvm_0x${id.toString(16)}`,
    ];
    const name = candidates.find((candidate) => !names.has(candidate)) ?? description.name;
    names.add(name);
    entries.push({ ...description, name, source: { kind: 'register', id } });
  }
  for (let n = 0; n < 32; n++) {
    const vector = entries.find((entry) => entry.name === `z${n}`);
    if (vector?.source.kind !== 'register' || names.has(`v${n}`)) continue;
    entries.push({ ...describe(`v${n}`, 'float', 128), source: { kind: 'lowBits', id: vector.source.id } });
  }
  return entries.sort(compareRegisters);
}

const coreGroup = (group: RegisterGroup): RegisterDescription[] =>
  coreLayout.map(([, description]) => description).filter((description) => description.group === group);

/** x0-x30, sp, pc, pstate. */
export const generalRegisters: readonly RegisterDescription[] = [...coreGroup('general'), stackPointer].sort(
  (a, b) => general.indexOf(a.name) - general.indexOf(b.name),
);
/** v0-v31, fpsr, fpcr. */
export const floatRegisters: readonly RegisterDescription[] = coreGroup('float');
