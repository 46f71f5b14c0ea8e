/** QEMU with its GDB stub on this machine: an emulated guest, no KVM and no lab around it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { reportProgress } from '../../lab/cache.ts';
import { freePort } from '../../lab/emulator.ts';
import { hostImage } from '../../lab/lab.ts';
import { tool } from '../../lab/tools.ts';

export interface QemuOptions {
  readonly cpus?: number;
  readonly cpu?: string;
  /** The machine has EL2, and its kernel runs there. */
  readonly hasEl2?: boolean;
  /** Added to the kernel's command line; test/lab/guest/init lists the `guest.*` words. Undefined: no kernel. */
  readonly parameters?: string;
}

/** Stopped in front of its first instruction, until somebody at the stub lets it run. */
export class QemuStub {
  readonly ended: Promise<string>;
  #output = '';
  readonly #listeners = new Set<() => void>();

  private constructor(
    readonly process: ChildProcess,
    readonly port: number,
  ) {
    this.ended = once(process, 'close').then(([status, signal]) => (signal ? String(signal) : `status ${status}`));
    for (const stream of [process.stdout, process.stderr]) {
      stream?.on('data', (chunk: Buffer) => {
        this.#output += chunk.toString('latin1');
        for (const listener of this.#listeners) listener();
      });
    }
  }

  static async start(options: QemuOptions = {}): Promise<QemuStub> {
    // A port that was free a moment ago may be taken by now.
    for (let attempt = 1; ; attempt++) {
      const stub = await QemuStub.#start(options);
      if (await stub.#listens()) return stub;
      if (attempt === 3) throw new Error(`QEMU does not listen:\n${stub.output}`);
    }
  }

  static async #start({ cpus = 1, cpu = 'neoverse-n1', hasEl2 = false, parameters }: QemuOptions): Promise<QemuStub> {
    const { argv, env } = await tool('qemu-system-aarch64', reportProgress);
    const port = await freePort();
    const board = `virt,gic-version=3${hasEl2 ? ',virtualization=on' : ''}`;
    const machine = ['-M', board, '-accel', 'tcg', '-cpu', cpu, '-smp', `${cpus}`, '-m', '192'];
    const devices = ['-display', 'none', '-nodefaults', '-serial', 'stdio', '-no-reboot'];
    const stub = ['-S', '-gdb', `tcp:127.0.0.1:${port}`];
    const [program = '', ...rest] = [...argv, ...machine, ...devices, ...stub];
    if (parameters !== undefined) {
      const { kernel, guestInitrd } = await hostImage();
      const line = `console=ttyAMA0 quiet panic=-1 cryptomgr.notests=1 rdinit=/init ${parameters}`;
      rest.push('-kernel', kernel, '-initrd', guestInitrd, '-append', line);
    }
    const child = spawn(program, rest, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    process.once('exit', () => child.kill('SIGKILL'));
    return new QemuStub(child, port);
  }

  /** Whether it came up. A client that goes away again without a word leaves the guest stopped. */
  async #listens(): Promise<boolean> {
    let isOver = false;
    void this.ended.then(() => {
      isOver = true;
    });
    for (;;) {
      if (isOver) return false;
      if (await isListening(this.port)) return true;
      await delay(20);
    }
  }

  get output(): string {
    return this.#output;
  }

  /** Resolves when the guest's console has shown it. */
  async waitFor(pattern: RegExp): Promise<void> {
    let settle: () => void = () => undefined;
    const shown = new Promise<void>((resolve) => {
      settle = () => pattern.test(this.#output) && resolve();
    });
    this.#listeners.add(settle);
    settle();
    const over = this.ended.then((how) => {
      if (!pattern.test(this.#output)) throw new Error(`QEMU ended with ${how} before ${pattern}:\n${this.#output}`);
    });
    await Promise.race([shown, over]);
    this.#listeners.delete(settle);
  }

  async kill(): Promise<void> {
    this.process.kill('SIGKILL');
    await this.ended;
  }
}

function isListening(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
