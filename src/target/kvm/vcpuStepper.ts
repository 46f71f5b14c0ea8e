// One step of one vCPU, with interrupts held off, over an instruction or a stretch of code: arms the step, lets the vCPU run to
// its end and the guest's clock go on so long, and takes out of the guest's state what the arming put there.
import { exclusiveSequence, isLoadExclusive, isStoreExclusive, longestSequence } from '../../arch/aarch64/exclusive.ts';
import { exceptionLevel, isAArch32, PSTATE_DAIF } from '../../arch/aarch64/pstate.ts';
import {
  type BeforeStep,
  exceptionHandler,
  finishStep,
  insteadOfStep,
  likelyUnmask,
  planStep,
} from '../../arch/aarch64/step.ts';
import { longestStretch, type Stretch, straightStretch } from '../../arch/aarch64/stretch.ts';
import { Gva } from '../../base/address.ts';
import { TargetError } from '../../base/errors.ts';
import type { VirtualMemory } from '../../base/memory.ts';
import type { Vcpu } from '../target.ts';
import { addGuestDebug } from './batch.ts';
import type { GuestClock } from './guestClock.ts';
import type { StopPoints } from './stopPoints.ts';
import type { DebugExit, RunOutcome, VcpuGroup } from './vcpuGroup.ts';
import type { VcpuRegisters } from './vcpuRegisters.ts';
import type { VcpuThread } from './vcpuThread.ts';

export interface SteppedVcpu {
  readonly outcomes: readonly RunOutcome[];
  readonly exits: readonly DebugExit[];
  /** Where a step over several instructions ends: hardware breakpoints of the step's own. */
  readonly ends: readonly Gva[] | undefined;
  /** The step is complete without that the vCPU has run. */
  readonly isInstead: boolean;
}

/** Code that is run as one step, and the breakpoints that end it. */
interface StretchRun {
  readonly stretch: Stretch;
  readonly ends: readonly Gva[];
}

/** Instructions from `pc` to `end` that are worth looking at: one where that is not ahead. */
function instructionsTo(pc: bigint, end: Gva | undefined): number {
  const distance = end === undefined ? 0n : (end - pc) >> 2n;
  if (distance <= 1n) return 1;
  return distance < BigInt(longestStretch) ? Number(distance) : longestStretch;
}

const smallestPage = 4096;

const stateNames = ['pc', 'pstate', 'spsr_el1', 'elr_el1'] as const;

/** `stepUnwatched`: with the watchpoints off. `leave`: the vCPU runs on from where the step ends. */
export type StepMode = 'step' | 'stepUnwatched' | 'leave';

export class VcpuStepper {
  constructor(
    private readonly group: VcpuGroup,
    private readonly registers: VcpuRegisters,
    private readonly points: StopPoints,
    private readonly clock: GuestClock,
    /** Of each vCPU. */
    private readonly hardwareBreakpoints: number,
    private readonly memory: (vcpu: Vcpu) => VirtualMemory,
  ) {}

  /** One instruction, or with `end` as much of the code up to there as runs straight on. Precondition: all vCPUs are parked;
   *  they are again afterwards, also when it fails; the guest's PSTATE is its own then, and its clock is held. */
  async step(thread: VcpuThread, mode: StepMode, end?: Gva): Promise<SteppedVcpu> {
    const { group, registers } = this;
    const { journal } = group;
    const fd = thread.fd ?? -1;
    const state = registers.read(thread, stateNames);
    const before = Object.fromEntries(stateNames.map((name) => [name, state.get(name) ?? 0n])) as unknown as BeforeStep;
    // Nothing there to decode: the step takes the instruction abort, which needs no special care.
    const words = await this.#instructionsAt(thread.index ?? 0, Gva(before.pc), instructionsTo(before.pc, end));
    const [instruction = 0] = words;
    const instead = insteadOfStep(instruction, before);
    if (instead !== undefined) {
      registers.write(thread, instead);
      return { outcomes: [], exits: [], ends: undefined, isInstead: true };
    }
    const run = isLoadExclusive(instruction)
      ? await this.#sequenceAt(thread, before)
      : this.#straightOn(thread, before, words);
    const plan = planStep(instruction, before, run?.stretch);
    const key = `step ${fd}`;
    const bits = `${before.pstate & PSTATE_DAIF}`;
    journal.enter({ key, undo: { undo: 'step', fd, bits, mask: `${PSTATE_DAIF}` } });
    const exits: DebugExit[] = [];
    let outcomes: readonly RunOutcome[];
    try {
      this.#arm(thread, plan.pstate, this.points.guestDebug(mode === 'stepUnwatched' ? mode : 'step', run?.ends));
      outcomes = await group.run([thread], async (exit) => {
        exits.push(exit);
        return 'stop';
      });
      if (group.exitStatus === undefined) this.#finish(thread, plan, mode !== 'leave');
    } catch (thrown) {
      if (group.exitStatus === undefined && thread.state === 'parked') this.#undo(thread, before);
      throw thrown;
    }
    journal.strike(key);
    return { outcomes, exits, ends: run?.ends, isInstead: false };
  }

