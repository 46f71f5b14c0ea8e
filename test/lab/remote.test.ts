/** `src/target/rsp` over the stub of a QEMU that runs its guest under KVM: real debug registers, and steps of real vCPUs. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { bootLab, type Lab, vmlinux } from '../../lab/lab.ts';
import { guestCommand } from '../../lab/vmm.ts';
import { Gva } from '../../src/base/address.ts';
import { connectRemote } from '../../src/target/rsp/connect.ts';
import type { Target } from '../../src/target/target.ts';
import { startAdapter } from '../remote/adapter.ts';
import { session } from '../support/labUser.ts';
import { contract } from '../target/contract.ts';

const port = 1234;

/** Resolves when QEMU waits for a debugger. */
async function listening(lab: Lab): Promise<void> {
  const entry = `:${port.toString(16).toUpperCase().padStart(4, '0')} 00000000:0000 0A`; // TCP_LISTEN (include/net/tcp_states.h)
  await lab.run(`while ! grep -q "${entry}" /proc/net/tcp; do :; done`, { timeout: 300_000 });
}

describe('target/rsp on QEMU under KVM', { timeout: 900_000 }, () => {
  let lab: Lab;
  before(async () => {
    lab = await bootLab({ forward: [port] });
  });
  after(() => lab?.close());

  describe('without a kernel', () => {
    let target: Target;
    before(async () => {
      const machine = '-M virt,gic-version=3 -accel kvm -cpu host -smp 2 -m 192 -display none -nodefaults';
      lab.start(`exec qemu-system-aarch64 ${machine} -S -gdb tcp:0.0.0.0:${port}`);
      await listening(lab);
      target = await connectRemote({ host: '127.0.0.1', port: lab.port(port) }, new AbortController().signal);
    });

    test('the stub has what real vCPUs have', () => {
      const { stepWithoutInterrupts, hardwareBreakpoints, hardwareWatchpoints } = target.capabilities;
      assert.deepEqual([stepWithoutInterrupts, hardwareBreakpoints, hardwareWatchpoints], [true, 6, 4]);
    });

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
  });

  test('a kernel: steps end in no interrupt handler, and a breakpoint that is left is not hit again', async () => {
    const command = guestCommand('qemu', 'guest.do=ticks guest.ticks=3', { cpus: 2, paused: true });
    const vm = lab.start(`${command} -gdb tcp:0.0.0.0:${port}`);
    await listening(lab);
    const adapter = await startAdapter();
    try {
      await session(adapter, async (user) => {
        const { file: symbols } = await vmlinux();
        const remote = `localhost:${lab.port(port)}`;
        await user.begin('attach', { type: 'kvm', remote, symbols, stopOnEntry: true }, async () => {
          await user.client.request('setFunctionBreakpoints', { breakpoints: [{ name: 'hrtimer_nanosleep' }] });
        });
        await user.stopped();
        for (let hit = 0; hit < 2; hit++) {
          assert.equal((await user.go('continue')).reason, 'function breakpoint');
          for (let step = 0; step < 8; step++) {
            assert.equal((await user.go('next', { granularity: 'instruction' })).reason, 'step');
            assert.match((await user.frames()).map(({ name }) => name).join(), /hrtimer_nanosleep/);
          }
          const before = (await user.frames())[0];
          assert.equal((await user.go('next')).reason, 'step');
          const after = (await user.frames())[0];
          assert.match(after?.name ?? '', /hrtimer_nanosleep/);
          assert.ok(after?.line !== before?.line);
        }
        await user.leave(false);
      });
    } finally {
      await adapter.close();
    }
    assert.equal((await vm.ended).status, 0);
    assert.match(vm.output, /GUEST-TICK 3\s+GUEST-POWEROFF/);
  });
});
