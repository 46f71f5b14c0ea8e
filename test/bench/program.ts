/** The part of the benchmark that runs where the VMs are; prints rows (samples.ts) and progress. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, loadavg, release } from 'node:os';
import { join } from 'node:path';
import { coreRegisterIds } from '../../src/arch/aarch64/registers.ts';
import { Gva } from '../../src/base/address.ts';
import type { ExitTrapChoice } from '../../src/target/connection.ts';
import { Kvm } from '../../src/target/kvm/kvmAbi.ts';
import { DapClient } from '../support/dapClient.ts';
import { exitGuest, exitsPerCharacter } from './exitGuest.ts';
import { type RunControlPlan, runControlRows } from './runControl.ts';
import { type Row, rowMark } from './samples.ts';
import { type Attached, attach, findVmm, injections, isInstalled, Vm, type Vmm } from './vms.ts';

/** Where things are on this machine. */
export interface BenchPlan {
  readonly groups: readonly string[];
  readonly kernel: string;
  readonly initrd: string;
  /** Holds adapter.js and guardian.js; may be written to. */
  readonly folder: string;
  /** For the group `run-control`. */
  readonly runControl?: RunControlPlan;
}

class Bench {
  readonly #guardian: string;
  readonly #rows = new Map<string, Row & { readonly samples: number[] }>();

  constructor(
    private readonly plan: BenchPlan,
    private readonly vmm: Vmm,
  ) {
    this.#guardian = join(plan.folder, 'guardian.js');
  }

