// The stage 1 EL1&0 translation regime, walked in software: what the vCPU's MMU would make of a virtual address.
//
// Arm ARM (DDI 0487) D8 "The AArch64 Virtual Memory System Architecture", D24.2 TCR_EL1 and TTBR0/1_EL1, and the shared
// pseudocode AArch64.S1Walk. Not covered, because no Linux guest uses it under KVM: 128-bit descriptors (FEAT_D128, told
// as a fault), permission overlays (FEAT_S1POE: they only narrow permissions).

import { Gpa, type Gva } from '../../base/address.ts';
import { MemoryFault, messageOf } from '../../base/errors.ts';
import type { ReadPhysical } from '../pageWalk.ts';
import { type PermissionControl, type Permissions, permissionsOf } from './permissions.ts';

/** The registers that control translation. Optional ones are for features that not every vCPU has. */
export interface TranslationRegisters extends PermissionControl {
  readonly sctlr_el1: bigint;
  readonly tcr_el1: bigint;
  readonly ttbr0_el1: bigint;
  readonly ttbr1_el1: bigint;
  /** PARange bounds the output addresses; without it only TCR_EL1.IPS does. */
  readonly id_aa64mmfr0_el1?: bigint | undefined;
}

/** The names above, for whoever reads the registers; those from the fifth on may be missing. */
export const translationRegisterNames = [
  'sctlr_el1',
  'tcr_el1',
  'ttbr0_el1',
  'ttbr1_el1',
  'id_aa64mmfr0_el1',
  'tcr2_el1',
  'pir_el1',
  'pire0_el1',
] as const satisfies readonly (keyof TranslationRegisters)[];

/** One descriptor that the walk read. */
export interface WalkStep {
  /** -1 to 3. */
  readonly level: number;
  readonly table: Gpa;
  /** Where the descriptor is. */
  readonly address: Gpa;
  readonly descriptor: bigint;
  readonly kind: 'table' | 'block' | 'page' | 'invalid';
  /** The address that the descriptor holds; undefined for an invalid one. */
  readonly output: Gpa | undefined;
}

export interface Mapping extends Permissions {
  readonly kind: 'mapping';
  readonly address: Gpa;
  /** Bytes that the last descriptor maps: a page or a block. The whole address space while the MMU is off. */
  readonly pageSize: number;
  /** Bytes from `address` to the end of that page or block. */
  readonly remaining: number;
  /** Level of the last descriptor; undefined while the MMU is off. */
  readonly level: number | undefined;
  readonly steps: readonly WalkStep[];
}

export type FaultKind =
  | 'translation'
  | 'addressSize'
  /** The access flag is clear and software manages it. The page is there: `mapping` is what the access would find. */
  | 'accessFlag'
  /** A table lies where there is no memory. */
  | 'externalAbort'
  /** Registers that this walk does not understand or that the architecture reserves. */
  | 'unsupported';

export interface TranslationFault {
  readonly kind: 'fault';
  readonly fault: FaultKind;
  /** As the CPU would report it; 0 when the walk could not begin. */
  readonly level: number;
  /** In words: `translation fault, level 2`. */
  readonly message: string;
  /** What is wrong with the address or the registers, where no descriptor says it. */
  readonly why?: string;
  readonly steps: readonly WalkStep[];
  readonly mapping?: Mapping;
  readonly cause?: unknown;
}

export type WalkResult = Mapping | TranslationFault;

const bit = (value: bigint, position: number): boolean => ((value >> BigInt(position)) & 1n) === 1n;
const bits = (value: bigint, high: number, low: number): bigint =>
  (value >> BigInt(low)) & ((1n << BigInt(high - low + 1)) - 1n);

// TG0 (TCR_EL1[15:14]) and TG1 (TCR_EL1[31:30]) encode the granule differently; 12, 14, 16 are log2 of 4, 16, 64 KiB.
const TG0: readonly (number | undefined)[] = [12, 16, 14, undefined];
const TG1: readonly (number | undefined)[] = [undefined, 14, 12, 16];
// TCR_EL1.IPS and ID_AA64MMFR0_EL1.PARange, in bits. 7 is 56 bits, for 128-bit descriptors only.
const physicalSizes: readonly number[] = [32, 36, 40, 42, 44, 48, 52, 52];

