// Stepping one instruction with interrupts held off, so that the guest cannot tell.
//
// KVM on arm64 has nothing like x86's KVM_GUESTDBG_BLOCKIRQ, and a pending interrupt would make a step end in the vector
// with nothing executed. So PSTATE.A, I and F are set for the step. Whatever can see or keep those bits must then show
// the guest's own: the instructions that read, write or restore the masks, and SPSR_EL1 when the instruction took an
// exception. Arm ARM (DDI 0487) C5.2 DAIF, D1.3 "Exception entry", D2.10 "Software Step exceptions".
//
// A stretch of code (stretch.ts) and an exclusive sequence (exclusive.ts) can be one step: it is run to where it is left.
// WFI is not executed at all: nothing that is held off may be what it waits for, and the PE may leave it at any time and
// for any reason (C6.2 WFI). ESB is the one instruction that sees that SError is held off: one that is pending is then
// deferred to DISR_EL1 instead of taken.

import { vectorOffset } from './exception.ts';
import { isWaitForInterrupt, type MaskInstruction, maskInstruction } from './instructions.ts';
import { exceptionLevel, isAArch32, MODE_EL1H, PSTATE_DAIF, PSTATE_MODE, Pstate } from './pstate.ts';
import type { Stretch } from './stretch.ts';

/** The bits that are the debugger's during the step. Bit 9 is left alone: PSTATE.D does not mask a step that KVM takes
 *  to EL2, and in AArch32 the bit is CPSR.E. */
const HELD = Pstate.A | Pstate.I | Pstate.F;

/** The guest's own state before the step. */
export interface BeforeStep {
  readonly pc: bigint;
  readonly pstate: bigint;
  readonly spsr_el1: bigint;
  readonly elr_el1: bigint;
}

export interface StepPlan {
  readonly before: BeforeStep;
  /** PSTATE to run the step with. */
  readonly pstate: bigint;
  /** Set when the instruction deals with the masks itself. */
  readonly instruction: MaskInstruction | undefined;
  /** The code that the step covers, where that is more than one instruction. */
  readonly stretch: Stretch | undefined;
}

/** Register values by name, to be written; empty when there is nothing to do. */
export type RegisterWrites = Readonly<Record<string, bigint>>;

/** How to step `instruction`, the word at `before.pc`, of a vCPU in state `before`, or a stretch of code that begins with it
 *  and leaves the masks alone. */
export function planStep(instruction: number, before: BeforeStep, stretch?: Stretch): StepPlan {
  // AArch32 runs at EL0 only, where it cannot change A, I and F.
  const masks = isAArch32(before.pstate) ? undefined : maskInstruction(instruction);
  return { before, pstate: before.pstate | HELD, instruction: masks, stretch };
}

/** What to write in place of a step of `instruction` that is not to be executed; undefined for all others. */
export function insteadOfStep(instruction: number, { pc, pstate }: BeforeStep): RegisterWrites | undefined {
  // At EL0 it may be for EL1 to decide (SCTLR_EL1.nTWI). Behind an indirect branch it may be no place to branch to.
  const isPlain = exceptionLevel(pstate) === 1 && (pstate & Pstate.BTYPE) === 0n;
  return isPlain && isWaitForInterrupt(instruction) ? { pc: BigInt.asUintN(64, pc + 4n) } : undefined;
}

/** The vCPU after the step, as it was read. */
export interface StepResult {
  readonly pc: bigint;
  readonly pstate: bigint;
  readonly spsr_el1: bigint;
  readonly elr_el1: bigint;
  readonly vbar_el1: bigint;
}

/** What to write after the step, whether the instruction was executed, took an exception, or did not start. */
export function finishStep(plan: StepPlan, found: StepResult): RegisterWrites {
  const after = withoutInterrupt(plan, found);
  const names = ['pc', 'elr_el1', 'spsr_el1', 'pstate'] as const;
  const withdrawn = names.map((name) => changed(name, found[name], after[name]));
  return Object.assign({}, ...withdrawn, restore(plan, after)) as RegisterWrites;
}

/** The state before an interrupt that the instruction itself let in by unmasking it, with which the step would end in the
 *  handler: it is as little wanted as others, and the architecture leaves open whether it comes before the step's own
 *  exception (D1.3.5 "Prioritization of exceptions"). Entry has changed these registers only, and the GIC gives the
 *  interrupt to whoever reads ICC_IAR1_EL1 first: it is pending again. */
