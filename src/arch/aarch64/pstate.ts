// PSTATE as SPSR_EL1 and KVM's regs.pstate lay it out.
//
// Arm ARM (DDI 0487) C5.2, SPSR_EL1; Linux arch/arm64/include/uapi/asm/ptrace.h, PSR_*. From AArch32 the bits that
// an exception entry inherits are at the same places.

export const Pstate = {
  /** M[0]: above EL0, 1 selects the Exception level's own stack pointer (`h`), 0 SP_EL0 (`t`). */
  SP: 1n << 0n,
  /** M[4]: AArch32. */
  nRW: 1n << 4n,
  /** AArch32 only: T32 instructions. */
  T: 1n << 5n,
  F: 1n << 6n,
  I: 1n << 7n,
  A: 1n << 8n,
  D: 1n << 9n,
  BTYPE: 3n << 10n,
  SSBS: 1n << 12n,
  ALLINT: 1n << 13n,
  IL: 1n << 20n,
  SS: 1n << 21n,
  PAN: 1n << 22n,
  UAO: 1n << 23n,
  DIT: 1n << 24n,
  TCO: 1n << 25n,
  V: 1n << 28n,
  C: 1n << 29n,
  Z: 1n << 30n,
  N: 1n << 31n,
} as const;

export const PSTATE_NZCV = Pstate.N | Pstate.Z | Pstate.C | Pstate.V;
export const PSTATE_DAIF = Pstate.D | Pstate.A | Pstate.I | Pstate.F;

/** M[4:0]. */
export const PSTATE_MODE = 0x1fn;
export const MODE_EL1T = 0b00100n;
export const MODE_EL1H = 0b00101n;

export const isAArch32 = (pstate: bigint): boolean => (pstate & Pstate.nRW) !== 0n;

/** PSTATE.EL. AArch32 code of a KVM guest with an AArch64 kernel runs at EL0. */
export const exceptionLevel = (pstate: bigint): number => (isAArch32(pstate) ? 0 : Number((pstate >> 2n) & 3n));
