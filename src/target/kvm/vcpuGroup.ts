// All vCPU threads of one VMM together: let some run, and get every one back to its parking place.
import { SessionError, UserError } from '../../base/errors.ts';
import type { ExitStatus, Vcpu } from '../target.ts';
import type { ExitTrap } from './exitTrap.ts';
import type { WaitStatus } from './ffi.ts';
import type { Journal } from './journal.ts';
import { reap, Tracer } from './tracer.ts';
import type { VcpuThread } from './vcpuThread.ts';

/** A debug exit of a parked vCPU: ESR_EL2 and FAR_EL2 as KVM reports them. */
export interface DebugExit {
  readonly vcpu: Vcpu;
  readonly hsr: number;
  readonly far: bigint;
}

export type RunOutcome =
  | { readonly kind: 'debug'; readonly exit: DebugExit }
  | { readonly kind: 'interrupted' }
  | { readonly kind: 'exited'; readonly status: ExitStatus };

/** Decides about a debug exit while other vCPUs may still run: `resume` when the exit was served on its own thread (the
 *  guest's trap was given back to it), `stop` to stop all and report it. */
export type ServeExit = (exit: DebugExit) => Promise<'stop' | 'resume'>;

export const exitStatus = (status: WaitStatus): ExitStatus => ({
  code: status.kind === 'exited' ? status.code : undefined,
  signal: status.kind === 'signalled' ? status.signal : undefined,
});

/** A vCPU thread comes to KVM_RUN within microseconds, unless its VMM holds it back. */
const patienceMs = 15_000;
/** Who lets the VMM go has nothing better to do: a host may be short of CPUs. */
const lastPatienceMs = 120_000;
const notRunning =
  'A vCPU of the VM does not run: it is paused, or was not started yet. Let it run in its VMM (QEMU: "cont"), and attach again.';

