/** Virtual machines for the test programs in the lab: started by the connector under test, or by themselves. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import type { Duplex, Readable } from 'node:stream';
import { type GuestOptions, guestCommand, guestWords } from '../../../lab/vmm.ts';
import type { ExitTrapChoice, GuestConsole } from '../../../src/target/connection.ts';
import { createConnector } from '../../../src/target/kvm/connector.ts';
import type { ExitStatus, Target } from '../../../src/target/target.ts';
import { afterwards, within } from './report.ts';

export type Vmm = 'kvmtool' | 'qemu';
export const vmms: readonly Vmm[] = ['kvmtool', 'qemu'];
/** Why a check on a VMM must be skipped. */
export const missing = (vmm: Vmm): string | undefined =>
  vmm === 'kvmtool' && !existsSync('/usr/bin/lkvm') ? 'skipped: no lkvm' : undefined;

export const guardianPath = '/job/guardian.mjs';
export const connector = createConnector({ guardianPath });

/** Text that a stream brings, and waiting for parts of it. */
export class Transcript {
  text = '';
  #changed = new Set<() => void>();
  #ended = false;

  constructor(stream: Readable) {
    stream.setEncoding('utf8');
    stream.on('data', (text: string) => {
      this.text += text;
      this.#tell();
    });
    stream.on('close', () => {
      this.#ended = true;
      this.#tell();
    });
  }

