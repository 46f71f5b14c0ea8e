/** A virtual machine that runs a guest without an operating system, under the target. */
import assert from 'node:assert/strict';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Gpa, Gva } from '../../../src/base/address.ts';
import type { Target } from '../../../src/target/target.ts';
import { afterwards } from './report.ts';
import { attach, launch, type Vmm } from './vms.ts';

/** PSTATE at EL1 with its own stack pointer and DAIF set. */
export const EL1H = 0x3c5n;
/** "ARM\x64", at 56 of an Image (Linux Documentation/arm64/booting.rst). */
const imageMagic = 0x644d5241n;

function command(vmm: Vmm, kernel: string, cpus: number): [string, ...string[]] {
  if (vmm === 'kvmtool') {
    return ['lkvm', 'run', '-k', kernel, '-m', '64', '-c', `${cpus}`, '--console', 'serial', '--irqchip', 'gicv3'];
  }
  const machine = ['-M', 'virt,gic-version=3', '-accel', 'kvm', '-cpu', 'host', '-smp', `${cpus}`, '-m', '64'];
  return ['qemu-system-aarch64', ...machine, '-display', 'none', '-nodefaults', '-no-reboot', '-kernel', kernel];
}

/** Distributor and the first vCPU's redistributor of the GICv3, for up to two vCPUs. */
export const gic = {
  kvmtool: (cpus: number) => [0x3fff_0000n, 0x3fff_0000n - 0x2_0000n * BigInt(cpus)] as const,
  qemu: () => [0x800_0000n, 0x80a_0000n] as const,
};

/** Where an image can lie, by what the VMM is known to do. */
const bases = { kvmtool: [0x8000_0000n], qemu: [0x4000_0000n, 0x4020_0000n, 0x4008_0000n] } as const;

export interface BareOptions {
  readonly cpus?: number;
  /** Stop at the BRKs that end routines (immediates from 0xf00), and count the others. */
  readonly traps?: boolean;
}

export class Bare {
  private constructor(
    readonly target: Target,
    /** Physical address of the image. */
    readonly base: bigint,
  ) {}

  /** Launches a VM with an `Image` of a guest, stopped before its first instruction. */
  static async launch(vmm: Vmm, image: Uint8Array, { cpus = 1, traps = true }: BareOptions = {}): Promise<Bare> {
    const kernel = join(mkdtempSync(join(tmpdir(), 'bare-')), 'Image');
    writeFileSync(kernel, image);
    const { target } = await launch(command(vmm, kernel, cpus));
    for (const base of bases[vmm]) {
      const bare = new Bare(target, base);
      if ((await bare.word(base + 56n, 4)) !== imageMagic) continue;
      if (traps) bare.stopAtTraps();
      return bare;
    }
    throw new Error('the image is nowhere');
  }

  /** BRKs that the filter saw and did not want. */
  givenBack = 0;

  stopAtTraps(): void {
    this.target.setTrapFilter(({ immediate }) => {
      if (immediate < 0xf00) this.givenBack++;
      return immediate >= 0xf00;
    });
  }

  /** Leaves the VM to itself for a while and attaches again, with no filter. */
  async leave(milliseconds: number): Promise<Bare> {
    const pid = Number(/pid (\d+)/.exec(this.target.capabilities.facts.get('VMM') ?? '')?.[1]);
    await this.target.detach();
    afterwards(() => process.kill(pid, 'SIGKILL'));
    await new Promise((resolve) => setTimeout(resolve, milliseconds));
    return new Bare(await attach(pid), this.base);
  }

  at(offset: bigint): Gva {
    return Gva(this.base + offset);
  }

  async word(address: bigint, length = 8): Promise<bigint> {
    const bytes = await this.target.physicalMemory.read(address as Gpa, length);
    return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
  }

  async words(address: bigint, count: number): Promise<readonly bigint[]> {
    const bytes = await this.target.physicalMemory.read(address as Gpa, 8 * count);
    return [...new BigUint64Array(bytes.slice().buffer)];
  }

  async store(address: bigint, ...words: readonly bigint[]): Promise<void> {
    const bytes = new Uint8Array(new BigUint64Array(words).buffer);
    await this.target.physicalMemory.write(address as Gpa, bytes);
  }

  async set(values: Readonly<Record<string, bigint>>, vcpu = 0): Promise<void> {
    for (const [name, value] of Object.entries(values)) await this.target.writeRegister(vcpu, name, value);
  }

  async get(name: string, vcpu = 0): Promise<bigint> {
    return (await this.target.readRegisters(vcpu, [name])).get(name) ?? -1n;
  }

  /** Sends the first vCPU to a routine, at EL1h with all masks set. */
  async go(offset: bigint, values: Readonly<Record<string, bigint>> = {}): Promise<void> {
    await this.set({ ...values, pstate: EL1H, pc: this.at(offset) });
  }

  /** Runs until the BRK of this immediate. */
  async until(immediate: number): Promise<void> {
    const events = await this.target.resume();
    assert.deepEqual(
      events.map((event) => (event.kind === 'guestTrap' ? event.immediate : event)),
      [immediate],
    );
  }

  /** Lets the guest run for a while, in which nothing stops it but that it is over, and says where it is then. */
  async runs(milliseconds: number): Promise<bigint> {
    const timer = setTimeout(() => this.target.interrupt(), milliseconds);
    const [event] = await this.target.resume();
    clearTimeout(timer);
    assert.equal(event?.kind, 'interrupted');
    return this.get('pc');
  }

  /** Runs until the vCPU is found in the two instructions `WFI; B` at `idle`, looking less and less often: a guest that
   *  is stopped again before it has run would never come there. */
  async idles(idle: bigint): Promise<void> {
    let pc = 0n;
    for (let pause = 30; pause < 30_000; pause *= 1.5) {
      pc = await this.runs(pause);
      if (pc === this.at(idle) || pc === this.at(idle + 4n)) return;
    }
    throw new Error(`the guest does not come to rest; pc ${pc.toString(16)}`);
  }
}