export class VcpuGroup {
  readonly tracer = new Tracer((tid, status) => this.#onDeath(tid, status));
  readonly #threads = new Map<number, VcpuThread>();
  #interruptRequested = false;
  #running = false;
  /** Threads are held where they stop, not only at KVM_RUN. */
  #holdsAnywhere = false;
  #exit: ExitStatus | undefined;
  #announceExit: (status: ExitStatus) => void = () => {};
  /** Resolves when the VMM ended, whoever ended it and whatever was going on. */
  readonly exited = new Promise<ExitStatus>((resolve) => {
    this.#announceExit = resolve;
  });

  /** `isChild`: the VMM was started by us, so that its own exit status can be had, not just its threads'. */
  constructor(
    readonly pid: number,
    readonly trap: ExitTrap,
    private readonly isChild: boolean,
    readonly journal: Journal,
  ) {}

  add(thread: VcpuThread): void {
    this.#threads.set(thread.tid, thread);
    this.tracer.watch(thread.tid);
  }

  /** By vCPU index. */
  get threads(): readonly VcpuThread[] {
    return [...this.#threads.values()].sort((a, b) => (a.index ?? 0) - (b.index ?? 0));
  }

  get exitStatus(): ExitStatus | undefined {
    return this.#exit;
  }

  threadOf(vcpu: Vcpu): VcpuThread | undefined {
    return this.threads.find((thread) => thread.index === vcpu);
  }

  /** Ends the pending `run` with an `interrupted` outcome; remembered when the run is just about to begin. */
  interrupt(): void {
    this.#interruptRequested = true;
    if (this.#running) this.#interruptAll();
  }

  #interruptAll(): void {
    for (const thread of this.#threads.values()) if (thread.state === 'running') thread.interrupt();
  }

  /** Lets `chosen` run until a debug exit that `serve` wants, an interrupt or the end of the VMM, then parks all. */
  async run(chosen: readonly VcpuThread[], serve: ServeExit): Promise<readonly RunOutcome[]> {
    this.#running = true;
    try {
      for (const thread of chosen) this.#resume(thread);
      return await this.#collect(serve, this.#takeInterrupt());
    } catch (thrown) {
      await this.#stopAll();
      throw thrown;
    } finally {
      this.#running = false;
      this.#interruptRequested = false;
    }
  }

  /** Parks the vCPU threads after they were seized: `count` of them, found among all that were added; the others are let
   *  go. UserError when one does not come to KVM_RUN: the VM is paused, then. */
  async gather(count: number): Promise<void> {
    await this.#stopWithin(patienceMs, count, () => new UserError(notRunning));
    const others = this.threads.filter(({ state }) => state !== 'parked').map(({ tid }) => tid);
    for (const tid of others) this.#threads.delete(tid);
    this.tracer.release(...others);
  }

  /** Holds every thread, after all were seized, wherever it is in its VMM's own code: one that waits there for what never
   *  comes makes system calls for us all the same. SessionError when one does not stop. */
  async holdAnywhere(): Promise<void> {
    this.#holdsAnywhere = true;
    const running = (): string => `${this.threads.filter(({ state }) => state === 'running').map(({ tid }) => tid)}`;
    const failure = (): Error => new SessionError(`vCPU threads of the VMM do not stop: ${running()}`);
    await this.#stopWithin(lastPatienceMs, this.#threads.size, failure);
  }

  async #stopWithin(patience: number, count: number, failure: () => Error): Promise<void> {
    this.#running = true;
    this.#interruptAll();
    const found = (): number => this.threads.filter((thread) => thread.state === 'parked').length;
    const impatient = setTimeout(() => this.tracer.fail(failure()), patience);
    try {
      while (found() < count && this.#isUnderWay()) await this.#advance(() => true);
    } finally {
      clearTimeout(impatient);
      this.#running = false;
    }
  }

  /** Gives up on threads that are in any state: parked ones are let go now, the others when they stop next. */
  abandon(): void {
    const running: number[] = [];
    for (const thread of this.threads) {
      this.trap.disarm(thread);
      if (this.#exit === undefined) thread.endSettle();
      if (thread.state === 'parked') thread.detach();
      else running.push(thread.tid);
    }
    this.tracer.release(...running);
    this.close();
  }

  /** Parks what still runs, whatever it stopped for. */
  async #stopAll(): Promise<void> {
    this.#interruptAll();
    while (this.#isUnderWay() && this.#threads.size > 0) await this.#advance(() => true);
  }

  #takeInterrupt(): boolean {
    if (this.#interruptRequested) this.#interruptAll();
    return this.#interruptRequested;
  }

  #resume(thread: VcpuThread): void {
    this.trap.beforeResume(thread, this.journal);
    thread.resume(this.trap.request);
  }

  async #collect(serve: ServeExit, stopRequested: boolean): Promise<readonly RunOutcome[]> {
    const outcomes: RunOutcome[] = [];
    let stopping = stopRequested;
    while (this.#isUnderWay()) {
      const thread = await this.#advance(() => {
        stopping ||= this.#interruptRequested;
        return stopping;
      });
      if (!thread) continue;
      const exit = { vcpu: thread.index ?? 0, ...thread.debugExit };
      const verdict = await serve(exit);
      // An interrupt that came meanwhile met a thread that did not run.
      stopping ||= this.#interruptRequested;
      if (verdict === 'resume') {
        if (!stopping) this.#resume(thread);
        continue;
      }
      outcomes.push({ kind: 'debug', exit });
      if (!stopping) {
        stopping = true;
        this.#interruptAll();
      }
    }
    if (this.#exit) return [...outcomes, { kind: 'exited', status: this.#exit }];
    return outcomes.length > 0 ? outcomes : [{ kind: 'interrupted' }];
  }

  /** Takes one event and moves its thread on; returns the thread when it is parked with a debug exit to be looked at. */
  async #advance(isStopping: () => boolean): Promise<VcpuThread | undefined> {
    const { tid, status } = await this.tracer.next();
    const thread = this.#threads.get(tid);
    if (!thread || status.kind !== 'stopped') return undefined;
    try {
      return this.#handle(thread, status, isStopping()) ? thread : undefined;
    } catch (thrown) {
      this.tracer.putBack({ tid, status }); // it is still stopped, and whoever lets it go must find that out
      throw thrown;
    }
  }

