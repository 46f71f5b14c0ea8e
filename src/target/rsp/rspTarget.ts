// The Target over a GDB stub: QEMU's, which it is made for, or another one of an aarch64 guest.

import { aarch64 } from '../../arch/aarch64/aarch64.ts';
import { exclusiveSequence, isLoadExclusive, longestSequence } from '../../arch/aarch64/exclusive.ts';
import { brkImmediate, decodeWord } from '../../arch/aarch64/instructions.ts';
import { isAArch32, Pstate } from '../../arch/aarch64/pstate.ts';
import { insteadOfStep } from '../../arch/aarch64/step.ts';
import type { Stretch } from '../../arch/aarch64/stretch.ts';
import type { RegisterDescription, RegisterValues } from '../../arch/architecture.ts';
import { Gva, hex } from '../../base/address.ts';
import { messageOf, SessionError, TargetError } from '../../base/errors.ts';
import type { PhysicalMemory, VirtualMemory } from '../../base/memory.ts';
import type {
  Capabilities,
  ExitStatus,
  KernelTables,
  StopEvent,
  StopPoint,
  StopPointId,
  Target,
  Translation,
  Vcpu,
} from '../target.ts';
import type { RspConnection } from './connection.ts';
import { GuestMemory } from './guestMemory.ts';
import { canMaskSteps, maskedStep } from './maskedStep.ts';
import { RemoteRegisters } from './remoteRegisters.ts';
import { RspStopPoints } from './stopPoints.ts';
import { parseStopReply, Signal, type StopReply } from './stopReply.ts';
import { type Stub, setSstep } from './stub.ts';
import { Threads } from './threads.ts';

const generalNames = aarch64.generalRegisters.map(({ name }) => name);

const untold: ExitStatus = { code: undefined, signal: undefined };

interface Standing {
  readonly pc: Gva;
  readonly watch: boolean;
}

export class RspTarget implements Target {
  readonly architecture = aarch64;
  readonly exited: Promise<ExitStatus>;
  readonly #threads: Threads;
  readonly #registers: RemoteRegisters;
  readonly #memory: GuestMemory;
  readonly #points: RspStopPoints;
  /** Where vCPUs stand at stop points that were reported or stepped onto: such a one counts again once it was left. */
  readonly #standing = new Map<Vcpu, Standing>();
  /** vCPUs whose step was interrupted. QEMU may still have them stop after their next instruction. */
  readonly #unfinished = new Set<Vcpu>();
  #interrupted = false;
  #ended: ExitStatus | undefined;
  #detached = false;
  #isKilling = false;
  /** What is under way, with the failure that it ends with. */
  #pending: Promise<unknown> | undefined;
  #settleExit: { resolve(status: ExitStatus): void; reject(error: SessionError): void };

