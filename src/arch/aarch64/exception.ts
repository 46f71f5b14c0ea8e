// Taking a synchronous exception to EL1, done in software: how a guest gets its own breakpoint instruction back.
//
// Arm ARM (DDI 0487) D1.3 "Exception entry", pseudocode AArch64.TakeException; the same state as KVM builds it in Linux
// arch/arm64/kvm/hyp/exception.c, enter_exception64().

import { hex } from '../../base/address.ts';
import { TargetError } from '../../base/errors.ts';
import {
  exceptionLevel,
  isAArch32,
  MODE_EL1H,
  MODE_EL1T,
  PSTATE_DAIF,
  PSTATE_MODE,
  PSTATE_NZCV,
  Pstate,
} from './pstate.ts';
import { ESR_IL, ExceptionClass, exceptionClassOf } from './syndrome.ts';

/** What exception entry reads. */
export interface ExceptionState {
  readonly pc: bigint;
  readonly pstate: bigint;
  readonly vbar_el1: bigint;
  readonly sctlr_el1: bigint;
}

/** Features of the vCPU that change PSTATE on entry. */
export interface ExceptionFeatures {
  /** FEAT_MTE, as KVM_CAP_ARM_MTE enables it for the VM: PSTATE.TCO is set. */
  readonly mte: boolean;
  /** FEAT_NMI: PSTATE.ALLINT is the inverse of SCTLR_EL1.SPINTMASK. KVM has not offered it to guests so far. */
  readonly nmi?: boolean;
}

/** What exception entry writes. FAR_EL1 is not among it: a breakpoint instruction leaves it alone. */
export interface ExceptionEntry {
  readonly pc: bigint;
  readonly pstate: bigint;
  readonly elr_el1: bigint;
  readonly spsr_el1: bigint;
  readonly esr_el1: bigint;
}

// Offsets from VBAR_EL1 of the synchronous vectors (Arm ARM, D1.3 "Exception vectors"):
//   0x000  current EL with SP_EL0 (EL1t)
//   0x200  current EL with SP_ELx (EL1h)
//   0x400  lower EL, AArch64
//   0x600  lower EL, AArch32
/** Offset of the vector of a synchronous exception to EL1 taken from `pstate`. TargetError from EL2 and above. */
export function vectorOffset(pstate: bigint): bigint {
  const mode = pstate & PSTATE_MODE;
  if (mode === MODE_EL1H) return 0x200n;
  if (mode === MODE_EL1T) return 0x000n;
  if (isAArch32(pstate)) return 0x600n;
  if (mode === 0n) return 0x400n;
  throw new TargetError(`No exception to EL1 can be taken from mode ${hex(mode)}.`);
}

// SCTLR_EL1 (Arm ARM, D24.2).
const SCTLR_SPAN = 1n << 23n;
const SCTLR_DSSBS = 1n << 44n;
const SCTLR_SPINTMASK = 1n << 62n;

// Exception classes that come in pairs, from a lower EL and, one higher, from the current one (D24.2, ESR_EL1.EC):
// instruction abort, data abort, breakpoint, software step, watchpoint. KVM takes guest exceptions to EL2, so that it
// always sees the first of a pair.
const pairedClasses: ReadonlySet<number> = new Set([0x20, 0x24, 0x30, 0x32, 0x34]);

function syndromeAtEl1(esr: bigint, pstate: bigint): bigint {
  const fromEl1 = exceptionLevel(pstate) === 1;
  return fromEl1 && pairedClasses.has(exceptionClassOf(esr)) ? esr + (1n << 26n) : esr;
}

/** The registers after a synchronous exception with the syndrome `esr` was taken to EL1. The preferred return address
 *  is `state.pc`. A class that names the source as a lower EL is changed to its current-EL form when that is right. */
export function enterException(state: ExceptionState, esr: bigint, features: ExceptionFeatures): ExceptionEntry {
  const { pc, pstate: old, vbar_el1: vbar, sctlr_el1: sctlr } = state;
  const vector = BigInt.asUintN(64, vbar + vectorOffset(old));
  // From bit 31 down, as SPSR_EL1 lays them out:
  //   N Z C V   kept
  //   TCO       1 with MTE
  //   DIT       kept
  //   UAO       0
  //   PAN       kept; 1 if SCTLR_EL1.SPAN is 0 (it is RES1 without FEAT_PAN)
  //   SS IL     0
  //   ALLINT    NOT SCTLR_EL1.SPINTMASK with NMI
  //   SSBS      SCTLR_EL1.DSSBS
  //   BTYPE     0
  //   D A I F   1
  //   M         EL1h
  let pstate = old & (PSTATE_NZCV | Pstate.DIT | Pstate.PAN);
  if (features.mte) pstate |= Pstate.TCO;
  if ((sctlr & SCTLR_SPAN) === 0n) pstate |= Pstate.PAN;
  if (features.nmi && (sctlr & SCTLR_SPINTMASK) === 0n) pstate |= Pstate.ALLINT;
  if (sctlr & SCTLR_DSSBS) pstate |= Pstate.SSBS;
  pstate |= PSTATE_DAIF | MODE_EL1H;
  return { pc: vector, pstate, elr_el1: pc, spsr_el1: old, esr_el1: syndromeAtEl1(esr, old) };
}

/** The registers after the breakpoint instruction at `state.pc` was executed by the CPU itself: BRK #`immediate`, or
 *  from AArch32 BKPT #`immediate`. ISS: 15:0 the immediate. IL tells a 16-bit instruction (T32 BKPT) from a 32-bit one. */
export function reinjectBreakpoint(
  state: ExceptionState,
  immediate: number,
  features: ExceptionFeatures,
): ExceptionEntry {
  if (!Number.isInteger(immediate) || immediate < 0 || immediate > 0xffff) {
    throw new RangeError(`BRK takes a 16-bit immediate, not ${immediate}`);
  }
  const aarch32 = isAArch32(state.pstate);
  const exceptionClass = aarch32 ? ExceptionClass.bkpt32 : ExceptionClass.brk64;
  const wide = !aarch32 || (state.pstate & Pstate.T) === 0n;
  const esr = (BigInt(exceptionClass) << 26n) | (wide ? BigInt(ESR_IL) : 0n) | BigInt(immediate);
  return enterException(state, esr, features);
}