  /** Some thread runs, or all are gone and the process is about to be. */
  #isUnderWay(): boolean {
    if (this.#exit) return false;
    return this.#threads.size === 0 || this.threads.some((thread) => thread.state === 'running');
  }

  #onDeath(tid: number, status: WaitStatus): void {
    const thread = this.#threads.get(tid);
    if (thread) {
      thread.state = 'gone';
      this.trap.disarm(thread);
      this.#threads.delete(tid);
    }
    // Without the process's own status that of the last vCPU thread stands for it: exit_group gives all the same.
    const isEnd = this.isChild ? tid === this.pid : thread !== undefined && this.#threads.size === 0;
    if (!isEnd || this.#exit) return;
    this.#exit = exitStatus(status);
    this.#announceExit(this.#exit);
  }

  /** Deals with one stop of a running thread: lets it go on, takes it a step nearer to its parking place, or parks it.
   *  True when it is parked with a debug exit to be looked at. */
  #handle(thread: VcpuThread, status: WaitStatus & { kind: 'stopped' }, stopping: boolean): boolean {
    const stop = thread.classify(status);
    if (stop.kind === 'syscall') {
      if (!stop.entry) return this.#handleSyscallExit(thread, stopping);
      if (thread.entersRun && stopping && thread.kvmRun !== undefined) thread.beginSettle();
      thread.proceed('SYSCALL');
      return false;
    }
    if (stop.kind === 'group') {
      // Stopped by the user's SIGSTOP: it stays so, and a request to stop reaches it there.
      if (!stopping) {
        thread.proceed('LISTEN');
        return false;
      }
    }
    const signal = stop.kind === 'signal' ? stop.signal : undefined;
    const frame = thread.locate();
    const known = thread.fd !== undefined && thread.kvmRun !== undefined;
    if (frame === 'debugExit' && known) {
      thread.park(signal);
      return true;
    }
    if (frame === 'interrupted' && known) {
      thread.endSettle();
      if (stopping) {
        thread.park(signal);
      } else if (signal !== undefined) {
        thread.proceed(this.trap.request, signal); // the VMM's own kick: it shall see EINTR
      } else {
        thread.park();
        this.#resume(thread);
      }
      return false;
    }
    if (frame === 'parked' && known) {
      if (stopping) {
        thread.park(signal);
      } else {
        thread.park();
        if (signal !== undefined) thread.unpark();
        thread.proceed(this.trap.request, signal);
      }
      return false;
    }
    if (this.#holdsAnywhere && !thread.isInMailbox) {
      thread.hold(signal);
      return false;
    }
    // In the VMM's own code: it goes on until it enters KVM_RUN, where it can be parked.
    thread.proceed(stopping ? 'SYSCALL' : this.trap.request, signal);
    return false;
  }

  #handleSyscallExit(thread: VcpuThread, stopping: boolean): boolean {
    const frame = thread.locate();
    const settled = frame === 'interrupted' && (stopping || thread.isSettling);
    if (frame !== 'debugExit' && !settled) {
      thread.endSettle();
      thread.proceed(stopping ? 'SYSCALL' : this.trap.request);
      return false;
    }
    thread.endSettle();
    const signal = thread.leaveSyscallStop();
    if (thread.state === 'gone') return false;
    thread.locate();
    thread.park(signal);
    if (settled && !stopping) this.#resume(thread);
    return frame === 'debugExit';
  }

  /** Takes the trap off and lets every thread go as if it had never been held. Precondition: all are parked. */
  detach(): void {
    for (const thread of this.threads) {
      this.trap.disarm(thread);
      thread.detach();
    }
    this.close();
    if (this.isChild) reap(this.pid);
  }

  close(): void {
    this.tracer.close();
    this.#threads.clear();
  }
}
