/** `src/target/rsp` over the stub of a QEMU that runs its guest under KVM: real debug registers, and steps of real vCPUs. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Gva } from '../../src/base/address.ts';
import { connectRemote } from '../../src/target/rsp/connect.ts';
import type { Target } from '../../src/target/target.ts';
import { contract } from '../target/contract.ts';
import { bootLab, type Lab } from './lab.ts';

const port = 1234;

describe('target/rsp on QEMU under KVM', { timeout: 900_000 }, () => {
  let lab: Lab;
  let target: Target;
  before(async () => {
    lab = await bootLab({ forward: [port] });
    const machine = '-M virt,gic-version=3 -accel kvm -cpu host -smp 2 -m 192 -display none -nodefaults';
    lab.start(`exec qemu-system-aarch64 ${machine} -S -gdb tcp:0.0.0.0:${port}`);
    const listening = `:${port.toString(16).toUpperCase().padStart(4, '0')} `;
    await lab.run(`while ! grep -q "${listening}" /proc/net/tcp; do :; done`, { timeout: 300_000 });
    target = await connectRemote({ host: '127.0.0.1', port: lab.port(port) }, new AbortController().signal);
  });
  after(() => lab?.close());

  for (const { name, run } of contract) {
    test(name, () =>
      run({
        target,
        code: Gva(0x4010_0000n),
        data: Gva(0x4020_0000n),
        unmapped: Gva(0x1_0000_0000n),
        killed: { code: undefined, signal: undefined },
      }),
    );
  }

  test('the stub has no more than real vCPUs have', () => {
    const { stepWithoutInterrupts, hardwareBreakpoints, hardwareWatchpoints } = target.capabilities;
    assert.deepEqual([stepWithoutInterrupts, hardwareBreakpoints, hardwareWatchpoints], [false, 6, 4]);
  });
});
