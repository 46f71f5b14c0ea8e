/** The same Linux guest, debugged and not: guests/linux/checksum.s comes to the same sum whether the machine runs freely or
 *  is stepped through user space and kernel, instruction by instruction. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Gva } from '../../../src/base/address.ts';
import { check, within } from './report.ts';
import { launchLinux, missing, startLinux, type Vmm, vmms } from './vms.ts';

/** Addresses are in the sum. */
const parameters = 'norandmaps';
const guest = { cpus: 1, initrd: '/job/guests/linux/checksum.cpio' } as const;
const addresses = JSON.parse(readFileSync('/job/guests/linux/checksum.json', 'utf8')) as Record<string, string>;
const begin = Gva(BigInt(addresses.begin ?? assert.fail('no symbol')));
const sum = /SUM ([0-9a-f]{16})/;

/** Offsets of the interrupts' vectors: IRQ, FIQ and SError from EL1h and EL0. */
const interruptVectors = [0x280n, 0x300n, 0x380n, 0x480n, 0x500n, 0x580n];

async function stepped(vmm: Vmm, count: number): Promise<void> {
  const free = await startLinux(vmm, parameters, guest);
  assert.deepEqual(await within(120_000, 'the end of the VM', free.ended), { code: 0, signal: undefined });
  const [, expected] = sum.exec(free.output.text) ?? assert.fail(free.output.text);

  const { target, output } = await launchLinux(vmm, parameters, guest);
  const id = await target.insert({ kind: 'hardware', address: begin }, 0);
  assert.deepEqual(await target.resume(), [{ kind: 'breakpoint', vcpu: 0, pc: begin, ids: [id] }]);
  await target.remove(id);
  const began = performance.now();
  let last: bigint = begin;
  let kernel = 0;
  for (let step = 0; step < count; step++) {
    const [event] = await target.step(0);
    if (event?.kind !== 'step') assert.fail(`step ${step} from ${last.toString(16)}: ${event?.kind}`);
    const registers = await target.readRegisters(0, ['vbar_el1', 'pstate']);
    const vector = event.pc - (registers.get('vbar_el1') ?? 0n);
    assert.ok(!interruptVectors.includes(vector), `step ${step}, from ${last.toString(16)}, was an interrupt`);
    if (((registers.get('pstate') ?? 0n) & 0xfn) !== 0n) kernel += 1;
    last = event.pc;
  }
  const seconds = (performance.now() - began) / 1000;
  console.log(`${vmm}: ${count} steps, ${kernel} of them in the kernel, ${Math.round(count / seconds)} in a second`);
  assert.ok(kernel > count / 2 && kernel < count, `${kernel} of ${count} steps in the kernel`);
  assert.deepEqual(await target.resume(), [{ kind: 'exited', status: { code: 0, signal: undefined } }]);
  const [, debugged] = await output.waitFor(sum);
  assert.equal(debugged, expected);
}

for (const vmm of vmms) {
  // Emulated, a second is some hundreds of steps: only one of the VMMs is stepped far.
  const count = vmm === 'kvmtool' ? Number(process.env.LINUX_STEPS ?? 5000) : 3000;
  await check(`${vmm}: user space and kernel stepped`, () => stepped(vmm, count), {
    skip: missing(vmm),
    timeout: 900_000,
  });
}
process.exit(0);
