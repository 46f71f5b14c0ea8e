/** Linux guests under the target: launched and attached to, on both VMMs. */
import assert from 'node:assert/strict';
import type { StopEvent, Target } from '../../../src/target/target.ts';
import { hot, spinning, symbol } from './linuxGuest.ts';
import { check, within } from './report.ts';
import { attach, imprint, launchLinux, missing, processes, until, vmms } from './vms.ts';

/** The events of one kind; fails when there are others. */
function only<Kind extends StopEvent['kind']>(
  kind: Kind,
  events: readonly StopEvent[],
): readonly Extract<StopEvent, { kind: Kind }>[] {
  for (const event of events) {
    assert.equal(
      event.kind,
      kind,
      JSON.stringify(events, (_, value) => (typeof value === 'bigint' ? `${value}` : value)),
    );
  }
  return events as readonly Extract<StopEvent, { kind: Kind }>[];
}

async function register(target: Target, vcpu: number, name: string): Promise<bigint> {
  return (await target.readRegisters(vcpu, [name])).get(name) ?? -1n;
}

/** Where the VMM's first vCPU begins, by what the VMM is known to do. */
const entry = { kvmtool: 0x8000_0000n, qemu: 0x4000_0000n } as const;

async function runs(): Promise<void> {
  for (const vmm of vmms) {
    for (const cpus of [1, 2]) {
      await check(
        `${vmm}, ${cpus} vCPU: from the first instruction over start_kernel to user space`,
        async () => {
          const { target, output } = await launchLinux(vmm, '', { cpus });
          assert.equal(target.vcpus.length, cpus);
          assert.equal(await register(target, 0, 'pc'), entry[vmm]);
          assert.equal((await register(target, 0, 'sctlr_el1')) & 1n, 0n, 'the MMU is off');
          const first = await target.insert({ kind: 'hardware', address: symbol('start_kernel') }, 0);
          const [hit] = only('breakpoint', await target.resume());
          assert.equal(hit?.pc, symbol('start_kernel'));
          assert.deepEqual(hit?.ids, [first]);
          await target.remove(first);
          const second = await target.insert({ kind: 'software', address: symbol('kernel_clone') }, 0);
          const before = await target.memory(0).read(symbol('kernel_clone'), 4);
          for (let round = 0; round < 3; round++) {
            const [clone] = only('breakpoint', await target.resume());
            assert.equal(clone?.pc, symbol('kernel_clone'));
            assert.deepEqual(await target.memory(clone?.vcpu ?? 0).read(symbol('kernel_clone'), 4), before);
          }
          await target.remove(second);
          const events = await target.resume();
          assert.deepEqual(events, [{ kind: 'exited', status: { code: 0, signal: undefined } }]);
          assert.match(output.text, new RegExp(`GUEST-USERSPACE cpus=${cpus}[^]*GUEST-POWEROFF`));
          assert.doesNotMatch(output.text, /KVM exit|debug/i);
        },
        { skip: missing(vmm) },
      );
    }
  }
}

/** Stops at the hot function until each vCPU was there. */
async function hitOnBoth(target: Target): Promise<void> {
  const seen = new Set<number>();
  for (let round = 0; seen.size < 2; round++) {
    assert.ok(round < 200, `only vCPU ${[...seen]} came along`);
    for (const { vcpu, pc } of only('breakpoint', await target.resume())) {
      assert.equal(pc, symbol(hot));
      seen.add(vcpu);
    }
  }
}

const irqVectors = [0x80n, 0x280n, 0x480n, 0x680n];

/** Steps a vCPU and fails if it lands in an interrupt vector. */
async function steps(target: Target, vcpu: number, count: number): Promise<void> {
  const vbar = await register(target, vcpu, 'vbar_el1');
  for (let step = 0; step < count; step++) {
    const before = await target.readRegisters(vcpu, ['pc', 'pstate']);
    const [event] = only('step', await target.step(vcpu));
    assert.ok(
      !irqVectors.includes((event?.pc ?? 0n) - vbar),
      `an interrupt came in step ${step}, at ${before.get('pc')}`,
    );
    assert.notEqual(event?.pc, before.get('pc'));
    const masks = 0x1c0n;
    const after = await register(target, vcpu, 'pstate');
    const sameLevel = ((after ^ (before.get('pstate') ?? 0n)) & 0xfn) === 0n;
    // In user space nothing changes the masks; in the kernel DAIF instructions do.
    if (sameLevel && (after & 0xfn) === 0n) assert.equal(after & masks, 0n, `step ${step} left interrupts masked`);
  }
}

async function attaches(): Promise<void> {
  for (const vmm of vmms) {
    for (const exitTrap of vmm === 'kvmtool' ? (['perf', 'syscall'] as const) : (['perf'] as const)) {
      await check(
        `${vmm}: attach (${exitTrap}), pause, breakpoints, steps, detach`,
        async () => {
          const vm = await spinning(vmm, { ticks: 6 });
          const before = imprint(vm.pid);
          const target = await attach(vm.pid, exitTrap);
          assert.ok(target.capabilities.facts.get('exit trap')?.startsWith(exitTrap));
          assert.equal(target.vcpus.length, 2);
          const text = await target.memory(0).read(symbol(hot), 64);
          const software = await target.insert({ kind: 'software', address: symbol(hot) }, 0);
          await hitOnBoth(target);
          assert.deepEqual(await target.memory(0).read(symbol(hot), 64), text, 'a stopped guest shows no BRK');
          await target.remove(software);
          const hardware = await target.insert({ kind: 'hardware', address: symbol(hot) }, 0);
          await hitOnBoth(target);
          await target.remove(hardware);
          setTimeout(() => target.interrupt(), 300);
          only('interrupted', await target.resume());
          for (const vcpu of target.vcpus) await steps(target, vcpu, exitTrap === 'perf' ? 60 : 10);
          await target.detach();
          await target.detach();
          assert.deepEqual(imprint(vm.pid), before);
          await until('the guardian is gone', () => processes(/guardian\.mjs/).length === 0);
          await vm.output.ticks();
          assert.deepEqual(await within(30_000, 'the end of the VM', vm.ended), { code: 0, signal: undefined });
          assert.doesNotMatch(vm.output.text, /KVM exit|KVM_EXIT|PC: |Unexpected|BUG|Oops/);
          assert.match(vm.output.text, /GUEST-POWEROFF/);
        },
        { skip: missing(vmm), timeout: 180_000 },
      );
    }
  }
}

async function many(): Promise<void> {
  await check(
    '20 launches in a row, no stray process',
    async () => {
      const before = processes(/^\S*lkvm|guardian\.mjs|^sh|^\/bin\/sh/);
      for (let round = 0; round < 20; round++) {
        const { target } = await launchLinux('kvmtool', '', { cpus: 1 + (round % 3) });
        assert.equal(await register(target, 0, 'pc'), entry.kvmtool);
        if (round % 2 === 0) only('step', await target.step(0));
        await target.kill();
        await target.kill();
        const status = await target.exited;
        assert.equal(status.signal, 9);
      }
      assert.deepEqual(processes(/^\S*lkvm|guardian\.mjs|^sh|^\/bin\/sh/), before);
    },
    { skip: missing('kvmtool') },
  );
}

await runs();
await attaches();
await many();
process.exit(0);