function withoutInterrupt({ before, instruction }: StepPlan, after: StepResult): StepResult {
  if (instruction === undefined || (after.pstate & (PSTATE_MODE | PSTATE_DAIF)) !== (MODE_EL1H | PSTATE_DAIF))
    return after;
  if (exceptionLevel(after.spsr_el1) > 1) return after;
  const { elr_el1: pc, spsr_el1: pstate } = after;
  const synchronous = exceptionHandler(after.vbar_el1, pstate);
  const isIrq = after.pc === synchronous + IRQ && (pstate & Pstate.I) === 0n;
  const isFiq = after.pc === synchronous + FIQ && (pstate & Pstate.F) === 0n;
  if (!isIrq && !isFiq) return after;
  return { ...after, pc, pstate: pstate & ~Pstate.SS, elr_el1: before.elr_el1, spsr_el1: before.spsr_el1 };
}

// Offsets of the vectors from that of synchronous exceptions (D1.3 "Exception vectors").
const IRQ = 0x080n;
const FIQ = 0x100n;

function restore(plan: StepPlan, after: StepResult): RegisterWrites {
  const { before } = plan;
  if (tookException(plan, after)) {
    // The handler's own PSTATE is right: all masks are set in it anyway. What it saved is not. SPSR_EL1.SS too is the
    // step's: it says whether the instruction is still to be stepped.
    const ours = HELD | Pstate.SS;
    return changed('spsr_el1', after.spsr_el1, (after.spsr_el1 & ~ours) | (before.pstate & ours));
  }
  const executed = after.pc !== before.pc;
  const masks = executed ? masksAfter(plan) : before.pstate & HELD;
  if (masks === undefined) return {};
  const restored = changed('pstate', after.pstate, (after.pstate & ~HELD) | masks);
  const { instruction } = plan;
  if (!executed || instruction?.kind !== 'readMasks' || instruction.register === 31) return restored;
  return { ...restored, [`x${instruction.register}`]: before.pstate & PSTATE_DAIF };
}

/** A, I and F as the instruction leaves them if it executes: what most steps end with. Undefined when it determines
 *  them itself: MSR DAIF from Xt, ERET from SPSR_EL1. */
function masksAfter({ before, instruction }: StepPlan): bigint | undefined {
  switch (instruction?.kind) {
    case 'writeMasks':
    case 'exceptionReturn':
      return undefined;
    case 'setMasks':
      return (before.pstate | instruction.mask) & HELD;
    case 'clearMasks':
      return before.pstate & ~instruction.mask & HELD;
    default:
      return before.pstate & HELD;
  }
}

/** The change of PSTATE that undoes the masking if the instruction executes, to be made before the vCPU is looked at;
 *  `finishStep` then judges by the state before that change. */
export function likelyUnmask(plan: StepPlan): { readonly mask: bigint; readonly bits: bigint } | undefined {
  const bits = masksAfter(plan);
  return bits === undefined ? undefined : { mask: HELD, bits };
}

/** Whether the step ended at the first instruction of a synchronous exception handler at EL1. SError and interrupts
 *  were held off. A step that takes an exception ends there: it makes the step pending (D2.10). */
function tookException({ before, stretch }: StepPlan, after: StepResult): boolean {
  if (exceptionLevel(before.pstate) > 1) return false;
  const entered = (after.pstate & (PSTATE_MODE | PSTATE_DAIF)) === (MODE_EL1H | PSTATE_DAIF);
  // The instruction itself, or after SVC the one that follows: 2 or 4 bytes on. Of a stretch, any of it; and where it is
  // left for, if nothing can be fetched from there.
  const returnOffset = after.elr_el1 - before.pc;
  const isWithin = returnOffset >= 0n && returnOffset <= (stretch?.length ?? 4n);
  const isExit = stretch?.exits.includes(after.elr_el1) ?? false;
  return (
    entered &&
    after.pc === exceptionHandler(after.vbar_el1, before.pstate) &&
    (isWithin || isExit) &&
    (after.spsr_el1 & HELD) === HELD &&
    (after.spsr_el1 & PSTATE_MODE) === (before.pstate & PSTATE_MODE)
  );
}

/** The address of the handler that a synchronous exception of a vCPU in state `pstate` at EL0 or EL1 goes to. */
export const exceptionHandler = (vbar: bigint, pstate: bigint): bigint =>
  BigInt.asUintN(64, vbar + vectorOffset(pstate));

const changed = (name: string, from: bigint, to: bigint): RegisterWrites => (from === to ? {} : { [name]: to });