  /** Adds samples to a row; prints nothing yet. */
  #add(name: string, unit: string, samples: readonly number[], more: Pick<Row, 'peer' | 'note'> = {}): void {
    const row = this.#rows.get(name) ?? { name, unit, ...more, samples: [] };
    row.samples.push(...samples);
    this.#rows.set(name, row);
  }

  print(): void {
    for (const row of this.#rows.values()) printRow(row);
    this.#rows.clear();
  }

  /** Microseconds of each of `count` runs, after some that only warm up. */
  async #time(count: number, action: () => unknown): Promise<number[]> {
    const samples: number[] = [];
    for (let round = -Math.ceil(count / 4); round < count; round++) {
      const start = performance.now();
      await action();
      if (round >= 0) samples.push((performance.now() - start) * 1000);
    }
    return samples;
  }

  async #withLinux(action: (vm: Vm) => Promise<void>): Promise<void> {
    const vm = new Vm(this.vmm, this.plan, 2, 'guest.do=spin');
    try {
      await vm.waitFor('GUEST-TICK 1');
      await action(vm);
    } finally {
      await vm.end();
    }
  }

  target(): Promise<void> {
    return this.#withLinux(async (vm) => {
      const attached = await attach(vm.pid, this.#guardian);
      try {
        await this.#ioctls(attached);
        await this.#registers(attached);
        await this.#memory(attached);
      } finally {
        await attached.target.detach();
      }
    });
  }

  async #ioctls({ thread }: Attached): Promise<void> {
    const pc = coreRegisterIds.get('pc') ?? 0n;
    const inject = (calls: number): void => {
      const batch = thread.batch();
      for (let call = 0; call < calls; call++) {
        batch.oneRegister('pc', thread.fd ?? -1, Kvm.GET_ONE_REG, pc, new Uint8Array(8));
      }
      thread.run(batch);
      for (let call = 0; call < calls; call++) batch.checked(call);
    };
    const [single, batched] = ['injected ioctl, alone', 'injected ioctl, of 40 in a batch'];
    for (let round = 0; round < 5; round++) {
      this.#add(single, 'µs', await this.#time(100, () => inject(1)));
      const samples = await this.#time(40, () => inject(40));
      this.#add(
        batched,
        'µs/call',
        samples.map((value) => value / 40),
        { peer: single },
      );
    }
  }

  async #registers({ target }: Attached): Promise<void> {
    const vcpu = target.vcpus[0] ?? 0;
    const general = await target.readRegisters(vcpu);
    const all = target.registers.map(({ name }) => name);
    // Writing a register back drops what is cached, and does not change the vCPU.
    const forget = (): Promise<void> => target.writeRegister(vcpu, 'x0', general.get('x0') ?? 0n);
    for (const [what, names] of [['general', [...general.keys()]] as const, ['all', all] as const]) {
      const samples: number[] = [];
      let injected = 0;
      for (let round = -10; round < 60; round++) {
        await forget();
        const before = injections.count;
        const start = performance.now();
        await target.readRegisters(vcpu, names);
        if (round >= 0) samples.push((performance.now() - start) * 1000);
        injected = injections.count - before;
      }
      const note = `${injected} injection${injected === 1 ? '' : 's'}`;
      this.#add(`registers, ${what} (${names.length})`, 'µs', samples, { peer: 'injected ioctl, alone', note });
    }
  }

  async #memory({ target }: Attached): Promise<void> {
    const vcpu = target.vcpus[0] ?? 0;
    const vectors = (await target.readRegisters(vcpu, ['vbar_el1'])).get('vbar_el1') ?? 0n;
    const gva = Gva(vectors & -4096n); // the kernel's text, more than 1 MiB from its vectors on
    const { address: gpa } = await target.translate(vcpu, gva);
    const virtual = target.memory(vcpu);
    const physical = target.physicalMemory;
    for (const [size, label, count] of [
      [4096, '4 KiB', 200] as const,
      [65536, '64 KiB', 100] as const,
      [1 << 20, '1 MiB', 40] as const,
    ]) {
      const rate = (samples: readonly number[]): number[] => samples.map((microseconds) => size / microseconds);
      const bytes = await physical.read(gpa, size);
      const readPhysical = `memory read, ${label} by Gpa`;
      const writePhysical = `memory write, ${label} by Gpa`;
      for (let round = 0; round < 3; round++) {
        this.#add(readPhysical, 'MB/s', rate(await this.#time(count, () => physical.read(gpa, size))));
        this.#add(
          `memory read, ${label} by Gva`,
          'MB/s',
          rate(await this.#time(count, () => virtual.read(gva, size))),
          {
            peer: readPhysical,
          },
        );
        // What was read, so nothing changes; by Gva with the cache maintenance that it includes.
        this.#add(writePhysical, 'MB/s', rate(await this.#time(count, () => physical.write(gpa, bytes))));
        this.#add(
          `memory write, ${label} by Gva`,
          'MB/s',
          rate(await this.#time(count, () => virtual.write(gva, bytes))),
          {
            peer: writePhysical,
          },
        );
      }
    }
  }

  /** Steps of the target and through the adapter in turns, on the same VM. */
  steps(): Promise<void> {
    return this.#withLinux(async (vm) => {
      const adapter = await startAdapter(join(this.plan.folder, 'adapter.js'));
      try {
        for (let round = 0; round < 4; round++) {
          await this.#targetSteps(vm.pid);
          await this.#dapSteps(vm.pid, adapter.port);
        }
      } finally {
        adapter.process.kill();
      }
    });
  }

  async #steps(name: string, step: () => Promise<unknown>, peer?: string): Promise<void> {
    const samples = await this.#time(120, step);
    this.#add(
      name,
      'steps/s',
      samples.map((microseconds) => 1e6 / microseconds),
      peer === undefined ? {} : { peer },
    );
  }

  async #targetSteps(pid: number): Promise<void> {
    const { target } = await attach(pid, this.#guardian);
    const vcpu = target.vcpus[0] ?? 0;
    const step = async (): Promise<void> => {
      const [event] = await target.step(vcpu);
      if (event?.kind !== 'step') throw new Error(`a step ended with ${JSON.stringify(event, jsonable)}`);
    };
    try {
      const before = injections.count;
      await step();
      console.log(`a step is ${injections.count - before} injections`);
      await this.#steps('step, target', step);
      await this.#steps(
        'step and general registers, target',
        async () => {
          await step();
          await target.readRegisters(vcpu);
        },
        'step, target',
      );
    } finally {
      await target.detach();
    }
  }

  async #dapSteps(pid: number, port: number): Promise<void> {
    const client = await DapClient.connect(port, '127.0.0.1', 60_000);
    await client.request('initialize', { adapterID: 'kvm' });
    await client.request('attach', { pid, stopOnEntry: true });
    await client.waitFor('initialized');
    await client.request('configurationDone');
    const { threadId } = (await client.waitFor('stopped')).body;
    const step = async (command: string): Promise<void> => {
      client.transcript.length = 0;
      const stopped = client.waitFor('stopped');
      await client.request(command, { threadId, granularity: 'instruction' });
      const { reason } = (await stopped).body;
      if (reason !== 'step') throw new Error(`${command} ended with ${reason}`);
    };
    await this.#steps('stepIn, DAP', () => step('stepIn'), 'step, target');
    await this.#steps('next, DAP', () => step('next'), 'step, target');
    await this.#steps(
      'stepIn, threads, stackTrace, scopes, variables, DAP',
      async () => {
        await step('stepIn');
        await client.request('threads');
        const { stackFrames } = await client.request('stackTrace', { threadId, levels: 20 });
        const { scopes } = await client.request('scopes', { frameId: stackFrames[0].id });
        await client.request('variables', { variablesReference: scopes[0].variablesReference });
      },
      'step and general registers, target',
    );
    await client.request('disconnect', { terminateDebuggee: false });
    await client.closed;
    client.close();
  }

  /** A guest that does nothing but exit, untraced and attached in turns. */
  async exits(): Promise<void> {
    const kernel = join(this.plan.folder, 'exit-guest');
    writeFileSync(kernel, exitGuest(this.vmm));
    const vm = new Vm(this.vmm, { kernel, initrd: this.plan.initrd }, 1);
    const plain = 'exits, not attached';
    try {
      await vm.waitFor('........');
      const attachedWays: readonly (readonly [string, ExitTrapChoice, boolean])[] = [
        ['exits, attached, perf', 'perf', false],
        ['exits, attached, perf, a breakpoint armed', 'perf', true],
        ['exits, attached, syscall', 'syscall', false],
      ];
      const ratios = new Map<string, number[]>(attachedWays.map(([name]) => [name, []]));
      let before = await exitRate(vm);
      for (let round = 0; round < 12; round++) {
        for (const [name, trap, armed] of attachedWays) {
          const rate = await this.#attachedRate(vm, trap, armed);
          const after = await exitRate(vm);
          ratios.get(name)?.push(rate / ((before + after) / 2));
          this.#add(plain, 'exits/s', [after]);
          this.#add(name, 'exits/s', [rate], { peer: plain });
          before = after;
        }
      }
      for (const [name, paired] of ratios) {
        const row = this.#rows.get(name);
        if (row) this.#rows.set(name, { ...row, ratios: paired });
      }
    } finally {
      await vm.end();
    }
  }

  async #attachedRate(vm: Vm, trap: ExitTrapChoice, armed: boolean): Promise<number> {
    const { target } = await attach(vm.pid, this.#guardian, trap);
    try {
      if (armed) await target.insert({ kind: 'hardware', address: Gva(0x1000n) }, target.vcpus[0] ?? 0);
      const running = target.resume();
      await exitRate(vm); // the guardian is still starting, on the same CPUs
      const rate = await exitRate(vm);
      target.interrupt();
      await running;
      return rate;
    } finally {
      await target.detach();
    }
  }
}

