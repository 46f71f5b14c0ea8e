// The lab of this window: booted by the first session that wants it, and there for the others until the window closes.
import type { LabReady } from '../../lab/messages.ts';
import type { LabProgram, RunningLab, Step } from './labProgram.ts';

export class WindowLab {
  readonly #program: Pick<LabProgram, 'run'>;
  /** Booting or running. */
  #lab: Promise<RunningLab> | undefined;
  #isReady = false;

  constructor(program: Pick<LabProgram, 'run'>) {
    this.#program = program;
  }

  /** A session can start at once. */
  get isReady(): boolean {
    return this.#isReady;
  }

  /** Boots the lab, unless it is there; who comes while it boots waits for the same. */
  async ready(step: Step, signal: AbortSignal): Promise<LabReady> {
    this.#lab ??= this.#boot(step, signal);
    return (await this.#lab).ready;
  }

  async #boot(step: Step, signal: AbortSignal): Promise<RunningLab> {
    const gone = (): void => {
      this.#lab = undefined;
      this.#isReady = false;
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
    this.#lab?.then(
      (lab) => lab.stop(),
      () => undefined,
    );
  }
}
