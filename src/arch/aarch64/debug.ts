// Self-hosted debug: breakpoint and watchpoint register encodings, and what a KVM debug exit says.
//
// Arm ARM (DDI 0487) D2 "AArch64 Self-hosted Debug", D24.3 DBGBCR<n>_EL1, DBGBVR<n>_EL1, DBGWCR<n>_EL1, DBGWVR<n>_EL1.

import { Gva, hex } from '../../base/address.ts';
import { TargetError } from '../../base/errors.ts';
import { ExceptionClass, exceptionClassOf } from './syndrome.ts';

/** One pair of DBGBVR/DBGBCR or DBGWVR/DBGWCR. */
export interface DebugRegisterPair {
  readonly value: bigint;
  readonly control: bigint;
}

/** `read`: loads; `write`: stores. */
export type WatchKind = 'read' | 'write' | 'readWrite';

// Bits 63:57 of DBGBVR and DBGWVR (RESS) must be copies of the top address bit, and the comparison ignores a tag in the
// top byte: so the top byte becomes copies of bit 55, the bit that selects the half of the address space.
const canonical = (address: bigint): bigint => BigInt.asUintN(64, BigInt.asIntN(56, address));

// DBGBCR<n>_EL1:
//   0      E     1: enabled
//   2:1    PMC   0b11 with HMC 0 and SSC 0b00: EL0 and EL1
//   8:5    BAS   0b1111: an A64 instruction
//   13     HMC   0
//   15:14  SSC   0b00
//   23:20  BT    0b0000: unlinked address match
const BREAKPOINT_CONTROL = 0x1e7n;

/** A hardware breakpoint on the A64 instruction at `address`, for EL0 and EL1. TargetError if it is not aligned. */
export function encodeBreakpoint(address: bigint): DebugRegisterPair {
  if (address & 3n) throw new TargetError(`No instruction at ${hex(address)}: instructions are aligned to 4 bytes.`);
  return { value: canonical(address), control: BREAKPOINT_CONTROL };
}

// DBGWCR<n>_EL1:
//   0      E     1: enabled
//   2:1    PAC   0b11 with HMC 0 and SSC 0b00: EL0 and EL1
//   4:3    LSC   0b01 load, 0b10 store, 0b11 both
//   12:5   BAS   which bytes of the doubleword at DBGWVR; a contiguous run of ones. All ones with MASK
//   13     HMC   0
//   15:14  SSC   0b00
//   20     WT    0: unlinked
//   28:24  MASK  0: no mask; 3 to 31: this many low address bits are ignored, and are zero in DBGWVR
const WATCH_ENABLE = 1n;
const WATCH_PAC = 0b11n << 1n;
const LSC: Readonly<Record<WatchKind, bigint>> = { read: 0b01n << 3n, write: 0b10n << 3n, readWrite: 0b11n << 3n };
const BAS_SHIFT = 5n;
const MASK_SHIFT = 24n;
const MASK_MIN = 3;
const MASK_MAX = 31;

/** Watchpoints that together watch exactly the `length` bytes at `address`, for EL0 and EL1: the bytes up to a
 *  doubleword boundary, naturally aligned powers of two, the bytes after the last boundary. TargetError when the range
 *  is empty, leaves the address space, or needs more than `available` watchpoints (ID_AA64DFR0_EL1.WRPs allows 16). */
export function encodeWatchpoints(
  address: bigint,
  length: number,
  access: WatchKind,
  available = 16,
): readonly DebugRegisterPair[] {
  if (!Number.isSafeInteger(length) || length <= 0) {
    throw new TargetError(`Cannot watch ${length} bytes: the length must be a positive whole number.`);
  }
  const start = canonical(address);
  const end = start + BigInt(length);
  if (end > 1n << 64n) throw new TargetError(`Cannot watch ${length} bytes at ${hex(start)}: past the last address.`);
  const common = WATCH_ENABLE | WATCH_PAC | LSC[access];
  const pairs: DebugRegisterPair[] = [];
  for (let at = start; at < end; ) {
    if (pairs.length === available) {
      const range = `${length} bytes at ${hex(start)}`;
      throw new TargetError(
        `Cannot watch ${range}: this needs more than the ${available} hardware watchpoints available. Watch fewer bytes, or an aligned range.`,
      );
    }
    const left = end - at;
    const power = largestAlignedPower(at, left);
    if (power > MASK_MIN) {
      pairs.push({ value: at, control: common | (0xffn << BAS_SHIFT) | (BigInt(power) << MASK_SHIFT) });
      at += 1n << BigInt(power);
    } else {
      const offset = at & 7n;
      const count = left < 8n - offset ? left : 8n - offset;
      const bytes = ((1n << count) - 1n) << offset;
      pairs.push({ value: at & ~7n, control: common | (bytes << BAS_SHIFT) });
      at += count;
    }
  }
  return pairs;
}