  #tell(): void {
    for (const look of [...this.#changed]) look();
  }

  /** Resolves with the first match at or after `from` (an offset into `text`). */
  waitFor(pattern: RegExp, { from = 0, timeout = 30_000 } = {}): Promise<RegExpExecArray> {
    let look = (): void => {};
    const found = new Promise<RegExpExecArray>((resolve, reject) => {
      look = () => {
        const match = pattern.exec(this.text.slice(from));
        if (match) resolve(match);
        else if (this.#ended) reject(new Error(`the console ended before ${pattern}:\n${this.text.slice(-2000)}`));
      };
    });
    this.#changed.add(look);
    look();
    return within(timeout, `${pattern} on the console`, found)
      .catch((thrown: Error) => {
        throw new Error(`${thrown.message}; it shows:\n${this.text.slice(-2000)}`);
      })
      .finally(() => this.#changed.delete(look));
  }

  /** Two numbered lines of the guest that were not there yet: it runs. */
  async ticks(): Promise<void> {
    const from = this.text.length;
    await this.waitFor(/GUEST-TICK \d+\r?\n(.|\n|\r)*GUEST-TICK \d+\r?\n/, { from });
  }
}

export interface LaunchedVm {
  readonly target: Target;
  readonly console: GuestConsole;
  readonly output: Transcript;
}

/** Starts a VMM through the connector; it is gone when the check is over. */
export async function launch(
  argv: readonly [string, ...string[]],
  exitTrap: ExitTrapChoice = 'auto',
): Promise<LaunchedVm> {
  const environment = process.env as Record<string, string>;
  const { target, console } = await connector.launch(
    { argv, cwd: '/', environment, exitTrap },
    new AbortController().signal,
  );
  afterwards(() => target.kill());
  return { target, console, output: new Transcript(console.output) };
}

export const launchLinux = (
  vmm: Vmm,
  parameters: string,
  options?: GuestOptions,
  exitTrap?: ExitTrapChoice,
): Promise<LaunchedVm> => launch(guestWords(guestCommand(vmm, parameters, options)), exitTrap);

/** A VMM that nobody debugs yet. */
export interface RunningVm {
  readonly output: Transcript;
  /** Its standard input, which it can write to as well, as to a terminal. kvmtool prints its registers there at each debug exit
   *  that it sees (kvm_cpu__show_registers), and waits when nobody reads. */
  readonly input: Duplex;
  readonly ended: Promise<ExitStatus>;
  readonly pid: number;
}

export interface StartOptions extends GuestOptions {
  /** Who runs the VMM; root unless told. */
  readonly user?: number;
}

/** A shell's status above 128 stands for a signal. */
const shellStatus = (status: number): ExitStatus =>
  status > 128 ? { code: undefined, signal: status - 128 } : { code: status, signal: undefined };

// The VMM is not this process's own child: libuv waits for its children by itself, and would take the stops of one's
// first thread from the tracer. It says its pid on descriptor 3. One pipe for both outputs, and a standard input that
// stays open, because kvmtool ends when it closes: descriptor 4, because node reads from none that is the first.
const asGrandchild = `sh -c 'echo $$ >&3; exec "$@" 2>&1 <&4 3>&- 4>&-' sh "$@"; exit $?`;

export async function start(argv: readonly [string, ...string[]], { user }: StartOptions = {}): Promise<RunningVm> {
  const as = user === undefined ? {} : { uid: user, gid: user, env: { ...process.env, HOME: '/tmp' } };
  const child = spawn('/bin/sh', ['-c', asGrandchild, 'sh', ...argv], {
    stdio: ['ignore', 'pipe', 'inherit', 'pipe', 'pipe'],
    detached: true, // a process group, to be ended together
    ...as,
  });
  // Not `exit`: the VMM may outlive the shell by a moment.
  const ended = once(child, 'close').then(([status, signal]) =>
    signal === null ? shellStatus(status) : { code: undefined, signal: constants.signals[signal as NodeJS.Signals] },
  );
  afterwards(async () => {
    if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) {
      process.kill(-child.pid, 'SIGKILL');
    }
    await ended;
  });
  const [, stdout, , pids, input] = child.stdio;
  const [, pid] = await new Transcript(pids as Readable).waitFor(/(\d+)\n/);
  return { pid: Number(pid), output: new Transcript(stdout as Readable), input: input as Duplex, ended };
}

export const startLinux = (vmm: Vmm, parameters: string, options?: StartOptions): Promise<RunningVm> =>
  start(guestWords(guestCommand(vmm, parameters, options)), options);

/** Precondition: not a child of this process (see `start`). */
export const attach = async (pid: number, exitTrap: ExitTrapChoice = 'auto'): Promise<Target> => {
  const target = await connector.attach({ pid, exitTrap }, new AbortController().signal);
  afterwards(() => target.detach());
  return target;
};

/** Part of what glibc makes for a thread that allocates memory (malloc/arena.c: HEAP_MAX_SIZE, in two mappings). */
function isArena(mapping: string): boolean {
  const match = /^(\w+)-(\w+) (rw-|---)p 0+ 00:00 0 *$/.exec(mapping);
  if (!match) return false;
  const [, start, end, permissions] = match;
  return BigInt(`0x${permissions === '---' ? end : start}`) % 0x400_0000n === 0n;
}

/** What of a process a debugger could leave changed: signal masks and tracers of its threads, its mappings. */
export function imprint(pid: number): readonly string[] {
  const threads = readdirSync(`/proc/${pid}/task`).flatMap((tid) => {
    const status = readFileSync(`/proc/${pid}/task/${tid}/status`, 'utf8');
    const kept = status.split('\n').filter((line) => /^(Name|SigBlk|SigIgn|SigCgt|TracerPid):/.test(line));
    return [`${tid}: ${kept.join(' ')}`];
  });
  const mappings = readFileSync(`/proc/${pid}/maps`, 'utf8').trim().split('\n');
  // The permissions and the sizes count; the stack and the heap may grow, and threads may have heaps of their own.
  return [...threads, ...mappings.filter((line) => !/\[(heap|stack)\]$/.test(line) && !isArena(line))];
}

/** Command lines of the processes that match. */
export function processes(pattern: RegExp): readonly string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const line = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
        const state = /^State:\s*(\S)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
        return pattern.test(line) ? [`${pid} ${state} ${line}`] : [];
      } catch {
        return []; // ended meanwhile
      }
    });
}

/** Resolves when `condition` holds: for what the kernel tells only to those who ask. */
export async function until(what: string, condition: () => boolean, timeout = 30_000): Promise<void> {
  const end = Date.now() + timeout;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`${what}: not so after ${timeout} ms`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