async function runControl({ runControl: plan }: BenchPlan): Promise<void> {
  if (!plan || !isInstalled('qemu')) console.log('not measured: it needs QEMU, whose stub is what gdb talks to');
  else for (const row of await runControlRows(plan)) printRow(row);
}

function printRow(row: Row): void {
  const short = (_key: string, value: unknown): unknown =>
    typeof value === 'number' ? Number(value.toPrecision(6)) : value;
  console.log(`${rowMark}${JSON.stringify(row, short)}`);
}

const jsonable = (_key: string, value: unknown): unknown =>
  typeof value === 'bigint' ? `0x${value.toString(16)}` : value;

/** Exits per second over a second or ten characters, whichever is longer: from the first character to the last. */
async function exitRate(vm: Vm): Promise<number> {
  let first: number | undefined;
  let last = 0;
  let characters = 0;
  vm.onOutput = (length) => {
    last = performance.now();
    if (first === undefined) first = last;
    else characters += length;
  };
  const start = performance.now();
  while (performance.now() < start + 1000 || characters < 10) {
    if (performance.now() > start + 60_000) throw new Error(`the guest made ${characters * exitsPerCharacter} exits`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  vm.onOutput = () => {};
  return (characters * exitsPerCharacter * 1000) / (last - (first ?? 0));
}

async function startAdapter(path: string): Promise<{ process: ChildProcess; port: number }> {
  const child = spawn(process.execPath, [path, '--listen', '127.0.0.1:0'], { stdio: ['ignore', 'pipe', 'inherit'] });
  const port = await new Promise<number>((resolve, reject) => {
    let said = '';
    child.stdout.on('data', (chunk: Buffer) => {
      said += chunk.toString();
      const match = /listening on .*:(\d+)\n/.exec(said);
      if (match) resolve(Number(match[1]));
    });
    child.once('exit', () => reject(new Error(`the adapter ended: ${said}`)));
  });
  return { process: child, port };
}

/** Implementer and part of the first CPU (Arm ARM, MIDR_EL1), as /proc/cpuinfo has them. */
function cpuModel(): string {
  const text = readFileSync('/proc/cpuinfo', 'utf8');
  const field = (name: string): string => new RegExp(`^${name}\\s*: (.*)$`, 'm').exec(text)?.[1] ?? '?';
  return `CPU implementer ${field('CPU implementer')} part ${field('CPU part')}`;
}

async function main(): Promise<void> {
  const plan = JSON.parse(process.argv[2] ?? '{}') as BenchPlan;
  const vmm = findVmm();
  console.log(
    `${cpuModel()}, ${availableParallelism()} CPUs, Linux ${release()}, Node ${process.version}, ${vmm}, load ${loadavg()[0]?.toFixed(2)}`,
  );
  const bench = new Bench(plan, vmm);
  for (const group of plan.groups) {
    console.log(`${group} …`);
    if (group === 'target') await bench.target();
    if (group === 'steps') await bench.steps();
    if (group === 'exits') await bench.exits();
    if (group === 'run-control') await runControl(plan);
    bench.print();
  }
  process.exit(0);
}

main().catch((error: unknown) => {
  console.log(error instanceof Error ? error.stack : String(error));
  process.exit(1);
});
