// arm64 as the layers above the target see it.

import { Gva } from '../../base/address.ts';
import type { Architecture, RegisterValues, Told } from '../architecture.ts';
import { BRK, decode } from './instructions.ts';
import { exceptionLevel, isAArch32, Pstate } from './pstate.ts';
import { floatRegisters, generalRegisters } from './registers.ts';
import { exceptionHandler } from './step.ts';
import { pageWalk, walkRegisters } from './walkView.ts';

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

// TCR_EL1 (Arm ARM, D24.2): 5:0 T0SZ, 21:16 T1SZ. Without it the address is taken for one of 48 bits, Linux's usual.
const DEFAULT_ADDRESS_BITS = 48;

/** An address without its pointer authentication code: the bits from 64 - TnSZ up become copies of bit 55, which says
 *  which half the address is in (Arm ARM, D8.8; pseudocode AArch64.Strip). That takes a tag in the top byte away too,
 *  also where TCR_EL1.TBIn kept it out of the code: breakpoints, symbols and frames are looked up without. */
function codeAddress(value: bigint, registers: RegisterValues): Gva {
  const upper = ((value >> 55n) & 1n) === 1n;
  const tcr = registers.get('tcr_el1');
  const bits = BigInt(tcr === undefined ? DEFAULT_ADDRESS_BITS : addressBits(tcr, upper));
  const address = BigInt.asUintN(Number(bits), value);
  return Gva(upper ? address | (-1n << bits) : address);
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

const exceptionOrigin: Told<Gva> = {
  registers: ['pc', 'vbar_el1', 'elr_el1', 'spsr_el1'],
  of: (registers) => {
    const [pc = 0n, vbar = 0n, elr = 0n, spsr = 0n] = exceptionOrigin.registers.map((name) => registers.get(name));
    if (isAArch32(spsr) || exceptionLevel(spsr) !== 1) return undefined;
    return pc === exceptionHandler(vbar, spsr) ? Gva(elr) : undefined;
  },
};

// TTBR0_EL1 (Arm ARM, D24.2): 63:48 ASID, which changes while a program runs, 47:1 BADDR, 0 CnP.
const translationTable = 0xffff_ffff_fffen;

const addressSpace: Told<bigint> = {
  registers: ['pstate', 'ttbr0_el1'],
  of: (registers) => {
    const [pstate = 0n, ttbr0 = 0n] = addressSpace.registers.map((name) => registers.get(name));
    return exceptionLevel(pstate) === 0 ? ttbr0 & translationTable : undefined;
  },
};

const breakpointInstruction = new Uint8Array(4);
new DataView(breakpointInstruction.buffer).setUint32(0, BRK, true);

export const aarch64: Architecture = {
  name: 'aarch64',
  generalRegisters,
  floatRegisters,
  programCounter: 'pc',
  stackPointer: 'sp',
  unwind: {
    linkRegister: 'x30',
    framePointer: 'x29',
    // AAPCS64 6.1.1: r19-r28 and the frame pointer.
    calleeSaved: Array.from({ length: 11 }, (_, n) => `x${19 + n}`),
    addressing: ['tcr_el1'],
  },
  breakpointInstruction,
  instructionAlignment: 4,
  disassembler: { arch: 'arm64', mode: 'arm' },
  dwarfRegister,
  decode,
  exceptionOrigin,
  addressSpace,
  pageWalk: { registers: walkRegisters, of: pageWalk },
  codeAddress,
  describeContext,
};
