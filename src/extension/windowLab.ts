// The lab of this window: booted by the first session that wants it, and there for the later ones until the window closes.
import type { LabReady } from '../../lab/messages.ts';
import type { LabProgram, RunningLab, Step } from './labProgram.ts';

export class WindowLab {
  readonly #program: Pick<LabProgram, 'run'>;
  /** Booting or running. */
  #lab: Promise<RunningLab> | undefined;
  #isReady = false;
  #isStopped = false;
  readonly #onGone: (why: string | undefined) => void;

  /** `onGone` is told why a lab that ran has ended, unless it was stopped here. */
  constructor(program: Pick<LabProgram, 'run'>, onGone: (why: string | undefined) => void = () => undefined) {
    this.#program = program;
    this.#onGone = onGone;
  }

  /** A session can start at once. */
  get isReady(): boolean {
    return this.#isReady;
  }

  /** Boots the lab, unless it is there; who comes while it boots waits for the same. Who has it booted and aborts `signal`
   *  ends the boot; another ends only its own wait. */
  async ready(step: Step, signal: AbortSignal): Promise<LabReady> {
    this.#lab ??= this.#boot(step, signal);
    return (await unlessAborted(this.#lab, signal)).ready;
  }

  async #boot(step: Step, signal: AbortSignal): Promise<RunningLab> {
    const gone = (why?: string): void => {
      this.#lab = undefined;
      this.#isReady = false;
      this.#onGone(this.#isStopped ? undefined : why);
    };
    try {
      const lab = await this.#program.run(step, signal);
      this.#isReady = true;
      void lab.ended.then(gone);
      return lab;
    } catch (error) {
      gone();
      throw error;
    }
  }

  dispose(): void {
    this.#isStopped = true;
    this.#lab?.then(
      (lab) => lab.stop(),
      () => undefined,
    );
  }
}

async function unlessAborted<Value>(promise: Promise<Value>, signal: AbortSignal): Promise<Value> {
  const listening = new AbortController();
  const aborted = new Promise<never>((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener('abort', () => reject(signal.reason), { once: true, signal: listening.signal });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    listening.abort();
  }
}
