/** Linux guests under the target: launched and attached to, on both VMMs. */
import assert from 'node:assert/strict';
import { Gva } from '../../../src/base/address.ts';
import type { StopEvent, Target } from '../../../src/target/target.ts';
import { check } from './report.ts';
import { launchLinux, missing, vmms } from './vms.ts';

/** Addresses of the kernel's symbols, from its vmlinux. */
const symbols = new Map<string, Gva>(
  Object.entries(JSON.parse(process.env.SYMBOLS ?? '{}') as Record<string, string>).map(([name, address]) => [
    name,
    Gva(BigInt(address)),
  ]),
);
const symbol = (name: string): Gva => {
  const address = symbols.get(name);
  if (address === undefined) throw new Error(`no symbol ${name}`);
  return address;
};

/** The events of one kind; fails when there are others. */
function only<Kind extends StopEvent['kind']>(
  kind: Kind,
  events: readonly StopEvent[],
): readonly Extract<StopEvent, { kind: Kind }>[] {
  for (const event of events) {
    assert.equal(event.kind, kind, JSON.stringify(events, (_, value) => (typeof value === 'bigint' ? `${value}` : value)));
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

await runs();
process.exit(0);
