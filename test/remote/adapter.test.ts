/** The adapter on QEMU's stub: a real Debian kernel, emulated, from its first instruction on. */
import assert from 'node:assert/strict';
import { after, before, describe, type TestContext, test } from 'node:test';
import { vmlinux } from '../../lab/lab.ts';
import { architecturalName } from '../../src/target/rsp/registerMap.ts';
import { lineOf, session, User } from '../support/labUser.ts';
import { type LocalAdapter, startAdapter } from './adapter.ts';
import { gdbSays, registersIn } from './gdb.ts';
import { type QemuOptions, QemuStub } from './qemu.ts';

describe('the adapter on a remote stub', { timeout: 600_000 }, () => {
  let adapter: LocalAdapter;
  let symbols: string;
  before(async () => {
    symbols = (await vmlinux()).file;
    adapter = await startAdapter();
  });
  after(() => adapter?.close());

  async function start(context: TestContext, options: QemuOptions): Promise<QemuStub> {
    const qemu = await QemuStub.start(options);
    context.after(() => qemu.kill());
    return qemu;
  }
  const configuration = ({ port }: QemuStub, more: object = {}): object => ({
    type: 'kvm',
    remote: `localhost:${port}`,
    symbols,
    stopOnEntry: true,
    ...more,
  });
  const lineNow = async (user: User): Promise<number> => (await user.frames())[0]?.line ?? 0;
  const nameNow = async (user: User): Promise<string> => (await user.frames())[0]?.name ?? '';

  for (const cpus of [1, 2]) {
    test(`a boot from the first instruction on, with ${cpus} vCPUs`, async (context) => {
      const qemu = await start(context, { cpus, parameters: 'nokaslr guest.do=ticks guest.ticks=2' });
      await session(adapter, async (user) => {
        const line = await lineOf('boot_cpu_init');
        let breakpoint = { id: 0 };
        await user.begin('attach', configuration(qemu), async () => {
          breakpoint = await user.breakAt(line);
        });
        assert.equal((await user.stopped()).reason, 'entry');
        assert.equal(await user.pc(), 0x4000_0000n, 'the first instruction of QEMU’s loader');
        assert.equal((await user.client.request('threads')).threads.length, cpus);
        const first = user.client.outputText('console');
        assert.match(first, new RegExp(`target: remote stub localhost:${qemu.port}, vCPUs: ${cpus}, `));
        assert.match(first, /breakpoint instructions: not seen/);

        const hit = await user.go('continue');
        assert.deepEqual([hit.reason, hit.hitBreakpointIds], ['breakpoint', [breakpoint.id]]);
        const [frame, caller] = await user.frames();
        assert.match(`${frame?.name} ${caller?.name}`, /start_kernel __primary_switched/);
        assert.equal(frame?.line, line);

        const before = await user.pc();
        assert.equal((await user.go('next', { granularity: 'instruction' })).reason, 'step');
        assert.equal(await user.pc(), before + 4n);
        for (let at = line; at < line + 3; ) {
          assert.equal((await user.go('next')).reason, 'step');
          assert.ok((await lineNow(user)) > at, `next from line ${at}`);
          at = await lineNow(user);
        }
        // To the line of a call, into that, and out again.
        while ((await nameNow(user)) === 'start_kernel') await user.go('stepIn');
        const callee = await nameNow(user);
        assert.equal((await user.go('stepOut')).reason, 'step');
        assert.equal(await nameNow(user), 'start_kernel', `out of ${callee}`);

        const { dataId } = await user.client.request('dataBreakpointInfo', { name: 'system_state' });
        await user.client.request('setDataBreakpoints', { breakpoints: [{ dataId, accessType: 'write' }] });
        const written = await user.go('continue');
        assert.equal(written.reason, 'data breakpoint');
        assert.match(written.description, /which were 0x0 and are 0x1/);
        assert.equal(await user.evaluate('system_state'), 'SYSTEM_SCHEDULING (1)');
        const status = await user.client.request('kvm/status');
        assert.equal(status.target, `remote stub localhost:${qemu.port}`);
        assert.deepEqual(status.watchpoints, { used: 1, total: 4 });
        await user.client.request('setDataBreakpoints', { breakpoints: [] });

        await user.client.request('continue', { threadId: user.threadId });
        await qemu.waitFor(/GUEST-TICK 1/);
        await user.client.request('pause', { threadId: 1 });
        assert.equal((await user.stopped()).reason, 'pause');
        // Whoever runs: the kernel is read, from user space too.
        assert.match(await user.evaluate('init_task.comm'), /swapper/);
        const { text } = await user.client.request('kvm/kernelLog');
        assert.match(text, /Linux version 6\.1/);
        await user.breakAt(line);
        await user.leave(false);
      });
      assert.equal(await qemu.ended, 'status 0', 'the guest has run on to its end');
      assert.match(qemu.output, /GUEST-TICK 2\s+GUEST-POWEROFF/);
    });
  }

  test('registers are those that gdb shows', async (context) => {
    const qemu = await start(context, { cpus: 2, parameters: 'nokaslr' });
    const at = '0xffff800009390a50'; // start_kernel, where gdb needs no symbols
    const vector = 0xfedc_ba98_7654_3210_0123_4567_89ab_cdefn;
    const halves = [vector & (2n ** 64n - 1n), vector >> 64n].map((half, n) => `set $v7.d.u[${n}] = ${half}`);
    const commands = [`hbreak *${at}`, 'continue', ...halves, 'info all-registers'];
    const said = registersIn(await gdbSays(qemu.port, commands));
    assert.equal(said.get('pc'), BigInt(at));
    assert.ok(said.size > 200, `gdb shows ${said.size}`);
    await session(adapter, async (user) => {
      await user.begin('attach', configuration(qemu));
      assert.equal((await user.stopped()).reason, 'entry');
      assert.equal(await user.pc(), BigInt(at), 'gdb has left it where it was');
      let compared = 0;
      for (const [spelling, value] of said) {
        const name = architecturalName(spelling);
        // Vectors have braces in gdb and are not in that map; the first of two of one name counts; counters go on.
        if (/^(cnt|pmccntr)/.test(name)) continue;
        if (/^w\d+$/.test(name)) continue; // gdb's own name for a half
        // QEMU has the stack pointer in use elsewhere, and a value of before for the register itself.
        if (name === 'sp_el1') continue;
        const shown = await user.evaluate(`$${name},x`);
        assert.equal(BigInt(/0x[0-9a-f]+/.exec(shown)?.[0] ?? -1), value, `${spelling}: ${shown}`);
        compared++;
      }
      assert.ok(compared > 150, `${compared} are the same`);
      assert.equal(await user.evaluate('$sp_el1,x'), await user.evaluate('$sp,x'));
      assert.equal(BigInt(await user.evaluate('$v7,x')), vector);
      await user.client.request('terminate');
      await user.client.waitFor('terminated');
    });
    await qemu.ended;
  });

  for (const hasEl2 of [false, true]) {
    test(`a kernel that runs at EL${hasEl2 ? 2 : 1}, and has moved itself`, async (context) => {
      const qemu = await start(context, { cpus: 2, hasEl2, parameters: 'guest.do=spin' });
      await session(adapter, async (user) => {
        await user.begin('attach', configuration(qemu, { stopOnEntry: false }));
        await qemu.waitFor(/GUEST-TICK 1/);
        await user.leave(false);
      });
      await session(adapter, async (user) => {
        await user.begin('attach', configuration(qemu, { stopOnEntry: false }), async () => {
          await user.client.request('setFunctionBreakpoints', { breakpoints: [{ name: '__arm64_sys_getppid' }] });
        });
        const seen = new Set<number>();
        for (let stop = await user.stopped(); seen.size < 2; stop = await user.go('continue')) {
          assert.equal(stop.reason, 'function breakpoint');
          assert.match((await user.frames()).map(({ name }) => name).join(' '), /__arm64_sys_getppid .*el0_svc/);
          seen.add(stop.threadId);
        }
        await user.client.request('setFunctionBreakpoints', { breakpoints: [] });
        // One step of one vCPU moves no other.
        const pcs = async (): Promise<readonly string[]> => {
          const stacks = [1, 2].map((threadId) => user.client.request('stackTrace', { threadId, levels: 1 }));
          return (await Promise.all(stacks)).map(({ stackFrames }) => stackFrames[0].instructionPointerReference);
        };
        for (let step = 0; step < 10; step++) {
          const before = await pcs();
          user.threadId = 2;
          assert.equal((await user.go('stepIn', { granularity: 'instruction' })).reason, 'step');
          const now = await pcs();
          assert.equal(now[0], before[0]);
          assert.notEqual(now[1], before[1]);
        }
        // The kernel is read also from where it is not to be accessed.
        for (;;) {
          assert.match(await user.evaluate('init_task.comm'), /swapper/);
          if (((BigInt(await user.evaluate('$pstate,x')) >> 2n) & 3n) === 0n) break;
          await user.client.request('continue', { threadId: 2 });
          await user.client.request('pause', { threadId: 2 });
          assert.equal((await user.stopped()).reason, 'pause');
        }
        await user.leave(false);
      });
      const ticks = (): number => Number(/.*GUEST-TICK (\d+)/s.exec(qemu.output)?.[1]);
      const last = ticks();
      await qemu.waitFor(new RegExp(`GUEST-TICK ${last + 1}\\b`));
    });
  }

  test('a debugger that is killed leaves a guest that another one can have', async (context) => {
    const qemu = await start(context, { cpus: 2, parameters: 'guest.do=ticks guest.ticks=2' });
    const victim = await startAdapter();
    const user = await User.of(victim);
    await user.begin('attach', configuration(qemu, { stopOnEntry: false }), async () => {
      await user.client.request('setFunctionBreakpoints', { breakpoints: [{ name: 'hrtimer_nanosleep' }] });
    });
    assert.equal((await user.stopped()).reason, 'function breakpoint');
    await user.client.request('continue', { threadId: 1 });
    await victim.kill();
    await session(adapter, async (next) => {
      await next.begin('attach', configuration(qemu));
      await next.stopped();
      await next.leave(false);
    });
    assert.equal(await qemu.ended, 'status 0');
  });

  test('a second debugger is told that there is one, and takes over when it has gone', async (context) => {
    const qemu = await start(context, { parameters: 'guest.do=idle' });
    const other = await startAdapter();
    context.after(() => other.close());
    await session(adapter, async (user) => {
      await user.begin('attach', configuration(qemu));
      await user.stopped();
      await session(other, async (second) => {
        const why = await second.client.refused('attach', configuration(qemu));
        assert.match(why, new RegExp(`localhost:${qemu.port} accepts the connection.*another debugger`));
      });
      await user.leave(false);
    });
    await session(other, async (second) => {
      await second.begin('attach', configuration(qemu));
      assert.equal((await second.stopped()).reason, 'entry');
      await second.leave(false);
    });
  });

  test('the end of the VM, and a VM that is killed', async (context) => {
    for (const how of ['powers off', 'is killed'] as const) {
      const qemu = await start(context, { parameters: how === 'powers off' ? 'guest.do=poweroff' : 'guest.do=idle' });
      await session(adapter, async (user) => {
        await user.begin('attach', configuration(qemu));
        await user.stopped();
        if (how === 'powers off') {
          await user.client.request('continue', { threadId: 1 });
          assert.equal((await user.client.waitFor('exited')).body.exitCode, 0);
        } else await qemu.kill();
        await user.client.waitFor('terminated');
        if (how === 'is killed') {
          const said = user.client.outputText('important');
          assert.match(said, /The session has ended: The connection to the remote stub at .* is lost/);
        }
        await user.leave(false);
      });
    }
  });

  test('nobody there', () =>
    session(adapter, async (user) => {
      const why = await user.client.refused('attach', { type: 'kvm', remote: 'localhost:9', symbols });
      assert.match(why, /nothing listens at localhost:9; start the VM with a GDB stub there \(QEMU: -gdb tcp::9\)/);
    }));
});