/** One half of the address space: its fields of TCR_EL1, decoded. */
export interface Half {
  readonly upper: boolean;
  readonly granule: number;
  /** Input address size in bits: 64 - TnSZ. */
  readonly inputSize: number;
  readonly outputSize: number;
  /** Descriptors of 4 and 16 KiB granules hold 52-bit addresses (FEAT_LPA2, TCR_EL1.DS). */
  readonly lpa2: boolean;
  /** Descriptors of the 64 KiB granule hold 52-bit addresses (FEAT_LPA). */
  readonly lpa: boolean;
  readonly base: bigint;
  readonly hierarchical: boolean;
}

// TCR_EL1, for TTBR0 and TTBR1:
//   5:0   21:16  TnSZ     7   23  EPDn     15:14 31:30  TGn
//   37    38     TBIn     41  42  HPDn     60    61     MTXn
// and for both: 34:32 IPS, 39 HA, 59 DS.
const TCR_DS = 59;

function fault(
  kind: FaultKind,
  level: number,
  steps: readonly WalkStep[],
  extra: { mapping?: Mapping; cause?: unknown; message?: string; why?: string } = {},
): TranslationFault {
  const words: Record<FaultKind, string> = {
    translation: 'translation fault',
    addressSize: 'address size fault',
    accessFlag: 'access flag fault',
    externalAbort: 'external abort on the walk',
    unsupported: 'unsupported translation control',
  };
  const message = extra.message ?? `${words[kind]}, level ${level}`;
  const { mapping, cause, why } = extra;
  return {
    kind: 'fault',
    fault: kind,
    level,
    message,
    steps,
    ...(why === undefined ? {} : { why }),
    ...(mapping ? { mapping } : {}),
    ...(cause === undefined ? {} : { cause }),
  };
}

const unsupported = (message: string): TranslationFault => fault('unsupported', 0, [], { message });

/** The address without its tag: with TBIn the top byte, with MTXn (FEAT_MTE) bits 59:56, become copies of bit 55. */
function untag(regs: TranslationRegisters, address: bigint): bigint {
  const upper = bit(address, 55);
  const tag = bit(regs.tcr_el1, upper ? 38 : 37) ? 0xffn << 56n : bit(regs.tcr_el1, upper ? 61 : 60) ? 0xfn << 56n : 0n;
  return upper ? address | tag : address & ~tag;
}

/** What translates an address; undefined while the MMU is off. */
export function halfOf(regs: TranslationRegisters, address: bigint): Half | TranslationFault | undefined {
  return bit(regs.sctlr_el1, SCTLR_M) ? decodeHalf(regs, bit(address, 55)) : undefined;
}

function decodeHalf(regs: TranslationRegisters, upper: boolean): Half | TranslationFault {
  const tcr = regs.tcr_el1;
  const number = upper ? 1 : 0;
  const granule = upper ? TG1[Number(bits(tcr, 31, 30))] : TG0[Number(bits(tcr, 15, 14))];
  if (granule === undefined) return unsupported(`TCR_EL1.TG${number} is a reserved value`);
  if (regs.tcr2_el1 !== undefined && bit(regs.tcr2_el1, 5)) return unsupported('128-bit descriptors (TCR2_EL1.D128)');
  if (bit(tcr, upper ? 23 : 7)) {
    return fault('translation', 0, [], { why: `TCR_EL1.EPD${number} disables walks through TTBR${number}_EL1` });
  }
  const ds = bit(tcr, TCR_DS);
  const lpa2 = ds && granule !== 16;
  const size = Number(upper ? bits(tcr, 21, 16) : bits(tcr, 5, 0));
  // D8.2 "Input address size": at least 16, or 12 for 52-bit virtual addresses (FEAT_LVA with 64 KiB, FEAT_LPA2 else).
  const least = lpa2 || granule === 16 ? 12 : 16;
  const most = granule === 16 ? 47 : 48;
  if (size < least || size > most) {
    return fault('translation', 0, [], { why: `TCR_EL1.T${number}SZ is ${size}, not from ${least} to ${most}` });
  }
  const range = regs.id_aa64mmfr0_el1;
  const implemented = range === undefined ? 52 : (physicalSizes[Number(range & 0xfn)] ?? 48);
  const outputSize = Math.min(physicalSizes[Number(bits(tcr, 34, 32))] ?? 48, implemented);
  const lpa = granule === 16 && outputSize === 52;
  const base = upper ? regs.ttbr1_el1 : regs.ttbr0_el1;
  const hierarchical = !bit(tcr, upper ? 42 : 41);
  return { upper, granule, inputSize: 64 - size, outputSize, lpa2, lpa, base, hierarchical };
}

