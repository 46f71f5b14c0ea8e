// The packaged lab, dist/lab.js, as a process for each thing that is asked of it; lab/messages.ts is what it tells.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { LabMessage, LabPlan, LabPrepared, LabReady } from '../../lab/messages.ts';

/** The lab says why it could not; the first line is the sentence, the rest is what programs printed. */
export class LabError extends Error {}

/** Told what is being done. */
export type Step = (text: string) => void;

export interface RunningLab {
  readonly ready: LabReady;
  /** Resolves when it is gone, with what it said of why; empty when nothing. */
  readonly ended: Promise<string>;
  stop(): void;
}

type Final = Exclude<LabMessage, { is: 'step' | 'failed' }>;

export class LabProgram {
  readonly #path: string;

  /** `path`: dist/lab.js. */
  constructor(path: string) {
    this.#path = path;
  }

  /** What a lab lacks, and what would be fetched for it. */
  async plan(): Promise<LabPlan> {
    return (await this.#ask('plan', () => undefined).told) as LabPlan;
  }

  /** Fetches what is not in the cache. Rejects with the signal's reason when it is aborted. */
  async prepare(step: Step, signal: AbortSignal): Promise<LabPrepared> {
    return (await this.#ask('prepare', step, signal).told) as LabPrepared;
  }

  /** Boots a lab, which runs until it is stopped or this process ends. `signal` counts as long as it boots. */
  async run(step: Step, signal: AbortSignal): Promise<RunningLab> {
    const { told, ended, stop } = this.#ask('run', step, signal);
    return { ready: (await told) as LabReady, ended, stop };
  }

  #ask(what: string, step: Step, signal?: AbortSignal) {
    // On a desktop the extension host is Electron, which this makes plain Node; elsewhere it is Node.
    const env = { ...process.env, ELECTRON_RUN_AS_NODE: '1' };
    const child = spawn(process.execPath, [this.#path, what], { env, stdio: ['pipe', 'pipe', 'pipe'] });
    // It ends when its standard input does: also when this process is killed.
    const stop = (): void => void child.stdin.end();
    child.stdin.on('error', () => undefined);
    let complaint = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      complaint = (complaint + text).slice(-4000);
    });
    let failure: string | undefined;
    const ended = new Promise<string>((resolve) => {
      child.once('close', () => resolve(failure ?? complaint)).once('error', ({ message }) => resolve(message));
    });
    let abort = (): void => undefined;
    const told = new Promise<Final>((resolve, reject) => {
      abort = () => {
        stop();
        reject(signal?.reason);
      };
      if (signal?.aborted) abort();
      signal?.addEventListener('abort', abort, { once: true });
      child.once('error', (error) => reject(new LabError(`The lab's program cannot be started.\n${error.message}`)));
      child.once('close', () => reject(new LabError(`The lab ended without a word.\n${complaint}`.trim())));
      createInterface({ input: child.stdout }).on('line', (line) => {
        const message = messageOf(line);
        if (message === undefined) {
          stop();
          reject(new LabError(`The lab said what is not understood.\n${line.slice(0, 1000)}`));
        } else if (message.is === 'step') step(message.text);
        else if (message.is === 'failed') {
          failure = message.message;
          reject(new LabError(message.message));
        } else resolve(message);
      });
    }).finally(() => signal?.removeEventListener('abort', abort));
    return { told, ended, stop };
  }
}

/** Undefined where it is none: a program that the lab runs has printed into it. */
function messageOf(line: string): LabMessage | undefined {
  try {
    const message: unknown = JSON.parse(line);
    return typeof message === 'object' && message !== null && 'is' in message ? (message as LabMessage) : undefined;
  } catch {
    return undefined;
  }
}
