/** Run control: the adapter against gdb on QEMU's own stub, on guests of one kernel under one VMM, in turns. Each debugger
 *  has a VM of its own, which it holds stopped while the other is measured. */
import { join } from 'node:path';
import { SymbolFile } from '../../src/symbols/image.ts';
import { Adapter } from './adapter.ts';
import { Comparison } from './comparison.ts';
import type { Debugger } from './debuggers.ts';
import { Gdb, type GdbCommand } from './gdb.ts';
import type { Row } from './samples.ts';
import { type GuestFiles, Vm } from './vms.ts';

export interface RunControlPlan extends GuestFiles {
  readonly gdb: GdbCommand;
  /** vmlinux. */
  readonly symbols: string;
  /** adapter.js. */
  readonly adapter: string;
  /** For XDG_CACHE_HOME: holds the index of `symbols`. */
  readonly cache: string;
}

/** After one that only warms up. */
const rounds = 5;

const vcpus = (count: number): string => (count === 1 ? '1 vCPU' : `${count} vCPUs`);

const sleep = (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function timed(action: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await action();
  return performance.now() - start;
}

interface GuestKind {
  readonly cpus: number;
  /** For the kernel's command line. */
  readonly parameters: string;
  /** What it prints when it is where it is measured. */
  readonly ready: string;
}

// A guest that is held for seconds would report its CPUs as stuck, on its console and at length.
const common = 'nowatchdog rcupdate.rcu_cpu_stall_suppress=1';

/** System calls without end on each CPU, and a shell that prints each second. */
const spinning = (cpus: number): GuestKind => ({
  cpus,
  parameters: `${common} guest.do=spin`,
  ready: 'GUEST-TICK 2',
});

/** The system calls of one process, and no other process. */
const alone: GuestKind = {
  cpus: 1,
  parameters: `${common} rdinit=/bin/spin loglevel=7`,
  ready: 'Run /bin/spin as init process',
};

class RunControl {
  readonly comparison: Comparison;
  #stubPort = 2345;

  constructor(
    private readonly plan: RunControlPlan,
    private readonly symbols: SymbolFile,
    private readonly ours: Debugger,
    private readonly peer: Debugger,
  ) {
    this.comparison = new Comparison(ours, peer);
  }

  #address(name: string): bigint {
    const [place] = this.symbols.functionBreakpoint(name);
    if (!place) throw new Error(`the kernel has no function ${name}`);
    return place.address;
  }

  /** With a VM for each debugger, both stopped. */
  async withGuests({ cpus, parameters, ready }: GuestKind, action: () => Promise<void>): Promise<void> {
    const guests = [this.peer, this.ours].map((debugger_) => {
      const stubPort = this.#stubPort++;
      const vm = new Vm('qemu', this.plan, cpus, parameters, ['-gdb', `tcp:127.0.0.1:${stubPort}`]);
      return { debugger_, vm, stubPort };
    });
    try {
      for (const { vm } of guests) await vm.waitFor(ready);
      for (const { debugger_, vm, stubPort } of guests) await debugger_.attach({ pid: vm.pid, stubPort });
      await action();
      for (const { debugger_ } of guests) await debugger_.detach();
    } finally {
      for (const { vm } of guests) await vm.end();
    }
  }

  /** From wherever it is to a timer interrupt: the stub reads memory as the vCPU may, so that gdb can set no breakpoint in
   *  the kernel while that is in user space, but in the debug registers. */
  async #toKernel(debugger_: Debugger): Promise<void> {
    await debugger_.setBreakpoint({ address: this.#address('scheduler_tick'), isHardware: true });
    await debugger_.continueToStop();
    await debugger_.setBreakpoint();
  }

  async #inTurns(what: string, ask: (debugger_: Debugger, isWarm: boolean) => Promise<void>): Promise<void> {
    console.log(`${what} …`);
    for (let round = 0; round <= rounds; round++) {
      for (const debugger_ of [this.peer, this.ours]) {
        await this.#toKernel(debugger_);
        await ask(debugger_, round > 0);
      }
    }
  }

  /** Steps through a function that each timer interrupt calls. Interrupts are masked there: elsewhere a step by the stub may
   *  end in the handler of one, which KVM on arm64 does not hold off (KVM_GUESTDBG_BLOCKIRQ is of x86). */
  async next(cpus: number): Promise<void> {
    const address = this.#address('scheduler_tick');
    const lines = 6;
    // Where the peer is after so many steps. Which lines are stopped at on the way is each debugger's own choice.
    let end: bigint | undefined;
    await this.#inTurns(`next, ${vcpus(cpus)}`, async (debugger_, isWarm) => {
      await debugger_.setBreakpoint({ address });
      await debugger_.continueToStop();
      await debugger_.setBreakpoint();
      const steps: number[] = [];
      const withStack: number[] = [];
      for (let pc: bigint | undefined; end === undefined ? steps.length < lines : pc !== end; ) {
        if (steps.length > 5 * lines) throw new Error(`${debugger_.name} does not come to 0x${end?.toString(16)}`);
        const step = await timed(() => debugger_.next());
        steps.push(step);
        withStack.push(step + (await timed(() => debugger_.stack(20))));
        pc = await debugger_.pc();
      }
      end ??= await debugger_.pc();
      if (!isWarm) return;
      const add = (what: string, samples: readonly number[], note = ''): void =>
        this.comparison.add(`${what}, ${vcpus(cpus)}`, 'ms', debugger_, samples, note);
      add('next', steps);
      add('next, then the stack', withStack);
      const whole = steps.reduce((sum, step) => sum + step, 0);
      add(`the same ${lines} lines by next`, [whole], `${steps.length} steps`);
    });
  }

  /** A step from a system call, where interrupts are unmasked: may end in the handler of one. */
  async nextUnmasked(cpus: number): Promise<void> {
    const address = this.#address('el0_svc_common');
    const functionAt = (pc: bigint): string | undefined => this.symbols.symbolAt(pc)?.symbol.name;
    const question = `next, interrupts unmasked, ${vcpus(cpus)}`;
    const arrivals = new Map([this.peer, this.ours].map((debugger_) => [debugger_, { count: 0, of: 0 }]));
    await this.#inTurns(question, async (debugger_, isWarm) => {
      const samples: number[] = [];
      const arrived = arrivals.get(debugger_) ?? { count: 0, of: 0 };
      for (let sample = 0; sample < 3; sample++) {
        await debugger_.setBreakpoint({ address });
        await debugger_.continueToStop();
        await debugger_.setBreakpoint();
        samples.push(await timed(() => debugger_.next()));
        if (!isWarm) continue;
        arrived.of++;
        if (functionAt(await debugger_.pc()) === functionAt(address)) arrived.count++;
      }
      const note = `${arrived.count} of ${arrived.of} ended in the function`;
      if (isWarm) this.comparison.add(question, 'ms', debugger_, samples, note);
    });
  }

  /** In a timer interrupt. */
  async backtrace(cpus: number): Promise<void> {
    const address = this.#address('task_tick_fair');
    await this.#inTurns('backtrace', async (debugger_, isWarm) => {
      await debugger_.setBreakpoint({ address });
      const samples: number[] = [];
      const depths: number[] = [];
      for (let sample = 0; sample < 3; sample++) {
        await debugger_.continueToStop();
        let frames: readonly string[] = [];
        samples.push(
          await timed(async () => {
            frames = await debugger_.stack(20);
          }),
        );
        depths.push(frames.length);
      }
      if (!isWarm) return;
      const note = `${Math.min(...depths)} – ${Math.max(...depths)} frames`;
      this.comparison.add(`backtrace of 20 frames, ${vcpus(cpus)}`, 'ms', debugger_, samples, note);
    });
  }

  /** A condition that becomes true after a known number of evaluations: the process counts the rounds of its loop in x19,
   *  and makes two system calls in each. */
  async conditions(): Promise<void> {
    const address = this.#address('el0_svc_common');
    const turns = 20;
    await this.#inTurns('conditional breakpoint', async (debugger_, isWarm) => {
      await debugger_.setBreakpoint({ address });
      await debugger_.continueToStop();
      const counter = 'regs->regs[19]';
      const end = (await debugger_.evaluate(counter)) + BigInt(turns);
      await debugger_.setBreakpoint({ address, condition: `${counter} == ${end}` });
      const seconds = (await timed(() => debugger_.continueToStop())) / 1000;
      if ((await debugger_.evaluate(counter)) !== end) throw new Error(`${debugger_.name} stopped elsewhere`);
      if (isWarm) this.comparison.add('conditional breakpoint, evaluations', '1/s', debugger_, [(2 * turns) / seconds]);
    });
  }

  async pause(cpus: number): Promise<void> {
    await this.#inTurns(`pause, ${vcpus(cpus)}`, async (debugger_, isWarm) => {
      const samples: number[] = [];
      for (let sample = 0; sample < 5; sample++) {
        await debugger_.run();
        await sleep(100 + 50 * Math.random());
        samples.push(await timed(() => debugger_.pause()));
      }
      if (isWarm) this.comparison.add(`pause, ${vcpus(cpus)}`, 'ms', debugger_, samples);
    });
  }
}

/** Rows, the peer's before ours. */
export async function runControlRows(plan: RunControlPlan): Promise<readonly Row[]> {
  console.log('gdb reads its symbols …');
  const peer = await Gdb.start(plan.gdb, plan.symbols);
  const ours = new Adapter(plan.adapter, plan.symbols, plan.cache);
  const symbols = SymbolFile.open(plan.symbols, { cacheFolder: join(plan.cache, 'kvm-debug/symbols') });
  const runControl = new RunControl(plan, symbols, ours, peer);
  try {
    await runControl.withGuests(alone, async () => {
      await runControl.next(1);
      await runControl.conditions();
    });
    for (const cpus of [1, 2, 4, 8]) {
      await runControl.withGuests(spinning(cpus), async () => {
        await runControl.pause(cpus);
        if (cpus !== 2) return;
        await runControl.backtrace(cpus);
        await runControl.next(cpus);
        await runControl.nextUnmasked(cpus);
      });
    }
    return runControl.comparison.rows();
  } finally {
    for (const each of [ours, peer]) each.end();
    symbols.close();
  }
}