/** Address bits 51:`low` that a table, block or page descriptor holds.
 *    TCR_EL1.DS 0, 4 and 16 KiB   47:low
 *    64 KiB with 52-bit addresses 15:12 are 51:48, 47:low
 *    TCR_EL1.DS 1, 4 and 16 KiB   9:8 are 51:50, 49:low */
function outputAddress(half: Half, descriptor: bigint, low: number): Gpa {
  const lowMask = (1n << BigInt(low)) - 1n;
  if (half.lpa2) return Gpa((bits(descriptor, 9, 8) << 50n) | (bits(descriptor, 49, 0) & ~lowMask));
  const address = bits(descriptor, 47, 0) & ~lowMask;
  return Gpa(half.lpa ? (bits(descriptor, 15, 12) << 48n) | address : address);
}

/** Address of the first table. TTBRn_EL1[47:1], aligned to the table's size; with 52-bit addresses TTBRn_EL1[5:2] are
 *  bits 51:48 and the table is aligned to 64 bytes at least. */
function tableBase(half: Half, tableSizeLog2: number): Gpa {
  const large = half.lpa || half.lpa2;
  const alignment = BigInt(large ? Math.max(tableSizeLog2, 6) : tableSizeLog2);
  const address = (bits(half.base, 47, 0) >> alignment) << alignment;
  return Gpa(large ? (bits(half.base, 5, 2) << 48n) | address : address);
}

/** D8.3, block descriptors: 4 KiB at levels 1 and 2, 16 and 64 KiB at level 2; one level higher with 52-bit addresses. */
function blockAllowed(half: Half, level: number): boolean {
  if (half.granule === 12) return level === 1 || level === 2 || (level === 0 && half.lpa2);
  return level === 2 || (level === 1 && (half.granule === 14 ? half.lpa2 : half.lpa));
}

const littleOrBig = (bytes: Uint8Array, bigEndian: boolean): bigint =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getBigUint64(0, !bigEndian);

// SCTLR_EL1: 0 M, the MMU is on; 25 EE, tables are big-endian.
const SCTLR_M = 0;
const SCTLR_EE = 25;
const TCR_HA = 39;

/** Translates `gva`. Never throws for what the guest's registers and tables say; that is the result. Errors of
 *  `readPhysical` other than MemoryFault pass through. */
