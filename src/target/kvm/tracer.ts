// The stops and deaths of traced threads, in the order they are found. SIGCHLD says that there is something to wait for;
// each known thread is then asked by its own id, never by -1, which would take libuv's children.
import { SessionError } from '../../base/errors.ts';
import { ptrace, SystemError, Wait, type WaitStatus, wait } from './ffi.ts';
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

/** Detaches from a stopped thread and gives it the signal it stopped for, if that is one of its own. */
function letGo(tid: number, status: WaitStatus & { kind: 'stopped' }): void {
  const own = status.event === 0 && (status.signal & 0x7f) !== SIGTRAP;
  unlessGone(() => ptrace('DETACH', tid, 0, own ? status.signal : 0));
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
  #closed = false;
  readonly #onChild = (): void => this.#pump();

  /** `onDeath` hears of every watched thread or child that ended, at once, whether or not anybody waits. */
  constructor(private readonly onDeath: (tid: number, status: WaitStatus) => void) {
    process.on('SIGCHLD', this.#onChild);
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

  /** Detaches from a thread at its next stop of its own: interrupting it now could fail a system call it sleeps in. */
  release(tid: number): void {
    this.#releasing.add(tid);
    this.#pump();
  }

  /** Detaches from the threads that did not stop by themselves so far. */
  #releaseNow(): void {
    for (const tid of this.#releasing) {
      unlessGone(() => ptrace('INTERRUPT', tid, 0, 0));
      const status = wait(tid, Wait.ALL);
      if (status?.kind === 'stopped') letGo(tid, status);
    }
    this.#releasing.clear();
  }

  #take(tid: number, status: WaitStatus): void {
    if (status.kind !== 'stopped') {
      this.#tids.delete(tid);
      this.#releasing.delete(tid);
      this.onDeath(tid, status);
    } else if (this.#releasing.delete(tid)) {
      letGo(tid, status);
      return;
    }
    this.#queue.push({ tid, status });
  }

  #pump(): void {
    for (const tid of new Set([...this.#tids, ...this.#releasing])) {
      const status = wait(tid, Wait.NOHANG | Wait.ALL);
      if (status) this.#take(tid, status);
    }
    if (this.#queue.length > 0) this.#wake?.();
  }

  /** The next event of any watched thread. One caller at a time. SessionError once closed. */
  async next(): Promise<ThreadEvent> {
    for (;;) {
      if (this.#queue.length === 0) this.#pump();
      const event = this.#queue.shift();
      if (event) return event;
      if (this.#closed) throw new SessionError('The debugger let go of the VMM.');
      // A SIGCHLD raised since the pump is handled in a later turn of the event loop, which finds `#wake` set.
      await keepingAlive(
        new Promise<void>((resolve) => {
          this.#wake = resolve;
        }),
      );
      this.#wake = undefined;
    }
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
