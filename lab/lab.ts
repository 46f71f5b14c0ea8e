/**
 * The lab: an emulated arm64 host with KVM, for tests and by hand.
 *
 *     const lab = await bootLab({ cpu: 'neoverse-n1', files: { '/job/adapter.js': 'dist/adapter.js' } });
 *     try {
 *       const { status, output } = await lab.run('node -e "require(\'koffi\')"');
 *     } finally {
 *       await lab.close();
 *     }
 *
 * In the lab: /dev/kvm, tracefs, debugfs, Node 22, koffi (found by `require` and `import` from any folder),
 * qemu-system-aarch64 with KVM, lkvm when this machine has one, busybox for the rest; for nested guests
 * /lab/guest/Image and /lab/guest/initrd (see guest/init for what its command line obeys); /lab/vmlinux on request.
 * The root is writable and lives in memory. There is no network but the forwarded ports.
 */
import { createInterface } from 'node:readline';
import { type Progress, reportProgress } from './cache.ts';
import { Emulator, type LabCpu } from './emulator.ts';
import type { Order, Report } from './host/protocol.ts';
import { hostImage, vmlinux } from './image.ts';
import { hostInitramfs, type LabFiles } from './initramfs.ts';
import { threadStates } from './threadStates.ts';

export type { LabCpu } from './emulator.ts';
export { hostImage, kernelSource, lkvm, vmlinux } from './image.ts';

export interface LabOptions {
  /** neoverse-n1 (the default): KVM in VHE mode. cortex-a72: nVHE. */
  cpu?: LabCpu;
  /** CPUs of the host; 2 unless told. */
  smp?: number;
  /** MiB; 2048 unless told. Only what the host touches is taken from this machine. */
  memory?: number;
  /** What to bring along. Programs keep their permissions; given contents are executable. */
  files?: LabFiles;
  /** TCP ports of the lab to reach from this machine; see `Lab.port`. */
  forward?: readonly number[];
  /** Makes the kernel's vmlinux with DWARF readable at /lab/vmlinux. */
  vmlinux?: boolean;
  /** What the host's kernel and QEMU say; only errors, as a rule. */
  onConsole?: (line: string) => void;
  /** What the assembly of the cache is doing; lines on standard error unless told. */
  progress?: Progress;
  /** Milliseconds until the lab has to be ready; 300 s unless told. */
  timeout?: number;
}

export interface StartOptions {
  cwd?: string;
  env?: Record<string, string>;
  /** Called with each piece of output as it comes, also with that of background processes left behind. */
  onOutput?: (text: string) => void;
  /** How many characters of its output are kept, the last ones; all of them unless told. */
  outputLimit?: number;
}

export interface RunOptions extends StartOptions {
  /** Milliseconds; 300 s unless told. A command that takes longer is killed and the promise rejected. */
  timeout?: number;
  /** Standard input; none unless told. */
  input?: string | Uint8Array;
}

export interface RunResult {
  /** As a shell has it: 128 and more for a command ended by a signal. */
  status: number;
  /** Standard output and standard error, in the order written. */
  output: string;
}

const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGQUIT: 3, SIGABRT: 6, SIGKILL: 9, SIGSEGV: 11, SIGTERM: 15 } as Record<
  string,
  number
>;
const DEFAULT_TIMEOUT = 300_000;

/** A command that runs in the lab; start one with `Lab.start`. */
export class LabProcess {
  /** Resolves when the command has ended; never rejects but for the end of the lab. */
  readonly ended: Promise<RunResult>;
  readonly command: string;
  readonly #send: (order: Order) => void;
  readonly #id: number;
  readonly #decoder = new TextDecoder();
  readonly #onOutput: ((text: string) => void) | undefined;
  readonly #changed = new Set<() => void>();
  readonly #limit: number;
  #output = '';
  #over = false;
  #resolve: (result: RunResult) => void = () => {};
  #reject: (error: Error) => void = () => {};

  /** @internal */
  constructor(id: number, command: string, options: StartOptions, send: (order: Order) => void) {
    this.#id = id;
    this.command = command;
    this.#send = send;
    this.#onOutput = options.onOutput;
    this.#limit = options.outputLimit ?? Number.POSITIVE_INFINITY;
    this.ended = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.ended.catch(() => {});
    const { cwd, env } = options;
    send({ do: 'start', id, command, ...(cwd === undefined ? {} : { cwd }), ...(env === undefined ? {} : { env }) });
  }

  /** What it has printed so far, or the end of it. */
  get output(): string {
    return this.#output;
  }

  /** Writes to its standard input; `undefined` closes it. */
  write(data: string | Uint8Array | undefined): void {
    const encoded = data === undefined ? {} : { data: Buffer.from(data).toString('base64') };
    this.#send({ do: 'input', id: this.#id, ...encoded });
  }

  /** Signals the command and all it started. */
  kill(signal: NodeJS.Signals = 'SIGTERM'): void {
    this.#send({ do: 'kill', id: this.#id, signal });
  }

