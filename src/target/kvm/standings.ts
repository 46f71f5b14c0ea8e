// Where vCPUs stand at stop points that were reported or stepped onto: such a one counts again only once it was left. And
// the guest's own breakpoint instructions that were reported, and are still to be executed.
import { longestSequence } from '../../arch/aarch64/exclusive.ts';
import { Gva } from '../../base/address.ts';
import type { StopEvent, Vcpu } from '../target.ts';
import type { StopPoints } from './stopPoints.ts';
import type { VcpuRegisters } from './vcpuRegisters.ts';
import type { StepMode, VcpuStepper } from './vcpuStepper.ts';
import type { VcpuThread } from './vcpuThread.ts';

interface Standing {
  readonly pc: Gva;
  readonly watch: boolean;
}

export interface StandingActions {
  /** One step, whose events are `reported`. */
  step(thread: VcpuThread, mode: StepMode, end?: Gva): Promise<readonly StopEvent[]>;
  /** Gives the guest the exception of its own breakpoint instruction. */
  reinject(thread: VcpuThread, immediate: number): void;
}

export class Standings {
  readonly #standing = new Map<Vcpu, Standing>();
  readonly #trapped = new Map<Vcpu, { pc: Gva; immediate: number }>();

  constructor(
    private readonly registers: VcpuRegisters,
    private readonly points: StopPoints,
    private readonly stepper: VcpuStepper,
    private readonly actions: StandingActions,
  ) {}

  reported(events: Iterable<StopEvent>): void {
    for (const event of events) {
      if (event.kind === 'breakpoint') this.#standing.set(event.vcpu, { pc: event.pc, watch: false });
      if (event.kind === 'watchpoint') this.#standing.set(event.vcpu, { pc: event.pc, watch: true });
      if (event.kind === 'step') this.#standing.set(event.vcpu, { pc: event.pc, watch: false });
      if (event.kind === 'guestTrap') this.#trapped.set(event.vcpu, event);
    }
  }

  /** The vCPU was put elsewhere. */
  forget(vcpu: Vcpu): void {
    this.#standing.delete(vcpu);
    this.#trapped.delete(vcpu);
  }

  /** Executes the instruction a vCPU stands at, if it is a stop point that was reported. Anything else than the plain
   *  step that this should be is returned. */
  async leave(thread: VcpuThread): Promise<readonly StopEvent[]> {
    const vcpu = thread.index ?? 0;
    if (this.#giveTrapBack(thread)) return [];
    const standing = this.#standing.get(vcpu);
    this.#standing.delete(vcpu);
    if (!standing) return [];
    const pc = Gva(this.registers.one(thread, 'pc'));
    if (pc !== standing.pc) return [];
    if (!standing.watch && this.points.executionAt(pc).length === 0) return [];
    const events = standing.watch ? await this.#leaveWatchpoint(thread, pc) : await this.#leaveBreakpoint(thread);
    const others = events.filter(({ kind }) => kind !== 'step');
    // Nobody hears of this step: a stop point behind it is still to be reported.
    if (others.length === 0) this.#standing.delete(vcpu);
    this.#keep(thread, standing, others);
    return others;
  }

  /** Interrupted before the instruction executed: the stop point there has been reported all the same. */
  #keep(thread: VcpuThread, standing: Standing, events: readonly StopEvent[]): void {
    if (!events.some(({ kind }) => kind === 'interrupted')) return;
    if (this.registers.one(thread, 'pc') === standing.pc) this.#standing.set(thread.index ?? 0, standing);
  }

  /** Executes the instruction that a breakpoint was reported at. In the middle of an exclusive sequence the reservation is
   *  lost (Arm ARM, B2.17): the store would fail, and as often as the guest tries again the breakpoint would be hit again.
   *  So the next try is made here, as one. */
  async #leaveBreakpoint(thread: VcpuThread): Promise<readonly StopEvent[]> {
    const sequence = await this.stepper.sequenceAround(thread);
    let events = await this.actions.step(thread, 'leave');
    // To the store, and the branch behind it that leads back.
    for (let left = sequence ? 2 * longestSequence : 0; left > 0; left--) {
      const pc = Gva(this.registers.one(thread, 'pc'));
      const isThere = sequence !== undefined && pc >= sequence.start && pc <= sequence.end + 8n;
      if (!isThere || events.some(({ kind }) => kind !== 'step')) break;
      if (pc === sequence.start) return this.actions.step(thread, 'leave');
      if (this.points.executionAt(pc).length > 0) break;
      events = await this.actions.step(thread, 'step');
    }
    return events;
  }

  /** Executes the access at `pc` that a watchpoint was reported for. A store-exclusive has lost its reservation to that
   *  (Arm ARM, B2.17): it fails, and as often as the guest tries again it would be reported again. So the next try is made
   *  here, as one. */
  async #leaveWatchpoint(thread: VcpuThread, pc: Gva): Promise<readonly StopEvent[]> {
    const isStore = await this.stepper.isAtStoreExclusive(thread);
    let events = await this.actions.step(thread, 'stepUnwatched');
    // A comparison at most, and a branch, lie between.
    for (let left = isStore ? 3 : 0; left > 0 && events.every(({ kind }) => kind === 'step'); left--) {
      if (this.points.executionAt(Gva(this.registers.one(thread, 'pc'))).length > 0) break;
      if (await this.stepper.isAtSequenceTo(thread, pc)) return this.actions.step(thread, 'stepUnwatched');
      events = await this.actions.step(thread, 'step');
    }
    return events;
  }

  /** Executes the guest's own breakpoint instruction that the vCPU was reported at, if it still stands there. */
  #giveTrapBack(thread: VcpuThread): boolean {
    const vcpu = thread.index ?? 0;
    const trap = this.#trapped.get(vcpu);
    this.#trapped.delete(vcpu);
    if (trap === undefined || this.registers.one(thread, 'pc') !== trap.pc) return false;
    this.#standing.delete(vcpu);
    this.actions.reinject(thread, trap.immediate);
    return true;
  }

  /** A step from wherever the vCPU stands (`Target.step`). */
  async step(thread: VcpuThread, end: Gva | undefined): Promise<readonly StopEvent[]> {
    const vcpu = thread.index ?? 0;
    if (this.#giveTrapBack(thread)) {
      const event = { kind: 'step', vcpu, pc: Gva(this.registers.one(thread, 'pc')) } as const;
      this.reported([event]);
      return [event];
    }
    const standing = this.#standing.get(vcpu);
    this.#standing.delete(vcpu);
    if (standing === undefined) return this.actions.step(thread, 'step', end);
    const isWatched = standing.watch && this.registers.one(thread, 'pc') === standing.pc;
    const events = isWatched
      ? await this.#leaveWatchpoint(thread, standing.pc)
      : await this.actions.step(thread, 'step', end);
    this.#keep(thread, standing, events);
    return events;
  }
}
