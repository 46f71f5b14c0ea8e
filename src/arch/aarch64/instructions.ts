// The few A64 instructions that a debugger must recognise.
//
// Arm ARM (DDI 0487) C4.1 "A64 instruction set encoding", Branches, Exception Generating and System instructions.

import type { Instruction } from '../architecture.ts';

/** `mask` and `value` of a fixed encoding. */
export type Pattern = readonly [mask: number, value: number];

export const matches = (word: number, [mask, value]: Pattern): boolean => (word & mask) >>> 0 === value;

// Unconditional branch (register): 31:25 1101011, 24:21 opc, 20:16 11111, 15:10 op3, 9:5 Rn, 4:0 op4.
//   opc   op3 000000            op3 00001M (pointer authentication)
//   0000  BR                    BRAAZ, BRABZ
//   0001  BLR                   BLRAAZ, BLRABZ
//   0010  RET                   RETAA, RETAB
//   0100  ERET                  ERETAA, ERETAB
//   0101  DRPS
//   1000                        BRAA, BRAB
//   1001                        BLRAA, BLRAB
const branchRegister = (opc: number): Pattern => [0xffff_0000, (0xd61f_0000 | (opc << 21)) >>> 0];

interface Encoding {
  readonly pattern: Pattern;
  readonly kind: Instruction['kind'];
  /** Where the offset is, counted in instructions: its width and its lowest bit. */
  readonly offset?: { readonly bits: number; readonly low: number };
}

const encodings: readonly Encoding[] = [
  { pattern: [0xfc00_0000, 0x9400_0000], kind: 'call', offset: { bits: 26, low: 0 } }, // BL
  { pattern: branchRegister(0b0001), kind: 'call' },
  { pattern: branchRegister(0b1001), kind: 'call' },
  { pattern: branchRegister(0b0010), kind: 'return' },
  { pattern: branchRegister(0b0100), kind: 'return' },
  { pattern: [0xffc0_001f, 0x5500_001f], kind: 'return' }, // RETAASPPC, RETABSPPC (FEAT_PAuth_LR): 21 M, 20:5 imm16
  { pattern: [0xfc00_0000, 0x1400_0000], kind: 'jump', offset: { bits: 26, low: 0 } }, // B
  { pattern: branchRegister(0b0000), kind: 'jump' },
  { pattern: branchRegister(0b1000), kind: 'jump' },
  { pattern: [0xff00_0000, 0x5400_0000], kind: 'branch', offset: { bits: 19, low: 5 } }, // B.cond, BC.cond
  { pattern: [0x7e00_0000, 0x3400_0000], kind: 'branch', offset: { bits: 19, low: 5 } }, // CBZ, CBNZ
  { pattern: [0x7e00_0000, 0x3600_0000], kind: 'branch', offset: { bits: 14, low: 5 } }, // TBZ, TBNZ
  { pattern: [0x7e00_0000, 0x7400_0000], kind: 'branch', offset: { bits: 9, low: 5 } }, // CB<cc>, CBB<cc>, CBH<cc>
];

/** The little-endian instruction word at the start of `bytes`. Instructions are little-endian on every arm64. */
export const instructionWord = (bytes: Uint8Array): number =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(0, true);

export function decodeWord(word: number): Instruction {
  const { kind = 'other', offset } = encodings.find(({ pattern }) => matches(word, pattern)) ?? {};
  if (!offset) return { length: 4, kind };
  return { length: 4, kind, displacement: 4n * BigInt.asIntN(offset.bits, BigInt(word >>> offset.low)) };
}

export const decode = (bytes: Uint8Array): Instruction => decodeWord(instructionWord(bytes));

/** BRK #0, what the debugger plants. */
export const BRK = 0xd420_0000;

/** The immediate of a BRK (31:21 11010100001, 20:5 imm16, 4:0 00000), or undefined for any other instruction. */
export const brkImmediate = (word: number): number | undefined =>
  matches(word, [0xffe0_001f, BRK]) ? (word >>> 5) & 0xffff : undefined;

/** What an instruction does to the interrupt masks PSTATE.D, A, I and F. Bits of `mask` are PSTATE's. */
export type MaskInstruction =
  | { readonly kind: 'setMasks'; readonly mask: bigint }
  | { readonly kind: 'clearMasks'; readonly mask: bigint }
  | { readonly kind: 'writeMasks' }
  /** `register`: 0 to 31, 31 is XZR. */
  | { readonly kind: 'readMasks'; readonly register: number }
  | { readonly kind: 'exceptionReturn' };

// MSR (immediate): 31:19 1101010100000, 18:16 op1, 15:12 0100, 11:8 CRm = imm4, 7:5 op2, 4:0 11111.
//   DAIFSet op1 011 op2 110, DAIFClr op1 011 op2 111; imm4 is D A I F from bit 3 down, PSTATE bits 9 to 6.
// MSR and MRS (register) with DAIF = S3_3_C4_C2_1, Rt in 4:0.
const DAIFSET: Pattern = [0xffff_f0ff, 0xd503_40df];
const DAIFCLR: Pattern = [0xffff_f0ff, 0xd503_40ff];
const MSR_DAIF: Pattern = [0xffff_ffe0, 0xd51b_4220];
const MRS_DAIF: Pattern = [0xffff_ffe0, 0xd53b_4220];

const immediateMask = (word: number): bigint => BigInt((word >>> 8) & 0xf) << 6n;

export function maskInstruction(word: number): MaskInstruction | undefined {
  if (matches(word, DAIFSET)) return { kind: 'setMasks', mask: immediateMask(word) };
  if (matches(word, DAIFCLR)) return { kind: 'clearMasks', mask: immediateMask(word) };
  if (matches(word, MSR_DAIF)) return { kind: 'writeMasks' };
  if (matches(word, MRS_DAIF)) return { kind: 'readMasks', register: word & 0x1f };
  if (matches(word, branchRegister(0b0100))) return { kind: 'exceptionReturn' };
  return undefined;
}

// Hints are 31:12 11010101000000110010, 11:5 the number, 4:0 11111 (C6.2 HINT): WFE is 2, WFI is 3. WFET and WFIT are 31:6
// 11010101000000110001000000, 5 op2, 0 or 1, 4:0 Rt.
const WFE: Pattern = [0xffff_ffff, 0xd503_205f];
const WFET: Pattern = [0xffff_ffe0, 0xd503_1000];
const WFI: Pattern = [0xffff_ffff, 0xd503_207f];
const WFIT: Pattern = [0xffff_ffe0, 0xd503_1020];

const isWaitForEvent = (word: number): boolean => matches(word, WFE) || matches(word, WFET);
export const isWaitForInterrupt = (word: number): boolean => matches(word, WFI) || matches(word, WFIT);

/** Whether an instruction waits, or deals with the interrupt masks: neither belongs into code that is run as one step. */
export const waitsOrMasks = (word: number): boolean =>
  isWaitForEvent(word) || isWaitForInterrupt(word) || maskInstruction(word) !== undefined;

/** The number of the register that BR or BLR goes to (Rn, 9:5); undefined for any other instruction. */
export const branchTargetRegister = (word: number): number | undefined =>
  matches(word, exactRegister(0b0000)) || matches(word, exactRegister(0b0001)) ? (word >>> 5) & 0x1f : undefined;

// Without pointer authentication: op3 and op4 are zero.
const exactRegister = (opc: number): Pattern => [0xffff_fc1f, (0xd61f_0000 | (opc << 21)) >>> 0];