  /** Whether a vCPU stands at a store-exclusive. */
  async isAtStoreExclusive(thread: VcpuThread): Promise<boolean> {
    const { registers } = this;
    if (isAArch32(registers.one(thread, 'pstate'))) return false;
    const [instruction = 0] = await this.#instructionsAt(thread.index ?? 0, Gva(registers.one(thread, 'pc')), 1);
    return isStoreExclusive(instruction);
  }

  /** Whether a vCPU stands at an exclusive sequence that ends with the store at `store`, and is stepped as one. */
  async isAtSequenceTo(thread: VcpuThread, store: Gva): Promise<boolean> {
    const { registers } = this;
    const pc = registers.one(thread, 'pc');
    const sequence = await this.#sequenceAt(thread, { pc, pstate: registers.one(thread, 'pstate') });
    return sequence !== undefined && pc + sequence.stretch.length === store + 4n;
  }

  #arm(thread: VcpuThread, pstate: bigint, debug: Uint8Array): void {
    const batch = thread.batch();
    const [armed = -1] = addGuestDebug(batch, [thread.fd ?? -1], debug);
    const masked = this.registers.addWrite(batch, thread, 'pstate', pstate);
    const released = this.clock.addRelease(batch, thread);
    thread.run(batch);
    batch.checked(armed);
    batch.checked(masked);
    released();
    this.registers.invalidate(thread);
  }

  /** After a failure in the middle: disarms, and gives the guest its own interrupt masks back. */
  #undo(thread: VcpuThread, before: BeforeStep): void {
    const batch = thread.batch();
    const [disarmed = -1] = addGuestDebug(batch, [thread.fd ?? -1]);
    const hold = this.clock.addHold(batch, thread);
    thread.run(batch);
    batch.checked(disarmed);
    hold();
    this.registers.invalidate(thread);
    const pstate = this.registers.one(thread, 'pstate');
    this.registers.write(thread, { pstate: (pstate & ~PSTATE_DAIF) | (before.pstate & PSTATE_DAIF) });
    this.group.journal.strike(`step ${thread.fd ?? -1}`);
  }

  /** Up to `count` instructions from `pc`; fewer, or none, where code is not mapped. */
  async #instructionsAt(vcpu: Vcpu, pc: Gva, count: number): Promise<readonly number[]> {
    const toPageEnd = smallestPage - Number(pc % BigInt(smallestPage));
    for (const length of [4 * count, Math.min(4 * count, toPageEnd)]) {
      try {
        const bytes = await this.memory(vcpu).read(pc, length);
        const view = new DataView(bytes.buffer, bytes.byteOffset);
        return Array.from({ length: length >> 2 }, (_, index) => view.getUint32(4 * index, true));
      } catch (thrown) {
        if (!(thrown instanceof TargetError)) throw thrown;
      }
    }
    return [];
  }

  /** Where the exclusive sequence that a vCPU stands in the middle of begins, and ends. */
  async sequenceAround(thread: VcpuThread): Promise<{ readonly start: bigint; readonly end: bigint } | undefined> {
    const { registers } = this;
    if (isAArch32(registers.one(thread, 'pstate'))) return undefined;
    const pc = registers.one(thread, 'pc');
    // Whatever lies in front of the page may not be mapped.
    const before = Math.min(longestSequence - 1, Number(pc % BigInt(smallestPage)) >> 2);
    const start = pc - BigInt(4 * before);
    const words = await this.#instructionsAt(thread.index ?? 0, Gva(start), before + longestSequence);
    for (let index = before - 1; index >= 0; index--) {
      const address = start + BigInt(4 * index);
      const found = exclusiveSequence(address, words.slice(index));
      if (found && address + found.length > pc) return { start: address, end: address + found.length };
    }
    return undefined;
  }

  /** The exclusive sequence a vCPU stands at. */
  async #sequenceAt(thread: VcpuThread, at: Pick<BeforeStep, 'pc' | 'pstate'>): Promise<StretchRun | undefined> {
    const words = await this.#instructionsAt(thread.index ?? 0, Gva(at.pc), longestSequence);
    return this.#runOf(thread, exclusiveSequence(at.pc, words), at);
  }

  /** The straight code a vCPU stands at, up to the next stop point. */
  #straightOn(
    thread: VcpuThread,
    at: Pick<BeforeStep, 'pc' | 'pstate'>,
    words: readonly number[],
  ): StretchRun | undefined {
    if (words.length < 2) return undefined;
    const next = words.findIndex(
      (_, index) => index > 0 && this.points.executionAt(Gva(at.pc + BigInt(4 * index))).length > 0,
    );
    return this.#runOf(thread, straightStretch(at.pc, next < 0 ? words : words.slice(0, next)), at);
  }

  /** How to run a stretch of code that begins at the pc: to where it is left, and to the handler of an exception in it.
   *  Undefined when that cannot be done: too few hardware breakpoints, or none would be where the exception goes. */
  #runOf(
    thread: VcpuThread,
    stretch: Stretch | undefined,
    { pc, pstate }: Pick<BeforeStep, 'pc' | 'pstate'>,
  ): StretchRun | undefined {
    if (stretch === undefined || stretch.exits.length >= this.hardwareBreakpoints) return undefined;
    // Of a hypervisor, exceptions go to where VBAR_EL2 says.
    if (isAArch32(pstate) || exceptionLevel(pstate) > 1) return undefined;
    const handler = exceptionHandler(this.registers.one(thread, 'vbar_el1'), pstate);
    // Its first instruction cannot be left with a breakpoint there.
    return pc === handler ? undefined : { stretch, ends: [...stretch.exits, handler].map(Gva) };
  }

  /** Disarms, and repairs what masking interrupts for the step left behind: in one injection for nearly every step. */
  #finish(thread: VcpuThread, plan: ReturnType<typeof planStep>, stays: boolean): void {
    const batch = thread.batch();
    const [disarmed = -1] = addGuestDebug(batch, [thread.fd ?? -1]);
    const hold = this.clock.addHold(batch, thread);
    const unmask = likelyUnmask(plan);
    const unmasked = unmask && this.registers.addModify(batch, thread, 'pstate', { value: plan.pstate, ...unmask });
    const needed = ['pc', ...(unmask ? [] : ['pstate']), 'spsr_el1', 'elr_el1', 'vbar_el1'];
    const keep = this.registers.addReads(batch, thread, needed, stays);
    thread.run(batch);
    batch.checked(disarmed);
    hold();
    keep();
    const stepped = unmasked?.();
    const one = (name: string): bigint => this.registers.one(thread, name);
    const pstate = stepped ?? one('pstate');
    const wanted = {
      pstate,
      ...finishStep(plan, {
        pc: one('pc'),
        pstate,
        spsr_el1: one('spsr_el1'),
        elr_el1: one('elr_el1'),
        vbar_el1: one('vbar_el1'),
      }),
    };
    const writes = Object.entries(wanted).filter(([name, value]) => name !== 'pstate' || value !== one('pstate'));
    if (writes.length > 0) this.registers.write(thread, Object.fromEntries(writes));
  }
}
