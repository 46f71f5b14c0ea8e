// Whose the lab is: the adapter in it serves one session at a time, and who connects meanwhile waits without a word.
import type { DebugAdapterTracker, DebugAdapterTrackerFactory, DebugSession } from 'vscode';

export class LabSlot implements DebugAdapterTrackerFactory {
  readonly #running = new Set<string>();
  #asked = 0;
  /** The port is given to a session that VS Code has not started yet: `asked` had asked by then. */
  #promised: { readonly port: number; readonly asked: number } | undefined;
  #port: number | undefined;

  /** A session asks for the lab, before it waits for it. Returns what takes the lab of this port for it: false when
   *  another has it. */
  ask(): (port: number) => boolean {
    const turn = ++this.#asked;
    return (port) => {
      // What is known of another lab is over with that.
      if (port !== this.#port) this.#running.clear();
      const promised = this.#promised?.port === port ? this.#promised : undefined;
      if (this.#running.size > 0) return false;
      if (promised !== undefined) {
        // VS Code need not start what it asked for, and tells nobody: one that comes later is refused only once.
        if (turn > promised.asked) this.#promised = undefined;
        return false;
      }
      this.#port = port;
      this.#promised = { port, asked: this.#asked };
      return true;
    };
  }

  /** The lab is gone, and with it its session. */
  clear(): void {
    this.#running.clear();
    this.#promised = undefined;
  }

  /** VS Code is about to connect. */
  createDebugAdapterTracker({ id, configuration }: DebugSession): DebugAdapterTracker | undefined {
    if (configuration.lab !== true || configuration.debugServer !== this.#port) return undefined;
    this.#promised = undefined;
    this.#running.add(id);
    const end = (): void => void this.#running.delete(id);
    return { onWillStopSession: end, onExit: end, onError: end };
  }
}