  /** Precondition: the guest is stopped. */
  constructor(
    private readonly connection: RspConnection,
    private readonly stub: Stub,
    readonly capabilities: Capabilities,
  ) {
    this.#threads = new Threads(stub, connection);
    this.#registers = new RemoteRegisters(stub.registers, stub.remotes, connection, this.#threads);
    this.#memory = new GuestMemory(stub, connection, this.#threads, this.#registers);
    this.#points = new RspStopPoints(connection, capabilities);
    this.#settleExit = { resolve: () => undefined, reject: () => undefined };
    this.exited = new Promise((resolve, reject) => {
      this.#settleExit = { resolve, reject };
    });
    // Whoever waits for it hears of it; nobody has to.
    this.exited.catch(() => undefined);
    connection.onEnd = (end) => {
      if (this.#ended) return;
      // What a stub tells of an end that it was asked for is no status.
      if (!(end instanceof SessionError)) this.#end(this.#isKilling ? untold : end);
      // Whoever lets go of the guest hears of it there.
      else if (!this.#detached) this.#settleExit.reject(end);
    };
  }

  get vcpus(): readonly Vcpu[] {
    return this.#threads.vcpus;
  }

  get registers(): readonly RegisterDescription[] {
    return this.#registers.catalogue;
  }

  get physicalMemory(): PhysicalMemory {
    return this.#memory.physical;
  }

  readRegisters(vcpu: Vcpu, names: readonly string[] = generalNames): Promise<RegisterValues> {
    return this.#registers.read(vcpu, names);
  }

  async writeRegister(vcpu: Vcpu, name: string, value: bigint): Promise<void> {
    this.#memory.forget();
    await this.#registers.write(vcpu, name, value);
    if (name !== 'pc') return;
    this.#standing.delete(vcpu);
    // A branch target type left by an earlier indirect branch would make the new place fault (Arm ARM, D8.4.5).
    const pstate = await this.#registers.one(vcpu, 'pstate');
    if ((pstate & Pstate.BTYPE) !== 0n && !isAArch32(pstate)) {
      await this.#registers.write(vcpu, 'pstate', pstate & ~Pstate.BTYPE);
    }
  }

  memory(vcpu: Vcpu): VirtualMemory {
    return this.#memory.virtual(vcpu);
  }

  translate(vcpu: Vcpu, address: Gva): Promise<Translation> {
    return this.#memory.translate(vcpu, address);
  }

  setKernelTables(tables: KernelTables): void {
    this.#memory.kernelTables = tables;
  }

  async insert(point: StopPoint, vcpu: Vcpu): Promise<StopPointId> {
    // An emulator takes a breakpoint for any address.
    if (point.kind === 'software') await this.memory(vcpu).read(point.address, aarch64.breakpointInstruction.length);
    await this.#memory.leavePhysical();
    await this.#threads.select(vcpu);
    return this.#points.insert(point);
  }

  async remove(id: StopPointId): Promise<void> {
    this.#points.remove(id);
  }

  takeRewritten(): readonly StopPointId[] {
    return this.#points.takeRewritten();
  }

  /** `capabilities.guestTraps` says that it has no effect. */
  setTrapFilter(): void {}

  interrupt(): void {
    this.#interrupted = true;
    this.connection.interrupt();
  }

  resume(): Promise<readonly StopEvent[]> {
    return this.#track(this.#resume());
  }

  async #resume(): Promise<readonly StopEvent[]> {
    for (const vcpu of this.vcpus) {
      const events = await this.#leave(vcpu);
      if (events.length > 0) return events;
    }
    if (this.#interrupted) return [this.#interruption()];
    for (;;) {
      const reply = await this.#move('all', await this.#threads.continueAll());
      const event = await this.#explain(reply);
      if (event) return this.#report([event]);
    }
  }

  /** Executes the instruction that a vCPU was reported to stand at a stop point of, if it still does. Anything else than the
   *  plain step that this should be is returned. */
  async #leave(vcpu: Vcpu): Promise<readonly StopEvent[]> {
    const standing = this.#standing.get(vcpu);
    if (!standing) return [];
    this.#standing.delete(vcpu);
    const pc = await this.#pc(vcpu);
    if (pc !== standing.pc) return [];
    if (!standing.watch && this.#points.executionAt(pc).length === 0) return [];
    const events = (await this.#keeping(vcpu, standing, standing.watch)).filter(({ kind }) => kind !== 'step');
    // Nobody hears of the step: a stop point behind it is still to be reported.
    if (events.length === 0) this.#standing.delete(vcpu);
    return events;
  }

  /** Steps a vCPU. Where that is interrupted, or fails, before the instruction executed, the stop point there has been
   *  reported all the same. */
  async #keeping(vcpu: Vcpu, standing: Standing | undefined, isUnwatched: boolean): Promise<readonly StopEvent[]> {
    let isDone = false;
    try {
      const events = await this.#stepOne(vcpu, isUnwatched);
      isDone = !events.some(({ kind }) => kind === 'interrupted');
      return events;
    } finally {
      if (!isDone && standing && this.connection.isOpen && !this.#ended) await this.#keep(vcpu, standing);
    }
  }

  async #keep(vcpu: Vcpu, standing: Standing): Promise<void> {
    try {
      if ((await this.#pc(vcpu)) === standing.pc) this.#standing.set(vcpu, standing);
    } catch (error) {
      // What made the step fail is what there is to say.
      if (!(error instanceof TargetError || error instanceof SessionError)) throw error;
    }
  }

  step(vcpu: Vcpu): Promise<readonly StopEvent[]> {
    return this.#track(this.#step(vcpu));
  }

  async #step(vcpu: Vcpu): Promise<readonly StopEvent[]> {
    const standing = this.#standing.get(vcpu);
    this.#standing.delete(vcpu);
    const isWatched = standing?.watch === true && standing.pc === (await this.#pc(vcpu));
    return this.#keeping(vcpu, standing, isWatched);
  }

  /** One instruction of one vCPU, or an exclusive sequence as one. `isUnwatched`: with the watchpoints off. */
  async #stepOne(vcpu: Vcpu, isUnwatched: boolean): Promise<readonly StopEvent[]> {
    const before = await this.#registers.read(vcpu, ['pc', 'pstate']);
    const [pc = 0n, pstate = 0n] = before.values();
    const [instruction = 0] = await this.#instructionsAt(vcpu, pc, 1);
    // With interrupts and timers held off nothing would end the wait.
    const instead = insteadOfStep(instruction, { pc, pstate, spsr_el1: 0n, elr_el1: 0n });
    if (instead?.pc !== undefined) {
      await this.#registers.write(vcpu, 'pc', instead.pc);
      return this.#report([{ kind: 'step', vcpu, pc: Gva(instead.pc) }]);
    }
    const sequence = isLoadExclusive(instruction)
      ? exclusiveSequence(pc, await this.#instructionsAt(vcpu, pc, longestSequence))
      : undefined;
    const run = (): Promise<StopEvent | undefined> => this.#stepOver(vcpu, pc, sequence, isUnwatched);
    const masks = !this.stub.stepsWithoutInterrupts && canMaskSteps(this.#registers);
    const event = masks ? await maskedStep(this.#registers, vcpu, instruction, sequence, run) : await run();
    return this.#report(event ? [event] : []);
  }

  async #stepOver(
    vcpu: Vcpu,
    pc: bigint,
    sequence: Stretch | undefined,
    isUnwatched: boolean,
  ): Promise<StopEvent | undefined> {
    if (sequence !== undefined && this.#losesReservations(sequence.exits.length)) {
      return this.#moveOne(vcpu, pc, sequence.exits.map(Gva), async () => this.#threads.continueOne(vcpu));
    }
    for (let [left, at] = [longestSequence, pc]; ; left--) {
      const points = isUnwatched ? 'none' : 'watches';
      const event = await this.#moveOne(vcpu, at, points, () => this.#threads.stepOne(vcpu));
      const isWithin =
        sequence !== undefined && event.kind === 'step' && event.pc - pc < sequence.length && event.pc > pc;
      if (!isWithin || left <= 0) return event;
      at = event.pc;
    }
  }

  /** Lets one vCPU, which stands at `at`, step or run to the breakpoints at `points`. Again where the stub told of a stop from
   *  before: of several vCPUs that arrive at once it reports one, and the others when they are not to run. */
  async #moveOne(
    vcpu: Vcpu,
    at: bigint,
    points: 'watches' | 'none' | readonly Gva[],
    packet: () => Promise<string>,
  ): Promise<StopEvent> {
    for (let left = this.vcpus.length; ; left--) {
      const reply = await this.#move(points, await packet());
      const isOther = this.#isOfAnother(reply, vcpu);
      if (isOther) {
        const pc = await this.#pc(vcpu);
        if (typeof points === 'string' ? pc !== at : points.includes(pc)) {
          // It has got there all the same, and its own stop is still to come.
          this.#unfinished.add(vcpu);
          return { kind: 'step', vcpu, pc };
        }
      } else {
        const event = await this.#explain(reply, vcpu);
        const isStill = event?.kind === 'step' && event.pc === at && !(await this.#mayStay(vcpu, at));
        if (event && !isStill) return event;
      }
      if (left > 0) continue;
      if (isOther) throw new SessionError(`The remote stub does not step vCPU ${vcpu}: it tells of others.`);
      throw new TargetError(`vCPU ${vcpu} does not get on from ${hex(at)}.`);
    }
  }

  /** Whether a stop of a vCPU that was not to run is told. */
  #isOfAnother(reply: StopReply, stepped: Vcpu): boolean {
    if (reply.kind === 'exited' || reply.signal !== Signal.trap || reply.thread === undefined) return false;
    return this.vcpus.length > 1 && this.#threads.of(reply.thread) !== stepped;
  }

  /** Whether the instruction at `pc` can lead to itself. */
  async #mayStay(vcpu: Vcpu, pc: bigint): Promise<boolean> {
    const [word] = await this.#instructionsAt(vcpu, pc, 1);
    if (word === undefined || isAArch32(await this.#registers.one(vcpu, 'pstate'))) return true;
    const { kind, displacement = 0n } = decodeWord(word);
    return kind !== 'other' && displacement === 0n;
  }

  /** Whether an exclusive sequence is to be run to breakpoints where it is left. An emulator that holds interrupts off in its
   *  steps keeps a vCPU's reservation over them; a real one loses it to the exception of each (Arm ARM, B2.17). */
  #losesReservations(exits: number): boolean {
    const { stepsWithoutInterrupts, hasVCont } = this.stub;
    return !stepsWithoutInterrupts && hasVCont && exits <= this.capabilities.hardwareBreakpoints;
  }

  async #instructionsAt(vcpu: Vcpu, pc: bigint, count: number): Promise<readonly number[]> {
    try {
      const bytes = await this.#memory.asAccessed(vcpu).read(Gva(pc), 4 * count);
      const view = new DataView(bytes.buffer, bytes.byteOffset);
      return Array.from({ length: count }, (_, index) => view.getUint32(4 * index, true));
    } catch (error) {
      // The step takes the instruction abort, or the code ends here: it is stepped as any other.
      if (error instanceof TargetError) return [];
      throw error;
    }
  }

  /** Lets vCPUs run as a packet says, with stop points or breakpoints of a step's own in the stub, until the guest has stopped
   *  again. */
  async #move(points: 'all' | 'watches' | 'none' | readonly Gva[], packet: string): Promise<StopReply> {
    try {
      await this.#memory.leavePhysical();
      if (typeof points !== 'string') await this.#points.plantEnds(points);
      else if (points !== 'none') await this.#points.plant(points);
      this.#forget();
      if (this.#interrupted) this.#interruptSoon();
      const answer = await this.connection.run(packet);
      const reply = parseStopReply(answer);
      if (!reply)
        throw new SessionError(`The remote stub answers \`${answer.slice(0, 40)}\` when the guest is to run.`);
      if (reply.kind === 'exited') this.#end(reply.status);
      return reply;
    } finally {
      this.#forget();
      if (this.connection.isOpen && !this.#ended) await this.#lift();
    }
  }

  /** It came while the stop points were put in; the request to run is the next thing that is sent. */
  #interruptSoon(): void {
    queueMicrotask(() => this.connection.interrupt());
  }

  async #lift(): Promise<void> {
    const vcpu = this.vcpus[0] ?? 0;
    await this.#points.lift(async (address) => {
      const [word] = await this.#instructionsAt(vcpu, address, 1);
      // BRK, whatever its immediate: stubs choose their own. Where nothing can be read it may be there still.
      return word === undefined || brkImmediate(word) !== undefined;
    });
  }