export async function walk(regs: TranslationRegisters, readPhysical: ReadPhysical, gva: Gva): Promise<WalkResult> {
  const va = untag(regs, gva);
  const half = halfOf(regs, va);
  if (half === undefined) return identity(regs, va);
  if ('kind' in half) return half;

  // All bits above the input size must be as bit 55 is.
  const { granule, inputSize, upper } = half;
  const above = va >> BigInt(inputSize);
  if (above !== (upper ? (1n << BigInt(64 - inputSize)) - 1n : 0n)) {
    return fault('translation', 0, [], { why: `the bits from ${inputSize} up are not all as bit 55` });
  }

  const stride = granule - 3;
  const levels = Math.ceil((inputSize - granule) / stride);
  const firstBits = inputSize - granule - stride * (levels - 1);
  let table = tableBase(half, firstBits + 3);
  if (table >> BigInt(half.outputSize)) {
    return fault('addressSize', 0, [], { why: `the first table is beyond ${half.outputSize} bits` });
  }

  const steps: WalkStep[] = [];
  const tableAttributes: bigint[] = [];
  for (let level = 4 - levels; ; level++) {
    const low = granule + stride * (3 - level);
    const indexBits = steps.length === 0 ? firstBits : stride;
    const address = Gpa(table + bits(va, low + indexBits - 1, low) * 8n);
    let descriptor: bigint;
    try {
      descriptor = littleOrBig(await readPhysical(address, 8), bit(regs.sctlr_el1, SCTLR_EE));
    } catch (thrown) {
      if (!(thrown instanceof MemoryFault)) throw thrown;
      const message = `external abort on the walk, level ${level}: ${messageOf(thrown)}`;
      return fault('externalAbort', level, steps, { cause: thrown, message });
    }
    const kind = descriptorKind(half, descriptor, level);
    // A table holds an address aligned to the granule, whatever the level.
    const output = kind === 'invalid' ? undefined : outputAddress(half, descriptor, kind === 'table' ? granule : low);
    steps.push({ level, table, address, descriptor, kind, output });
    if (output === undefined) return fault('translation', level, steps);
    if (output >> BigInt(half.outputSize)) return fault('addressSize', level, steps);
    if (kind === 'table') {
      if (half.hierarchical) tableAttributes.push(descriptor);
      table = output;
      continue;
    }
    const pageSize = 1n << BigInt(low);
    const offset = va & (pageSize - 1n);
    const mapping: Mapping = {
      kind: 'mapping',
      address: Gpa(output | offset),
      pageSize: Number(pageSize),
      remaining: Number(pageSize - offset),
      level,
      steps,
      ...permissionsOf(regs, descriptor, tableAttributes),
    };
    // AF, bit 10. With TCR_EL1.HA the CPU sets it.
    const accessed = bit(descriptor, 10) || bit(regs.tcr_el1, TCR_HA);
    return accessed ? mapping : fault('accessFlag', level, steps, { mapping });
  }
}

// Descriptor bits [1:0] (D8.3, VMSAv8-64 descriptor formats):
//   0b00, 0b10  invalid
//   0b01        block where the level allows it, reserved at level 3
//   0b11        table; page at level 3
function descriptorKind(half: Half, descriptor: bigint, level: number): WalkStep['kind'] {
  switch (descriptor & 3n) {
    case 1n:
      return blockAllowed(half, level) ? 'block' : 'invalid';
    case 3n:
      return level === 3 ? 'page' : 'table';
    default:
      return 'invalid';
  }
}

/** MMU off: the address is the output, less its tag, if it fits the physical address size (D8.2, flat mapping). */
function identity(regs: TranslationRegisters, va: bigint): WalkResult {
  const range = regs.id_aa64mmfr0_el1;
  const size = range === undefined ? 52 : (physicalSizes[Number(range & 0xfn)] ?? 48);
  if (va >> BigInt(size)) {
    return fault('addressSize', 0, [], { why: `the MMU is off and physical addresses have ${size} bits` });
  }
  const pageSize = 1n << BigInt(size);
  return {
    kind: 'mapping',
    address: Gpa(va),
    pageSize: Number(pageSize),
    remaining: Number(pageSize - va),
    level: undefined,
    steps: [],
    writable: true,
    user: true,
    executable: true,
    userExecutable: true,
  };
}

/** The mapping of `gva`, for a debugger's own access: a page whose access flag is clear is there and is taken. Throws
 *  MemoryFault with `gva` for every other fault. */
export async function translate(regs: TranslationRegisters, readPhysical: ReadPhysical, gva: Gva): Promise<Mapping> {
  const result = await walk(regs, readPhysical, gva);
  if (result.kind === 'mapping') return result;
  if (result.mapping) return result.mapping;
  throw new MemoryFault('virtual', gva, result.message, result.cause === undefined ? {} : { cause: result.cause });
}
