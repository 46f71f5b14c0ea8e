// The stops and deaths of traced threads, in the order they are found. SIGCHLD says that there is something to wait for;
// each known thread is then asked by its own id, never by -1, which would take libuv's children.
import { SessionError } from '../../base/errors.ts';
import { EventLoopTurns } from '../../base/eventLoop.ts';
import { NativeBuffer, PtraceEvent, ptrace, SystemError, Wait, type WaitStatus, wait } from './ffi.ts';
import { processExists } from './procfs.ts';

export interface ThreadEvent {
  readonly tid: number;
  readonly status: WaitStatus;
}

const SIGTRAP = 5;

function unlessGone(request: () => void): void {
  try {
    request();
  } catch (thrown) {
    if (!(thrown instanceof SystemError && thrown.code === 'ESRCH')) throw thrown;
  }
}

/** Waits for what only a signal handler brings about: such a handler does not keep the process alive, a timer does. */
export async function keepingAlive<Value>(promise: Promise<Value>): Promise<Value> {
  const alive = setInterval(() => {}, 2 ** 30);
  try {
    return await promise;
  } finally {
    clearInterval(alive);
  }
}

type Stop = WaitStatus & { readonly kind: 'stopped' };

const eventMessage = new NativeBuffer(8);

/** The thread that a thread has just made, which is traced as its maker is (PTRACE_O_TRACECLONE). Precondition: stopped. */
export function newThreadOf(tid: number): number {
  ptrace('GETEVENTMSG', tid, 0, eventMessage.address);
  return Number(eventMessage.view.getBigUint64(0, true));
}

/** Takes the exit status of a child that is not traced any more, once it ends, so that it does not stay a zombie. */
export function reap(child: number): void {
  const onChild = (): void => {
    const status = wait(child, Wait.NOHANG);
    if (status?.kind !== 'stopped' && (status || !processExists(child))) process.off('SIGCHLD', onChild);
  };
  process.on('SIGCHLD', onChild);
}

export class Tracer {
  readonly #tids = new Set<number>();
  readonly #queue: ThreadEvent[] = [];
  /** Threads to be let go at their next stop. */
  readonly #releasing = new Set<number>();
  #wake: (() => void) | undefined;
  #failure: Error | undefined;
  #closed = false;
  readonly #turns = new EventLoopTurns();
  #lookingSoon = false;
  readonly #onChild = (): void => {
    if (this.#wake) this.#pump();
    else this.#lookSoon();
  };

  /** `onDeath` hears of every watched thread or child that ended, in a turn of the event loop or sooner, whether or not anybody waits. */
  constructor(private readonly onDeath: (tid: number, status: WaitStatus) => void) {
    process.on('SIGCHLD', this.#onChild);
  }

  /** Most of what SIGCHLD tells of has been dealt with by then: each injection ends in a stop. */
  #lookSoon(): void {
    if (this.#lookingSoon) return;
    this.#lookingSoon = true;
    setImmediate(() => {
      this.#lookingSoon = false;
      this.#pump();
    });
  }

  /** Starts to wait for a thread or child. Idempotent. */
  watch(tid: number): void {
    this.#tids.add(tid);
  }

  /** Stops waiting for it; what it already reported is dropped. */
  forget(tid: number): void {
    this.#tids.delete(tid);
    for (let index = this.#queue.length - 1; index >= 0; index--) {
      if (this.#queue[index]?.tid === tid) this.#queue.splice(index, 1);
    }
  }

  /** Detaches from threads at their next stop of their own: interrupting one now could fail a system call it sleeps in. */
  release(...tids: readonly number[]): void {
    for (const tid of tids) this.#releasing.add(tid);
    // A stop that was waited for already is not reported again.
    const stops = this.#queue.filter(({ tid, status }) => this.#releasing.has(tid) && status.kind === 'stopped');
    for (const { tid, status } of stops) {
      this.#queue.splice(
        this.#queue.findIndex((event) => event.tid === tid),
        1,
      );
      this.#take(tid, status);
    }
    this.#pump();
  }

  /** Detaches from the threads that did not stop by themselves so far. */
  #releaseNow(): void {
    this.#pump();
    for (const tid of this.#releasing) {
      unlessGone(() => ptrace('INTERRUPT', tid, 0, 0));
      const status = wait(tid, Wait.ALL);
      if (status?.kind === 'stopped') this.#letGo(tid, status);
    }
    this.#releasing.clear();
  }

  /** Detaches from a stopped thread and gives it the signal it stopped for, if that is one of its own. */
  #letGo(tid: number, status: Stop): void {
    if (status.event === PtraceEvent.CLONE) unlessGone(() => this.#releasing.add(newThreadOf(tid)));
    const own = status.event === 0 && (status.signal & 0x7f) !== SIGTRAP;
    unlessGone(() => ptrace('DETACH', tid, 0, own ? status.signal : 0));
  }

  #take(tid: number, status: WaitStatus): void {
    if (status.kind !== 'stopped') {
      this.#tids.delete(tid);
      this.#releasing.delete(tid);
      this.onDeath(tid, status);
    } else if (this.#releasing.delete(tid)) {
      this.#tids.delete(tid);
      this.#letGo(tid, status);
      return;
    }
    this.#queue.push({ tid, status });
  }

  #pump(): void {
    const asked = new Set<number>();
    const ask = (tid: number): void => {
      if (asked.has(tid)) return;
      asked.add(tid);
      const status = wait(tid, Wait.NOHANG | Wait.ALL);
      if (status) this.#take(tid, status);
    };
    for (const tid of this.#tids) ask(tid);
    for (const tid of this.#releasing) ask(tid); // letting one go may add the thread it made
    if (this.#queue.length > 0) this.#wake?.();
  }

  /** Ends the wait of `next` with an error. */
  fail(failure: Error): void {
    this.#failure = failure;
    this.#wake?.();
  }

  /** The next event of any watched thread. One caller at a time. SessionError once closed. */
  async next(): Promise<ThreadEvent> {
    for (;;) {
      if (this.#queue.length === 0) this.#pump();
      // Threads on other CPUs may stop again before they are asked for, time and again.
      if (this.#turns.isOver && this.#queue.length > 0) {
        await this.#turns.next();
        continue;
      }
      const event = this.#queue.shift();
      if (event) return event;
      if (this.#failure) throw this.#failure;
      if (this.#closed) throw new SessionError('The debugger let go of the VMM.');
      // A SIGCHLD raised since the pump is handled in a later turn of the event loop, which finds `#wake` set. One raised
      // before is nothing to wait for: the pump has found what it told of.
      await keepingAlive(
        new Promise<void>((resolve) => {
          this.#wake = resolve;
        }),
      );
      this.#wake = undefined;
      this.#turns.began();
    }
  }

  /** Gives back an event that could not be dealt with. */
  putBack(event: ThreadEvent): void {
    this.#queue.unshift(event);
  }

  /** The next event of one thread, blocking the process: only where it is microseconds away. `undefined` when the thread
   *  cannot be waited for any more. */
  nextOf(tid: number): WaitStatus | undefined {
    const index = this.#queue.findIndex((event) => event.tid === tid);
    if (index >= 0) return this.#queue.splice(index, 1)[0]?.status;
    const status = wait(tid, Wait.ALL);
    if (status && status.kind !== 'stopped') this.#take(tid, status);
    return status;
  }

  close(): void {
    process.off('SIGCHLD', this.#onChild);
    this.#releaseNow();
    this.#tids.clear();
    this.#queue.length = 0;
    this.#closed = true;
    this.#wake?.();
  }
}
