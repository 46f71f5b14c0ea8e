/** The VMs that are measured: started by child_process as a user's would be, then attached to. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import type { ExitTrapChoice } from '../../src/target/connection.ts';
import { attachVmm } from '../../src/target/kvm/attach.ts';
import { openJournal } from '../../src/target/kvm/guardianJournal.ts';
import { KvmTarget } from '../../src/target/kvm/kvmTarget.ts';
import { kvmDescriptors } from '../../src/target/kvm/procfs.ts';
import { SlotOracle } from '../../src/target/kvm/slotOracle.ts';
import { VcpuThread } from '../../src/target/kvm/vcpuThread.ts';

export type Vmm = 'kvmtool' | 'qemu';

const programs = { kvmtool: 'lkvm', qemu: 'qemu-system-aarch64' } as const;

/** Whether a VMM is on PATH. */
export const isInstalled = (vmm: Vmm): boolean => !spawnSync(programs[vmm], ['--version']).error;

/** The first VMM on PATH. */
export function findVmm(): Vmm {
  for (const vmm of ['kvmtool', 'qemu'] as const) if (isInstalled(vmm)) return vmm;
  throw new Error(`neither ${programs.kvmtool} nor ${programs.qemu} is on PATH`);
}

export interface GuestFiles {
  readonly kernel: string;
  readonly initrd: string;
}

const consoles = { kvmtool: 'ttyS0', qemu: 'ttyAMA0' } as const;

function vmmArguments(vmm: Vmm, { kernel, initrd }: GuestFiles, cpus: number, parameters: string): string[] {
  const words = `console=${consoles[vmm]} quiet panic=-1 nokaslr cryptomgr.notests=1 rdinit=/init ${parameters}`;
  if (vmm === 'kvmtool') {
    return ['run', '-k', kernel, '-i', initrd, '-m', '192', '-c', `${cpus}`, '--console', 'serial', '-p', words];
  }
  const machine = ['-M', 'virt,gic-version=host', '-accel', 'kvm', '-cpu', 'host', '-smp', `${cpus}`, '-m', '192'];
  const devices = ['-display', 'none', '-nodefaults', '-serial', 'stdio', '-no-reboot'];
  return [...machine, ...devices, '-kernel', kernel, '-initrd', initrd, '-append', words];
}

export class Vm {
  readonly #process: ChildProcess;
  #output = '';
  /** Hears of each piece of console output. */
  onOutput: (length: number) => void = () => {};

  /** `parameters` are the kernel's, `more` the VMM's. */
  constructor(vmm: Vmm, files: GuestFiles, cpus: number, parameters = '', more: readonly string[] = []) {
    // Standard input stays open: kvmtool spins on one that is at its end.
    this.#process = spawn(programs[vmm], [...vmmArguments(vmm, files, cpus, parameters), ...more], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#process.stdout?.on('data', (chunk: Buffer) => {
      this.#output = (this.#output + chunk.toString('latin1')).slice(-4096);
      this.onOutput(chunk.length);
    });
  }

  get pid(): number {
    const { pid } = this.#process;
    if (pid === undefined) throw new Error('the VMM could not be started');
    return pid;
  }

  async waitFor(text: string): Promise<void> {
    const deadline = performance.now() + 120_000;
    while (!this.#output.includes(text)) {
      if (this.#process.exitCode !== null || performance.now() > deadline) {
        throw new Error(`the guest did not print "${text}":\n${this.#output}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async end(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    this.#process.kill('SIGKILL');
    await once(this.#process, 'exit');
  }
}

export interface Attached {
  readonly target: KvmTarget;
  readonly thread: VcpuThread;
}

/** What the connector does, with the threads within reach. */
export async function attach(pid: number, guardian: string, exitTrap: ExitTrapChoice = 'auto'): Promise<Attached> {
  const journal = openJournal(guardian);
  const { group } = await attachVmm({ pid, exitTrap }, () => journal, new AbortController().signal);
  const { vm = -1 } = kvmDescriptors(pid);
  const target = new KvmTarget({ pid, group, findSlots: (thread) => new SlotOracle(thread, vm).find() });
  const [thread] = group.threads;
  if (!thread) throw new Error('no vCPU thread');
  return { target, thread };
}

/** Counts injections: batches that ran in the VMM. */
export const injections = { count: 0 };
const run = VcpuThread.prototype.run;
VcpuThread.prototype.run = function (batch) {
  if (batch.length > 0) injections.count++;
  run.call(this, batch);
};
