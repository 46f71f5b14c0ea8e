// What goes wrong for users of the adapter: each is told in a sentence, or something that works stands in, and the guest is as it
// was. On kvmtool when there is one.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { lkvm, vmlinux } from '../../lab/lab.ts';
import { outputOf } from '../kernels/kernel.ts';
import { type AdapterInLab, guestConfiguration, startAdapterInLab } from '../support/labAdapter.ts';
import { lineOf, noStrays, runGuest, session, type User, type Vmm } from '../support/labUser.ts';

const vmm: Vmm = lkvm() === undefined ? 'qemu' : 'kvmtool';

/** From the guest's entry to where a pause finds it in the kernel, with what there is without source lines. */
async function worksWithoutLines(user: User, name: RegExp): Promise<void> {
  assert.equal((await user.stopped()).reason, 'entry');
  const entry = await user.pc();
  assert.equal((await user.go('stepIn')).reason, 'step');
  assert.equal(await user.pc(), entry + 4n, 'a step without lines is one of an instruction');
  await user.client.request('continue', { threadId: user.threadId });
  await ticked(user);
  for (let round = 0; ; round++) {
    assert.equal((await user.go('pause')).reason, 'pause');
    if ((await user.pc()) >= 1n << 55n) break;
    assert.ok(round < 50, 'the guest was always in user space');
    await user.client.request('continue', { threadId: user.threadId });
  }
  const [frame] = await user.frames();
  assert.match(frame?.name ?? '', name);
  assert.ok((await user.registers()).has('x0'));
}

/** The guest has come to user space. */
const ticked = (user: User): Promise<unknown> =>
  user.client.waitFor('output', () => /GUEST-TICK 1[\r\n]/.test(user.client.outputText('stdout')));

describe('troubles', () => {
  const scratch = mkdtempSync(join(tmpdir(), 'kvm-debug-troubles-'));
  let adapter: AdapterInLab;
  before(async () => {
    const { file } = await vmlinux();
    const [named, stripped] = [join(scratch, 'named'), join(scratch, 'stripped')];
    await outputOf('aarch64-linux-gnu-strip', ['--strip-debug', '-o', named, file]);
    await outputOf('aarch64-linux-gnu-strip', ['--strip-all', '-o', stripped, file]);
    adapter = await startAdapterInLab({ files: { '/job/named-vmlinux': named, '/job/stripped-vmlinux': stripped } });
  });
  after(async () => {
    await adapter?.close();
    rmSync(scratch, { recursive: true });
  });
  const guest = (symbols?: string): object => ({
    ...guestConfiguration(vmm, { parameters: 'guest.do=ticks guest.ticks=100' }),
    symbols,
  });

  for (const [what, symbols, told] of [
    ['no symbols', undefined, /Without symbols .* "symbols"/],
    ['symbols of which nothing is left', '/job/stripped-vmlinux', /has no debug information.*CONFIG_DEBUG_INFO/],
  ] as const) {
    test(`${what}: addresses instead of names, and breakpoints say what they lack`, async () => {
      await session(adapter, async (user) => {
        const line = await lineOf('boot_cpu_init');
        await user.begin('launch', guest(symbols), async () => {
          const { verified, message } = await user.breakAt(line);
          assert.equal(verified, false);
          assert.match(message, /symbols|debug information/);
        });
        assert.match(user.client.outputText('console') + user.client.outputText('important'), told);
        await worksWithoutLines(user, /^0x/);
        await user.leave(true);
        await noStrays(adapter);
      });
    });
  }

  test('symbols without debug information: names and breakpoints at functions, and no lines', async () => {
    await session(adapter, async (user) => {
      const line = await lineOf('boot_cpu_init');
      await user.begin('launch', guest('/job/named-vmlinux'), async () => {
        const { verified, message } = await user.breakAt(line);
        assert.equal(verified, false);
        assert.match(message, /debug information/);
      });
      await worksWithoutLines(user, /^[a-z_]/);
      await user.client.request('setFunctionBreakpoints', { breakpoints: [{ name: 'hrtimer_nanosleep' }] });
      assert.equal((await user.go('continue')).reason, 'function breakpoint');
      assert.match((await user.frames()).map(({ name }) => name).join(' '), /^hrtimer_nanosleep.* el0_svc/);
      await user.leave(true);
      await noStrays(adapter);
    });
  });

  for (const state of ['stopped', 'running'] as const) {
    test(`a VMM that is killed while its guest is ${state} ends the session, which says so`, async () => {
      await session(adapter, async (user) => {
        await user.begin('launch', guest('/lab/vmlinux'));
        await user.stopped();
        if (state === 'running') {
          await user.client.request('continue', { threadId: user.threadId });
          await ticked(user);
        }
        await adapter.lab.run(`kill -9 $(pidof ${vmm === 'kvmtool' ? 'lkvm' : 'qemu-system-aarch64'})`);
        assert.equal((await user.client.waitFor('exited')).body.exitCode, 137);
        await user.client.waitFor('terminated');
        assert.match(user.client.outputText('console'), /ended by signal 9/);
        await noStrays(adapter);
      });
    });
  }

  test('a second session on a VM is refused, and the first goes on', async (context) => {
    const { vm, pid } = await runGuest(adapter, vmm, 8, context);
    const configuration = { type: 'kvm', pid, symbols: '/lab/vmlinux' };
    const second = await adapter.another();
    context.after(() => second.kill());
    await session(adapter, async (user) => {
      await user.begin('attach', { ...configuration, stopOnEntry: true });
      await user.stopped();
      await session(second, async (other) => {
        const refusal = new RegExp(`pid ${pid}\\) is traced by process \\d+ already; end that debugger`);
        await assert.rejects(other.begin('attach', configuration), refusal);
      });
      assert.match(await user.evaluate('init_task.comm'), /swapper/);
      await user.client.request('setFunctionBreakpoints', { breakpoints: [{ name: 'hrtimer_nanosleep' }] });
      assert.equal((await user.go('continue')).reason, 'function breakpoint');
      await user.leave(false);
      assert.equal((await vm.ended).status, 0);
      await second.kill();
      await noStrays(adapter);
    });
  });

  test('a user who may not trace the VM, or open /dev/kvm, is told what helps', async (context) => {
    const { vm, pid } = await runGuest(adapter, vmm, 8, context);
    const stranger = await adapter.another({ uid: 1000 });
    context.after(() => stranger.kill());
    await session(stranger, async (user) => {
      const attach = user.begin('attach', { type: 'kvm', pid, symbols: '/lab/vmlinux' });
      await assert.rejects(attach, /Not allowed to .*: .*CAP_SYS_PTRACE/);
    });
    await adapter.lab.run('chmod 600 /dev/kvm');
    await session(stranger, async (user) => {
      const { message } = await user.client.send('launch', guest('/lab/vmlinux')).response;
      assert.match(message ?? '', /\/dev\/kvm.*group/s);
    });
    assert.equal((await vm.ended).status, 0);
    await stranger.kill();
    await noStrays(adapter);
  });
});
