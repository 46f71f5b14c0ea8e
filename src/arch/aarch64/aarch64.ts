// arm64 as the layers above the target see it.

import { Gva } from '../../base/address.ts';
import type { Architecture, RegisterValues } from '../architecture.ts';
import { BRK, decode } from './instructions.ts';
import { exceptionLevel, isAArch32, Pstate } from './pstate.ts';
import { floatRegisters, generalRegisters } from './registers.ts';

// DWARF for the Arm 64-bit Architecture (AADWARF64) 4.1, "DWARF register names":
//   0-30 X0-X30   31 SP   32 PC   33 ELR_mode   34 RA_SIGN_STATE   35 TPIDRRO_EL0   36 TPIDR_EL0   37 TPIDR_EL1
//   46 VG   47 FFR   48-63 P0-P15   64-95 V0-V31   96-127 Z0-Z31
// RA_SIGN_STATE is a pseudo-register of call frame information, and VG none that KVM offers: both have no name here.
function dwarfRegister(number: number): string | undefined {
  if (!Number.isInteger(number) || number < 0) return undefined;
  if (number <= 30) return `x${number}`;
  const single = singles.get(number);
  if (single !== undefined) return single;
  if (number >= 48 && number <= 63) return `p${number - 48}`;
  if (number >= 64 && number <= 95) return `v${number - 64}`;
  if (number >= 96 && number <= 127) return `z${number - 96}`;
  return undefined;
}
const singles: ReadonlyMap<number, string> = new Map([
  [31, 'sp'],
  [32, 'pc'],
  [33, 'elr_el1'],
  [35, 'tpidrro_el0'],
  [36, 'tpidr_el0'],
  [37, 'tpidr_el1'],
  [47, 'ffr'],
]);

// TCR_EL1 (Arm ARM, D24.2): 5:0 T0SZ, 21:16 T1SZ, 37 TBI0, 38 TBI1, 51 TBID0, 52 TBID1.
const DEFAULT_ADDRESS_BITS = 48;
const TAG = 0xffn << 56n;

/** An address without its pointer authentication code. The code takes the bits from 64 - TnSZ up, less bit 55, which
 *  keeps saying which half the address is in, and less the top byte where that is an ignored tag (Arm ARM, D8.8; pseudo-
 *  code AArch64.Strip). For a code address TBIn ignores the top byte unless TBIDn says data only. Either way those bits
 *  are copies of bit 55 in the address that is meant, so an ignored tag of a code address goes too: breakpoints, symbols
 *  and frames are looked up without. */
function codeAddress(value: bigint, registers: RegisterValues): Gva {
  const upper = ((value >> 55n) & 1n) === 1n;
  const tcr = registers.get('tcr_el1');
  const bits = tcr === undefined ? DEFAULT_ADDRESS_BITS : addressBits(tcr, upper);
  const above = (((1n << 64n) - 1n) >> BigInt(bits)) << BigInt(bits);
  return Gva(upper ? value | above | TAG : value & ~(above | TAG));
}

/** 64 - TnSZ. A vCPU before its MMU is set up has TnSZ 0, which as an address size means nothing. */
function addressBits(tcr: bigint, upper: boolean): number {
  const size = Number((tcr >> (upper ? 16n : 0n)) & 0x3fn);
  return size >= 12 && size <= 48 ? 64 - size : DEFAULT_ADDRESS_BITS;
}

/** `EL0`, `EL1`, `EL1t` when EL1 runs on SP_EL0 (an exception entry or a very early boot), `EL0 (AArch32)`. */
function describeContext(registers: RegisterValues): string {
  const pstate = registers.get('pstate');
  if (pstate === undefined) return '';
  if (isAArch32(pstate)) return 'EL0 (AArch32)';
  const level = exceptionLevel(pstate);
  return level > 0 && (pstate & Pstate.SP) === 0n ? `EL${level}t` : `EL${level}`;
}

const breakpointInstruction = new Uint8Array(4);
new DataView(breakpointInstruction.buffer).setUint32(0, BRK, true);

export const aarch64: Architecture = {
  name: 'aarch64',
  generalRegisters,
  floatRegisters,
  programCounter: 'pc',
  stackPointer: 'sp',
  unwind: { linkRegister: 'x30', framePointer: 'x29' },
  breakpointInstruction,
  instructionAlignment: 4,
  disassembler: { arch: 'arm64', mode: 'arm' },
  dwarfRegister,
  decode,
  codeAddress,
  describeContext,
};
