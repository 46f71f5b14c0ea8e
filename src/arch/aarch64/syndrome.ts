// ESR_ELx: why an exception was taken, in words.
//
// Arm ARM (DDI 0487) D24.2, ESR_EL1 and ESR_EL2; the same classes in Linux arch/arm64/include/asm/esr.h.
//   55:32 ISS2   31:26 EC, exception class   25 IL, 32-bit instruction   24:0 ISS, depends on the class

import { hex } from '../../base/address.ts';
import { systemRegisterAt } from './systemRegisters.ts';

/** Exception classes that other code asks for. */
export const ExceptionClass = {
  breakpointLower: 0x30,
  breakpointSame: 0x31,
  stepLower: 0x32,
  stepSame: 0x33,
  watchpointLower: 0x34,
  watchpointSame: 0x35,
  /** BKPT in AArch32. */
  bkpt32: 0x38,
  /** BRK in AArch64. */
  brk64: 0x3c,
} as const;

/** IL, bit 25: the instruction that trapped is 32 bits long. */
export const ESR_IL = 1 << 25;

export const exceptionClassOf = (esr: bigint | number): number => Number((BigInt(esr) >> 26n) & 0x3fn);

const classNames: Readonly<Record<number, string>> = {
  0: 'unknown reason',
  1: 'WFI or WFE',
  3: 'MCR or MRC, coprocessor 15 (AArch32)',
  4: 'MCRR or MRRC, coprocessor 15 (AArch32)',
  5: 'MCR or MRC, coprocessor 14 (AArch32)',
  6: 'LDC or STC (AArch32)',
  7: 'access to SVE, SIMD or floating point',
  8: 'VMRS (AArch32)',
  9: 'pointer authentication instruction',
  10: 'LD64B or ST64B',
  12: 'MRRC, coprocessor 14 (AArch32)',
  13: 'branch target exception',
  14: 'illegal execution state',
  17: 'SVC (AArch32)',
  18: 'HVC (AArch32)',
  19: 'SMC (AArch32)',
  20: 'MSRR, MRRS or 128-bit system instruction',
  21: 'SVC',
  22: 'HVC',
  23: 'SMC',
  24: 'MSR, MRS or system instruction',
  25: 'access to SVE',
  26: 'ERET',
  27: 'TSTART',
  28: 'pointer authentication failure',
  29: 'access to SME',
  30: 'granule protection check',
  31: 'implementation defined',
  32: 'instruction abort from a lower EL',
  33: 'instruction abort from the current EL',
  34: 'misaligned PC',
  36: 'data abort from a lower EL',
  37: 'data abort from the current EL',
  38: 'misaligned SP',
  39: 'memory copy or set',
  40: 'floating-point exception (AArch32)',
  44: 'floating-point exception',
  45: 'guarded control stack',
  47: 'SError',
  48: 'breakpoint from a lower EL',
  49: 'breakpoint from the current EL',
  50: 'software step from a lower EL',
  51: 'software step from the current EL',
  52: 'watchpoint from a lower EL',
  53: 'watchpoint from the current EL',
  56: 'BKPT (AArch32)',
  58: 'vector catch (AArch32)',
  60: 'BRK',
  61: 'performance monitor',
};

// Fault status codes, ISS[5:0] of aborts (DFSC, IFSC). Those that carry a translation level:
//   0b0000LL address size   0b0001LL translation   0b0010LL access flag   0b0011LL permission
//   0b0101LL external, walk   0b0111LL parity or ECC, walk   0b1001LL granule protection, walk
// and level -1 of the first, second, fifth, sixth and seventh: 0x29, 0x2b, 0x13, 0x1b, 0x23.
const leveledFaults: Readonly<Record<number, string>> = {
  0: 'address size fault',
  1: 'translation fault',
  2: 'access flag fault',
  3: 'permission fault',
  5: 'external abort on the walk',
  7: 'parity or ECC error on the walk',
  9: 'granule protection fault on the walk',
};
const otherFaults: Readonly<Record<number, string>> = {
  16: 'external abort',
  17: 'tag check fault',
  19: 'external abort on the walk, level -1',
  24: 'parity or ECC error',
  27: 'parity or ECC error on the walk, level -1',
  33: 'alignment fault',
  34: 'granule protection fault on the walk, level -2',
  35: 'granule protection fault on the walk, level -1',
  40: 'granule protection fault',
  41: 'address size fault, level -1',
  42: 'translation fault, level -2',
  43: 'translation fault, level -1',
  48: 'TLB conflict',
  49: 'unsupported atomic hardware update',
  52: 'lockdown',
  53: 'unsupported exclusive or atomic',
};

/** A fault status code in words: `translation fault, level 3`. */
export function describeFaultStatus(code: number): string {
  const status = code & 0x3f;
  const leveled = leveledFaults[status >> 2];
  if (leveled !== undefined) return `${leveled}, level ${status & 3}`;
  return otherFaults[status] ?? `fault status ${hex(status)}`;
}

// ISS of data aborts: 6 WnR, 7 S1PTW, 8 CM, 9 EA, 10 FnV; DFSC 5:0. Instruction aborts have S1PTW, EA, FnV, IFSC.
function describeAbort(iss: number, isData: boolean): string {
  const access = isData ? ((iss >> 8) & 1 ? ', cache maintenance' : (iss >> 6) & 1 ? ', write' : ', read') : '';
  const walk = (iss >> 7) & 1 ? ', on a stage 1 walk' : '';
  return `${describeFaultStatus(iss)}${access}${walk}`;
}

// ISS of EC 0x18: 21:20 Op0, 19:17 Op2, 16:14 Op1, 13:10 CRn, 9:5 Rt, 4:1 CRm, 0 direction (1: read).
function describeSystemAccess(iss: number): string {
  const encoding = [(iss >> 20) & 3, (iss >> 14) & 7, (iss >> 10) & 15, (iss >> 1) & 15, (iss >> 17) & 7] as const;
  const { name } = systemRegisterAt(encoding);
  const rt = (iss >> 5) & 31;
  const register = rt === 31 ? 'xzr' : `x${rt}`;
  return iss & 1 ? `mrs ${register}, ${name}` : `msr ${name}, ${register}`;
}

/** ESR_ELx in words: `BRK #0x800`, `data abort from the current EL: translation fault, level 3, write`. */
export function describeSyndrome(esr: bigint | number): string {
  const value = BigInt(esr);
  const ec = exceptionClassOf(value);
  const iss = Number(value & 0x1ff_ffffn);
  const name = classNames[ec] ?? `exception class ${hex(ec)}`;
  switch (ec) {
    case 0x11:
    case 0x12:
    case 0x15:
    case 0x16:
    case 0x17:
    case ExceptionClass.bkpt32:
    case ExceptionClass.brk64:
      return `${name} #${hex(iss & 0xffff)}`;
    case 0x18:
      return `${name}: ${describeSystemAccess(iss)}`;
    case 0x20:
    case 0x21:
      return `${name}: ${describeAbort(iss, false)}`;
    case 0x24:
    case 0x25:
      return `${name}: ${describeAbort(iss, true)}`;
    case ExceptionClass.watchpointLower:
    case ExceptionClass.watchpointSame:
      return `${name}: ${(iss >> 6) & 1 ? 'write' : 'read'}`;
    default:
      return name;
  }
}
