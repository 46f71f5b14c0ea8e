/** gdb on a VMM's GDB stub, driven by its machine interface (GDB manual, "GDB/MI") as IDEs do it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { type BreakpointPlace, type Debugger, patienceMs, type VmToDebug } from './debuggers.ts';

/** How to start it. */
export interface GdbCommand {
  readonly argv: readonly string[];
  readonly env: NodeJS.ProcessEnv;
}

export class Gdb implements Debugger {
  readonly name = 'gdb';
  readonly #process: ChildProcess;
  readonly #listeners = new Set<(line: string) => void>();
  readonly #recent: string[] = [];
  #token = 0;

  private constructor({ argv, env }: GdbCommand, symbols: string) {
    const [program = '', ...words] = argv;
    // Not what is measured: the network, and the user's own settings.
    const options = ['-nx', '--interpreter=mi3', '-iex', 'set debuginfod enabled off'];
    this.#process = spawn(program, [...words, ...options, symbols], {
      env: { ...process.env, ...env },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const { stdout } = this.#process;
    if (!stdout) throw new Error('no pipe');
    createInterface({ input: stdout }).on('line', (line) => {
      this.#recent.push(line.slice(0, 400));
      if (this.#recent.length > 20) this.#recent.shift();
      for (const listener of this.#listeners) listener(line);
    });
  }

  /** Resolves when the symbols are read. */
  static async start(command: GdbCommand, symbols: string): Promise<Gdb> {
    const gdb = new Gdb(command, symbols);
    await gdb.#command('gdb-set mi-async on');
    await gdb.#command('gdb-set confirm off');
    return gdb;
  }

  /** The first line that `matches`. */
  #line(matches: (line: string) => boolean, what: string): Promise<string> {
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        clearTimeout(timer);
        this.#listeners.delete(listener);
      };
      const listener = (line: string): void => {
        if (!matches(line)) return;
        settle();
        resolve(line);
      };
      const timer = setTimeout(() => {
        settle();
        reject(new Error(`gdb: no ${what}; it said last:\n${this.#recent.join('\n')}`));
      }, patienceMs);
      this.#listeners.add(listener);
    });
  }

  /** The result record of a command, without its token. */
  async #command(text: string): Promise<string> {
    const start = `${++this.#token}^`;
    const result = this.#line((line) => line.startsWith(start), `result of ${text}`);
    this.#process.stdin?.write(`${this.#token}-${text}\n`);
    const record = (await result).slice(start.length);
    if (record.startsWith('error')) throw new Error(`gdb: ${text}: ${record}`);
    return record;
  }

  async #toStop(command: string): Promise<void> {
    const stopped = this.#line((line) => line.startsWith('*stopped'), `stop after ${command}`);
    await Promise.all([this.#command(command), stopped]);
  }

  async attach({ stubPort }: VmToDebug): Promise<void> {
    await this.#command(`target-select remote 127.0.0.1:${stubPort}`);
  }

  async detach(): Promise<void> {
    await this.#command('target-detach');
  }

  async setBreakpoint(place?: BreakpointPlace): Promise<void> {
    await this.#command('break-delete');
    if (!place) return;
    const options = [
      ...(place.isHardware ? ['-h'] : []),
      ...(place.condition === undefined ? [] : [`-c "${place.condition}"`]),
    ];
    await this.#command(['break-insert', ...options, `*0x${place.address.toString(16)}`].join(' '));
  }

  continueToStop(): Promise<void> {
    return this.#toStop('exec-continue');
  }

  async run(): Promise<void> {
    await this.#command('exec-continue');
  }

  pause(): Promise<void> {
    return this.#toStop('exec-interrupt');
  }

  next(): Promise<void> {
    return this.#toStop('exec-next');
  }

  async stack(levels: number): Promise<readonly string[]> {
    const record = await this.#command(`stack-list-frames 0 ${levels - 1}`);
    return [...record.matchAll(/frame=\{level="\d+",addr="[^"]*"(?:,func="([^"]*)")?/g)].map(
      ([, name]) => name ?? '??',
    );
  }

  async pc(): Promise<bigint> {
    const record = await this.#command('stack-info-frame');
    return BigInt(/addr="(0x[0-9a-f]+)"/.exec(record)?.[1] ?? Number.NaN);
  }

  async evaluate(expression: string): Promise<bigint> {
    const record = await this.#command(`data-evaluate-expression "${expression}"`);
    return BigInt(/value="(-?\d+)/.exec(record)?.[1] ?? Number.NaN);
  }

  end(): void {
    this.#process.kill('SIGKILL');
  }
}
