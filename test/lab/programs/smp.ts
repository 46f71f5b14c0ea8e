/** Several vCPUs of a Linux guest at one breakpoint: each passage is one hit, whoever else is there at the same time. */
import assert from 'node:assert/strict';
import { Gva } from '../../../src/base/address.ts';
import type { StopEvent, Target } from '../../../src/target/target.ts';
import { spinning, symbol } from './linuxGuest.ts';
import { check } from './report.ts';
import { attach, missing, type Vmm, vmms } from './vms.ts';

/** Once in each round of /bin/spin (guest.ts), which counts them in x19. Its argument is where the registers of the
 *  program are kept (arch/arm64 asm/ptrace.h, struct pt_regs: regs first). */
const systemCall = symbol('__arm64_sys_getppid');

/** What the tasks of the vCPUs have counted, by `current` (SP_EL0). */
class Passages {
  readonly counts = new Map<bigint, bigint>();
  passed = 0;
  together = 0;

  constructor(private readonly target: Target) {}

  /** Takes the hits of one stop: each is one round of its task further than its last. */
  async take(events: readonly StopEvent[]): Promise<void> {
    const vcpus = new Set<number>();
    for (const event of events) {
      if (event.kind !== 'breakpoint') assert.fail(`${event.kind} after ${this.passed} hits`);
      assert.equal(event.pc, systemCall);
      assert.ok(!vcpus.has(event.vcpu), 'one hit a vCPU');
      vcpus.add(event.vcpu);
      const registers = await this.target.readRegisters(event.vcpu, ['x0', 'sp_el0']);
      const task = registers.get('sp_el0') ?? 0n;
      const bytes = await this.target.memory(event.vcpu).read(Gva((registers.get('x0') ?? 0n) + 8n * 19n), 8);
      const count = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
      const last = this.counts.get(task);
      if (last !== undefined) assert.equal(count, last + 1n, `task ${task.toString(16)} on vCPU ${event.vcpu}`);
      this.counts.set(task, count);
      this.passed += 1;
    }
    if (vcpus.size > 1) this.together += 1;
  }
}

async function simultaneousHits(vmm: Vmm, cpus: number, rounds: number): Promise<void> {
  const vm = await spinning(vmm, { cpus });
  const target = await attach(vm.pid);
  assert.equal(target.vcpus.length, cpus);
  const passages = new Passages(target);
  for (const kind of ['software', 'hardware'] as const) {
    const id = await target.insert({ kind, address: systemCall }, 0);
    const before = passages.together;
    for (let round = 0; passages.together < before + rounds / 2; round++) {
      assert.ok(round < 20 * rounds, `${passages.together} of ${round} stops were of several vCPUs`);
      await passages.take(await target.resume());
      // A step of one, while the others stand there, is no passage of theirs.
      if (round % 8 === 0) {
        const vcpu = round % cpus;
        const [event] = await target.step(vcpu);
        assert.equal(event?.kind, 'step');
      }
    }
    await target.remove(id);
    // Unseen rounds; then it is counted anew.
    passages.counts.clear();
    setTimeout(() => target.interrupt(), 50);
    assert.equal((await target.resume())[0]?.kind, 'interrupted');
  }
  console.log(`${vmm}, ${cpus} vCPUs: ${passages.passed} hits, at ${passages.together} stops of several vCPUs`);
  await target.detach();
  await vm.output.ticks();
  assert.doesNotMatch(vm.output.text, /BUG|Oops|KVM exit|Unexpected/);
}

const rounds = Number(process.env.SMP_ROUNDS ?? 40);
for (const vmm of vmms) {
  // QEMU warns of more vCPUs than the lab has CPUs, and they take as long: when everything is asked for.
  for (const cpus of vmm === 'kvmtool' || rounds >= 400 ? [2, 4] : [2]) {
    await check(`${vmm}: breakpoints that ${cpus} vCPUs hit at once`, () => simultaneousHits(vmm, cpus, rounds), {
      skip: missing(vmm),
      timeout: 900_000,
    });
  }
}
process.exit(0);