  /** Resolves with the match once the output has it; rejects when the command ends without, or after `timeout` ms. */
  waitFor(pattern: RegExp, timeout = DEFAULT_TIMEOUT): Promise<RegExpExecArray> {
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        clearTimeout(timer);
        this.#changed.delete(look);
      };
      const fail = (why: string): void => {
        settle();
        reject(new Error(`\`${this.command}\` ${why} before it printed ${pattern}:\n${this.#output.slice(-4000)}`));
      };
      const look = (): void => {
        const match = pattern.exec(this.#output);
        if (match) {
          settle();
          resolve(match);
        } else if (this.#over) {
          fail('ended');
        }
      };
      const timer = setTimeout(() => fail(`took ${timeout} ms`), timeout);
      this.#changed.add(look);
      look();
    });
  }

  /** @internal */
  deliver(report: Exclude<Report, { is: 'ready' }>): void {
    if (report.is === 'output') {
      const text = this.#decoder.decode(Buffer.from(report.data, 'base64'), { stream: true });
      this.#output = (this.#output + text).slice(-this.#limit);
      this.#onOutput?.(text);
    } else {
      this.#over = true;
      const status = report.status ?? 128 + (SIGNALS[report.signal ?? ''] ?? 0);
      this.#resolve({ status, output: this.#output });
    }
    for (const look of [...this.#changed]) look();
  }

  /** @internal */
  lose(error: Error): void {
    this.#over = true;
    this.#reject(error);
    for (const look of [...this.#changed]) look();
  }
}

export class Lab {
  readonly #emulator: Emulator;
  readonly #processes = new Map<number, LabProcess>();
  #lastId = 0;
  #closing = false;

  private constructor(emulator: Emulator) {
    this.#emulator = emulator;
  }

  /** @internal */
  static async boot(emulator: Emulator, timeout: number): Promise<Lab> {
    const lab = new Lab(emulator);
    try {
      await lab.#ready(timeout);
      return lab;
    } catch (error) {
      await lab.close();
      throw error;
    }
  }

  #ready(timeout: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const fail = (why: string): void =>
        reject(new Error(`the lab ${why}; its console:\n${this.#emulator.console()}`));
      const timer = setTimeout(() => fail(`was not ready after ${timeout} ms`), timeout);
      const lines = createInterface({ input: this.#emulator.channel });
      // A killed QEMU resets the channel; its end is reported below. The interface repeats the error of its input.
      lines.on('error', () => {});
      lines.on('line', (line) => {
        const report = JSON.parse(line) as Report;
        if (report.is !== 'ready') {
          this.#processes.get(report.id)?.deliver(report);
          return;
        }
        clearTimeout(timer);
        this.#emulator.removeScratch();
        resolve();
      });
      void this.#emulator.ended.then((how) => {
        clearTimeout(timer);
        fail(`ended (${how}) before it was ready`);
        const why = this.#closing
          ? 'was closed'
          : `ended unexpectedly (${how}); its console:\n${this.#emulator.console()}`;
        for (const process of this.#processes.values()) process.lose(new Error(`the lab ${why}`));
      });
    });
  }

  /** Starts a shell command and lets it run. */
  start(command: string, options: StartOptions = {}): LabProcess {
    const id = ++this.#lastId;
    const process = new LabProcess(id, command, options, (order) => {
      this.#emulator.channel.write(`${JSON.stringify(order)}\n`);
    });
    this.#processes.set(id, process);
    return process;
  }

  /**
   * Runs a shell command to its end; several may run at once. What it leaves in the background runs on, and what that
   * prints goes to `onOutput`.
   */
  async run(command: string, options: RunOptions = {}): Promise<RunResult> {
    const process = this.start(command, options);
    if (options.input !== undefined) process.write(options.input);
    process.write(undefined);
    const timeout = options.timeout ?? DEFAULT_TIMEOUT;
    let timer: NodeJS.Timeout | undefined;
    const tooLong = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        process.kill('SIGKILL');
        const seen = `it printed:\n${process.output.slice(-4000)}\nthe console:\n${this.#emulator.console()}`;
        reject(new Error(`\`${command}\` took more than ${timeout} ms in the lab; ${seen}`));
      }, timeout);
    });
    try {
      return await Promise.race([process.ended, tooLong]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** What the threads of its VMMs and debuggers are doing. */
  async threads(): Promise<string> {
    return (await this.run(threadStates)).output;
  }

  /** Loopback port of this machine that leads to a port named in `LabOptions.forward`. Connecting succeeds even before
   * anything listens in the lab, so wait for the listener's own word first. */
  port(labPort: number): number {
    const port = this.#emulator.ports.get(labPort);
    if (port === undefined) throw new Error(`port ${labPort} is not forwarded: name it in LabOptions.forward`);
    return port;
  }

  /** Resolves when the lab has ended, by itself or by `close`. */
  get ended(): Promise<string> {
    return this.#emulator.ended;
  }

  /** Ends the lab at once. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#emulator.kill();
    await this.#emulator.ended;
  }
}

/** Boots a lab; resolves when it takes commands. The first call on a machine assembles the cache. */
export async function bootLab(options: LabOptions = {}): Promise<Lab> {
  return Lab.boot(await startMachine(options), options.timeout ?? DEFAULT_TIMEOUT);
}

/** Boots a lab with its shell on this terminal; resolves when that has ended. */
export async function shellInLab(options: LabOptions = {}): Promise<void> {
  // A terminal that does not know its size says 0.
  const emulator = await startMachine(options, {
    rows: process.stdout.rows || 24,
    columns: process.stdout.columns || 80,
  });
  // Read it, lest the agent blocks.
  emulator.channel.resume().once('data', () => emulator.removeScratch());
  await emulator.ended;
}

async function startMachine(options: LabOptions, terminal?: { rows: number; columns: number }): Promise<Emulator> {
  const progress = options.progress ?? reportProgress;
  const image = await hostImage(progress);
  const debugDisk = options.vmlinux ? (await vmlinux(progress)).disk : undefined;
  return Emulator.start({
    cpu: options.cpu ?? 'neoverse-n1',
    smp: options.smp ?? 2,
    memory: options.memory ?? 2048,
    image,
    initramfs: hostInitramfs(image, options.files ?? {}),
    forward: options.forward ?? [],
    progress,
    ...(debugDisk === undefined ? {} : { debugDisk }),
    ...(terminal === undefined ? {} : { terminal }),
    ...(options.onConsole === undefined ? {} : { onConsole: options.onConsole }),
  });
}
