/** One QEMU process and its end: it never outlives the process that started it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Progress } from './cache.ts';
import type { HostImage } from './image.ts';
import { tool } from './tools.ts';

/** neoverse-n1: KVM in VHE mode. cortex-a72: nVHE. max: all that QEMU can emulate, pointer authentication and branch
 *  targets among it, and several times slower. */
export type LabCpu = 'neoverse-n1' | 'cortex-a72' | 'max';

/** What QEMU is asked for where it is not just the name: authentication codes of its own are much quicker to make. */
const cpuOptions: Partial<Record<LabCpu, string>> = { max: 'max,pauth-impdef=on' };

export interface Machine {
  cpu: LabCpu;
  smp: number;
  /** In MiB. */
  memory: number;
  image: HostImage;
  initramfs: Buffer;
  /** ext4 image to mount at /lab/debug. */
  debugDisk?: string;
  /** Lab ports to forward. */
  forward: readonly number[];
  /** An interactive shell on this terminal instead of a captured console. */
  terminal?: { rows: number; columns: number };
  progress: Progress;
  onConsole?: (line: string) => void;
}

const running = new Set<Emulator>();

/** Ends what runs when this process ends; a signal keeps its effect. Should all this fail, the agent notices too. */
function endWithProcess(): void {
  const endAll = (): void => {
    for (const emulator of running) emulator.kill();
  };
  process.on('exit', endAll);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    const handler = (): void => {
      endAll();
      process.removeListener(signal, handler);
      if (process.listenerCount(signal) === 0) process.kill(process.pid, signal);
    };
    process.on(signal, handler);
  }
}
let endsWithProcess = false;

export class Emulator {
  /** The agent's end of the virtio-serial port. */
  readonly channel: Socket;
  /** Host port of each forwarded lab port. */
  readonly ports: ReadonlyMap<number, number>;
  /** Resolves with QEMU's status or signal when it has ended. */
  readonly ended: Promise<string>;
  readonly #process: ChildProcess;
  readonly #scratch: string;
  readonly #console: string[];

  private constructor(
    child: ChildProcess,
    channel: Socket,
    ports: Map<number, number>,
    scratch: string,
    log: string[],
  ) {
    this.#process = child;
    this.channel = channel;
    this.ports = ports;
    this.#scratch = scratch;
    this.#console = log;
    this.ended = once(child, 'close').then(([status, signal]) => {
      running.delete(this);
      this.removeScratch();
      return signal ? String(signal) : `status ${status}`;
    });
    running.add(this);
  }

  /** The last lines of the console and of QEMU's own messages. */
  console(): string {
    return this.#console.slice(-40).join('\n');
  }

  /** Removes what QEMU needed only to start; to be called when the lab is up, so that nothing is left behind later. */
  removeScratch(): void {
    rmSync(this.#scratch, { recursive: true, force: true });
  }

  /** Ends QEMU at once; `ended` tells when it is gone. */
  kill(): void {
    this.#process.kill('SIGKILL');
    this.removeScratch();
  }

  /** Starts QEMU; resolves when it is there, long before the lab is. */
  static async start(machine: Machine): Promise<Emulator> {
    if (!endsWithProcess) endWithProcess();
    endsWithProcess = true;
    for (let attempt = 1; ; attempt++) {
      try {
        return await Emulator.#start(machine);
      } catch (error) {
        // A port that was free a moment ago may be taken by now.
        if (attempt === 3 || machine.forward.length === 0) throw error;
      }
    }
  }

  static async #start(machine: Machine): Promise<Emulator> {
    const qemu = await tool('qemu-system-aarch64', machine.progress);
    const scratch = mkdtempSync(join(tmpdir(), 'kvm-debug-lab-'));
    const initramfs = join(scratch, 'initramfs');
    writeFileSync(initramfs, machine.initramfs);
    const agentSocket = join(scratch, 'agent');
    const listener = createServer();
    listener.listen(agentSocket);
    await once(listener, 'listening');
    const ports = new Map<number, number>();
    for (const port of machine.forward) ports.set(port, await freePort());

    const child = spawn(
      qemu.argv[0] ?? '',
      [...qemu.argv.slice(1), ...arguments_(machine, initramfs, agentSocket, ports)],
      {
        env: qemu.env,
        stdio: machine.terminal ? 'inherit' : ['ignore', 'pipe', 'pipe'],
      },
    );
    const log: string[] = [];
    for (const stream of [child.stdout, child.stderr]) {
      if (!stream) continue;
      createInterface({ input: stream }).on('line', (line) => {
        log.push(line);
        if (log.length > 2000) log.splice(0, 1000);
        machine.onConsole?.(line);
      });
    }
    const connection = once(listener, 'connection') as Promise<[Socket]>;
    const failure = once(child, 'close');
    failure.catch(() => {});
    try {
      const first = await Promise.race([connection, failure.then(() => undefined)]);
      if (!first) throw new Error(`QEMU ended at once:\n${log.join('\n')}`);
      return new Emulator(child, first[0], ports, scratch, log);
    } catch (error) {
      child.kill('SIGKILL');
      rmSync(scratch, { recursive: true, force: true });
      throw error;
    } finally {
      listener.close();
    }
  }
}

function arguments_(machine: Machine, initramfs: string, agent: string, ports: Map<number, number>): string[] {
  const disks = [machine.image.disk, ...(machine.debugDisk ? [machine.debugDisk] : [])];
  const forwards = [...ports].map(([guest, host]) => `,hostfwd=tcp:127.0.0.1:${host}-:${guest}`).join('');
  const shell = machine.terminal ? ` lab.shell=${machine.terminal.rows}x${machine.terminal.columns}` : '';
  return [
    ...[
      '-M',
      'virt,virtualization=on,gic-version=3',
      '-accel',
      'tcg,thread=multi',
      '-cpu',
      cpuOptions[machine.cpu] ?? machine.cpu,
    ],
    ...['-smp', String(machine.smp), '-m', String(machine.memory)],
    ...['-display', 'none', '-nodefaults', '-no-reboot'],
    ...['-kernel', machine.image.kernel, '-initrd', initramfs],
    ...[
      '-append',
      `console=ttyAMA0 rdinit=/init panic=-1 nokaslr mitigations=off cryptomgr.notests=1 loglevel=1${shell}`,
    ],
    ...disks.flatMap((path, index) => [
      ...['-drive', `file=${path},if=none,id=disk${index},format=raw,readonly=on`],
      ...['-device', `virtio-blk-pci,drive=disk${index}`],
    ]),
    ...['-netdev', `user,id=net,restrict=on${forwards}`, '-device', 'virtio-net-pci,netdev=net,romfile='],
    ...['-device', 'virtio-rng-pci'],
    ...['-chardev', `socket,id=agent,path=${agent}`],
    ...['-device', 'virtio-serial-pci', '-device', 'virtserialport,chardev=agent,nr=1'],
    // Ctrl-C belongs to the shell in the lab.
    ...['-chardev', 'stdio,id=console,signal=off', '-serial', 'chardev:console'],
  ];
}

/** One that is free now; somebody else may take it. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no free TCP port on the loopback interface');
  return address.port;
}