/** The bytes that one watchpoint watches. */
export function watchedBytes({ value, control }: DebugRegisterPair): {
  readonly address: bigint;
  readonly length: number;
} {
  const mask = Number((control >> MASK_SHIFT) & 0x1fn);
  if (mask > 0) return { address: value, length: 2 ** mask };
  const selected = Number((control >> BAS_SHIFT) & 0xffn).toString(2);
  const offset = selected.length - 1 - selected.lastIndexOf('1');
  return { address: value + BigInt(offset), length: selected.length - offset };
}

// ID_AA64DFR0_EL1 (Arm ARM, D24.2): 15:12 BRPs and 23:20 WRPs, the numbers of breakpoints and watchpoints less one.
export const debugRegisterCounts = (
  idAa64dfr0: bigint,
): { readonly breakpoints: number; readonly watchpoints: number } => ({
  breakpoints: Number((idAa64dfr0 >> 12n) & 0xfn) + 1,
  watchpoints: Number((idAa64dfr0 >> 20n) & 0xfn) + 1,
});

/** The largest n up to MASK_MAX for which `address` is a multiple of 2^n and 2^n is at most `length`. */
function largestAlignedPower(address: bigint, length: bigint): number {
  let power = 0;
  while (power < MASK_MAX && (address & ((2n << BigInt(power)) - 1n)) === 0n && 2n << BigInt(power) <= length) power++;
  return power;
}

/** Whether the bytes at `far` and those of a watched range are the same, and if not, how far apart. */
function distance(far: bigint, address: bigint, length: number): bigint {
  const first = canonical(address);
  const last = first + BigInt(length) - 1n;
  return far < first ? first - far : far > last ? far - last : 0n;
}

/** Which watched ranges a watchpoint exception is for: those nearest to FAR. FAR may hold any address from the lowest
 *  one that the access touched to the highest watched one, so it can lie below the range, by as much as a DC ZVA block
 *  (Arm ARM, D2.8 "Determining the memory location that caused a Watchpoint exception"; Linux
 *  arch/arm64/kernel/hw_breakpoint.c, watchpoint_handler). More than one when ranges overlap. */
export function nearestWatchpoints<Range extends { readonly address: bigint; readonly length: number }>(
  far: bigint,
  watched: readonly Range[],
): readonly Range[] {
  const accessed = canonical(far);
  const distances = watched.map(({ address, length }) => distance(accessed, address, length));
  const least = distances.reduce<bigint | undefined>(
    (best, d) => (best === undefined || d < best ? d : best),
    undefined,
  );
  return watched.filter((_, index) => distances[index] === least);
}

export type DebugExit =
  /** BRK of any Exception level, or BKPT of AArch32 code. The pc is at it. */
  | { readonly kind: 'softwareBreakpoint'; readonly immediate: number; readonly aarch32: boolean }
  /** `exclusive`: the instruction was a load-exclusive; false too when the CPU does not say (ISV 0), as after a step
   *  that took an exception. */
  | { readonly kind: 'step'; readonly exclusive: boolean }
  | { readonly kind: 'hardwareBreakpoint' }
  /** `far`: see `nearestWatchpoints`. `number`: the watchpoint's number, where the CPU reports it. */
  | { readonly kind: 'watchpoint'; readonly far: Gva; readonly write: boolean; readonly number: number | undefined }
  | { readonly kind: 'unknown'; readonly exceptionClass: number };

// ISS of the debug exceptions (Arm ARM, D24.2 ESR_EL2):
//   BRK, BKPT      15:0 immediate
//   software step  24 ISV, 6 EX (valid with ISV), 5:0 0b100010
//   watchpoint     23:18 WPT, 17 WPTV, 6 WnR, 5:0 0b100010
/** Decodes `kvm_run.debug.arch`. `far` counts for watchpoints only; it is stale otherwise. */
export function decodeDebugExit(hsr: number, far: bigint): DebugExit {
  const exceptionClass = exceptionClassOf(hsr);
  switch (exceptionClass) {
    case ExceptionClass.brk64:
      return { kind: 'softwareBreakpoint', immediate: hsr & 0xffff, aarch32: false };
    case ExceptionClass.bkpt32:
      return { kind: 'softwareBreakpoint', immediate: hsr & 0xffff, aarch32: true };
    case ExceptionClass.stepLower:
    case ExceptionClass.stepSame:
      return { kind: 'step', exclusive: ((hsr >> 24) & 1) === 1 && ((hsr >> 6) & 1) === 1 };
    case ExceptionClass.breakpointLower:
    case ExceptionClass.breakpointSame:
      return { kind: 'hardwareBreakpoint' };
    case ExceptionClass.watchpointLower:
    case ExceptionClass.watchpointSame: {
      const number = (hsr >> 17) & 1 ? (hsr >> 18) & 0x3f : undefined;
      return { kind: 'watchpoint', far: Gva(canonical(far)), write: ((hsr >> 6) & 1) === 1, number };
    }
    default:
      return { kind: 'unknown', exceptionClass };
  }
}