  #forget(): void {
    this.#registers.invalidate();
    this.#memory.forget();
    this.#threads.forget();
  }

  async #pc(vcpu: Vcpu): Promise<Gva> {
    return Gva(await this.#registers.one(vcpu, 'pc'));
  }

  /** The stop event of a stop reply; undefined when the guest is to go on. `stepped`: the vCPU that was to step. */
  async #explain(reply: StopReply, stepped?: Vcpu): Promise<StopEvent | undefined> {
    if (reply.kind === 'exited') return { kind: 'exited', status: reply.status };
    const { signal, thread, watch } = reply;
    const isTrap = signal === Signal.trap;
    const isStep = isTrap && watch === undefined && stepped !== undefined;
    const told = thread === undefined || isStep ? stepped : this.#threads.of(thread);
    const vcpu = told ?? this.vcpus[0] ?? 0;
    const pc = await this.#pc(vcpu);
    if (isStep) return { kind: 'step', vcpu, pc };
    const wasUnfinished = isTrap && this.#unfinished.delete(vcpu);
    if (watch) {
      const ids = this.#points.watchNear(watch.address, watch.access);
      if (ids.length > 0) return { kind: 'watchpoint', vcpu, pc, accessed: watch.address, ids };
    } else if (isTrap) {
      const ids = this.#points.executionAt(pc);
      if (ids.length > 0) return { kind: 'breakpoint', vcpu, pc, ids };
    }
    if (isTrap && !this.#interrupted && (wasUnfinished || this.#points.wasLately(pc))) return undefined;
    if (signal === Signal.int || this.#interrupted) {
      if (stepped !== undefined) this.#unfinished.add(stepped);
      return this.#interruption(vcpu);
    }
    return { kind: 'unknown', vcpu, detail: `signal ${signal} from the remote stub at ${hex(pc)}` };
  }

  #interruption(vcpu = this.vcpus[0] ?? 0): StopEvent {
    return { kind: 'interrupted', vcpu };
  }

  #report(events: readonly StopEvent[]): readonly StopEvent[] {
    for (const event of events) {
      if (event.kind === 'breakpoint' || event.kind === 'step')
        this.#standing.set(event.vcpu, { pc: event.pc, watch: false });
      if (event.kind === 'watchpoint') this.#standing.set(event.vcpu, { pc: event.pc, watch: true });
    }
    return events;
  }

  async detach(): Promise<void> {
    // That the connection is lost was told by `exited`.
    if (this.#detached || this.#ended || !this.connection.isOpen) return;
    this.#detached = true;
    let failure = await this.#settle();
    if (this.#ended) return;
    const { process, sstepBefore } = this.stub;
    // Of what fails, nothing keeps the guest from being let go.
    const steps = [
      () => this.#memory.leavePhysical(),
      async () => {
        if (sstepBefore === undefined || (await setSstep(this.connection, sstepBefore))) return;
        throw new TargetError('Cannot detach: the remote stub does not take back its flags of steps.');
      },
      () => this.connection.command(process === undefined ? 'D' : `D;${process}`, 'Cannot detach'),
    ];
    for (const step of steps) await step().catch((error: unknown) => (failure ??= error));
    this.connection.close();
    if (failure !== undefined && !this.#ended) throw asSessionError(failure);
  }

  async kill(): Promise<void> {
    if (this.#detached || this.#ended) return;
    this.#detached = true;
    await this.#settle();
    if (this.#ended) return;
    this.#isKilling = true;
    try {
      // It has no answer but the end of the VM (GDB manual, E.2, `k`).
      await this.connection.kill();
    } catch (error) {
      if (this.#ended) return;
      this.#settleExit.reject(asSessionError(error));
      throw error;
    }
    this.#end(untold);
  }

  /** Ends what is under way. Returns how that failed, if what was in the guest may have been left there. */
  async #settle(): Promise<unknown> {
    let failure: unknown;
    while (this.#pending !== undefined) {
      this.interrupt();
      failure = await this.#pending;
    }
    return failure instanceof TargetError ? undefined : failure;
  }

  #end(status: ExitStatus): void {
    this.#ended = status;
    this.connection.close();
    this.#settleExit.resolve(status);
  }

  /** An end of the VM that was told while something else was asked is what there is to say. */
  async #track(attempt: Promise<readonly StopEvent[]>): Promise<readonly StopEvent[]> {
    const run = attempt.catch((failure: unknown) => {
      if (this.#ended === undefined) throw failure;
      return [{ kind: 'exited', status: this.#ended } as const];
    });
    this.#pending = run.then(
      () => undefined,
      (failure: unknown) => failure,
    );
    try {
      return await run;
    } finally {
      this.#pending = undefined;
      this.#interrupted = false;
    }
  }
}

const asSessionError = (failure: unknown): SessionError =>
  failure instanceof SessionError ? failure : new SessionError(messageOf(failure), { cause: failure });
