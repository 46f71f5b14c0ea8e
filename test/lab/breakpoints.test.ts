// Breakpoints of every kind, good ones and bad ones, in a real kernel, as a DAP client sets them.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { lkvm, vmlinux } from '../../lab/lab.ts';
import { SymbolFile } from '../../src/symbols/image.ts';
import { type AdapterInLab, guestConfiguration, startAdapterInLab } from '../support/labAdapter.ts';
import { lineOf, noStrays, session, type User, type Vmm } from '../support/labUser.ts';

interface Shown {
  readonly id: number;
  readonly verified: boolean;
  readonly message?: string;
}

const vmm: Vmm = lkvm() === undefined ? 'qemu' : 'kvmtool';
const hex = (value: bigint): string => `0x${value.toString(16)}`;

describe('breakpoints', () => {
  let adapter: AdapterInLab;
  before(async () => {
    adapter = await startAdapterInLab();
  });
  after(() => adapter.close());

  /** A guest of `parameters`, stopped at the call of boot_cpu_init(), which has no breakpoint any more. */
  const inStartKernel = (parameters: string, work: (user: User, line: number) => Promise<void>): Promise<void> =>
    session(adapter, async (user) => {
      const line = await lineOf('boot_cpu_init');
      await user.begin('launch', guestConfiguration(vmm, { cpus: 2, parameters }), async () => {
        await user.breakAt(line);
      });
      await user.stopped();
      assert.equal((await user.go('continue')).reason, 'breakpoint');
      await user.client.request('setBreakpoints', { source: { path: 'init/main.c' }, breakpoints: [] });
      await work(user, line);
      await user.leave(true);
      await noStrays(adapter);
    });
  const setFunctions = async (user: User, ...breakpoints: object[]): Promise<readonly Shown[]> =>
    (await user.client.request('setFunctionBreakpoints', { breakpoints })).breakpoints;
  const setInstructions = async (user: User, ...places: (readonly [bigint, object?])[]): Promise<readonly Shown[]> => {
    const breakpoints = places.map(([place, extra]) => ({ instructionReference: hex(place), ...extra }));
    return (await user.client.request('setInstructionBreakpoints', { breakpoints })).breakpoints;
  };
  const setData = async (user: User, ...breakpoints: object[]): Promise<readonly Shown[]> =>
    (await user.client.request('setDataBreakpoints', { breakpoints })).breakpoints;
  const addressOf = async (user: User, name: string): Promise<bigint> =>
    BigInt((await user.evaluate(`&${name}`)).split(' ')[0] ?? 0);
  /** Runs to the end, and nothing stops it. */
  const runOut = async (user: User): Promise<void> => {
    const before = user.client.events('stopped').length;
    await user.client.request('continue', { threadId: user.threadId });
    assert.equal((await user.client.waitFor('exited')).body.exitCode, 0);
    assert.equal(user.client.events('stopped').length, before);
  };
  const logged = (user: User, pattern: RegExp): number => user.client.outputText('console').match(pattern)?.length ?? 0;

  test('a function of a file; a jump back; into the function that is chosen; to the cursor', async () => {
    await inStartKernel('', async (user, line) => {
      const start = await user.pc();
      const frameId = async (): Promise<number | undefined> => (await user.frames())[0]?.id;
      const into = await user.client.request('stepInTargets', { frameId: await frameId() });
      assert.deepEqual(
        into.targets.map(({ label }: { label: string }) => label),
        ['boot_cpu_init'],
      );
      assert.equal((await user.go('stepIn', { targetId: into.targets[0].id })).reason, 'step');
      assert.match((await user.frames())[0]?.name ?? '', /boot_cpu_init/);
      assert.equal((await user.go('stepOut')).reason, 'step');
      await user.go('next');

      // What boot_cpu_init() does, it does as well a second time.
      const { targets } = await user.client.request('gotoTargets', { source: { path: 'init/main.c' }, line });
      assert.equal(targets.length, 1);
      const jumped = await user.go('goto', { targetId: targets[0].id });
      assert.deepEqual([jumped.reason, await user.pc()], ['goto', start]);
      await user.go('next');
      assert.notEqual(await user.pc(), start);

      // VS Code runs to the cursor by a breakpoint that it takes away again.
      const cursor = await lineOf('trap_init');
      await user.breakAt(cursor);
      await user.go('continue');
      assert.equal((await user.frames())[0]?.line, cursor);
      await user.client.request('setBreakpoints', { source: { path: 'init/main.c' }, breakpoints: [] });

      const [found, wrong] = await setFunctions(
        user,
        { name: 'open.c:do_sys_openat2' },
        { name: 'main.c:do_sys_openat2' },
      );
      assert.equal(found?.verified, true, found?.message);
      assert.match(wrong?.message ?? '', /no function `do_sys_openat2` in main.c; there is in fs\/open.c/);
      assert.deepEqual((await user.go('continue')).hitBreakpointIds, [found?.id]);
      assert.match((await user.frames())[0]?.name ?? '', /do_sys_openat2/);
      const [stack = ''] = (await user.evaluate('(unsigned long)$sp & ~15')).split(' ');
      const [onStack] = await setInstructions(user, [BigInt(stack)]);
      assert.match(onStack?.message ?? '', /its page is not executable/);

      await setFunctions(user, { name: 'do_exit' });
      assert.equal((await user.go('continue')).reason, 'function breakpoint');
      // Out of what is inlined at its beginning.
      while ((await user.frames())[0]?.name !== 'do_exit') await user.go('stepOut');
      await assert.rejects(user.client.request('stepOut', { threadId: user.threadId }), /do_exit never returns/);
      await setFunctions(user);
    });
  });

  test('over a function that is inlined, into it, and out of it', async () => {
    await inStartKernel('guest.do=ticks guest.ticks=4', async (user) => {
      const top = async (): Promise<string> => (await user.frames())[0]?.name ?? '';
      await setFunctions(user, { name: 'hrtimer_nanosleep' });
      assert.equal((await user.go('continue')).reason, 'function breakpoint');
      const begin = await user.pc();
      for (let round = 0; round < 4; round++) {
        assert.equal((await user.go('next')).reason, 'step');
        assert.match(await top(), /^hrtimer_nanosleep/);
      }
      assert.ok((await user.pc()) > begin + 0x40n, 'past what is inlined');

      assert.equal((await user.go('continue')).reason, 'function breakpoint');
      for (let round = 0; !/^hrtimer_init_sleeper_on_stack/.test(await top()); round++) {
        assert.ok(round < 8, await top());
        // Called in front of it.
        const kind = /^memset/.test(await top()) ? 'stepOut' : 'stepIn';
        assert.equal((await user.go(kind)).reason, 'step');
      }
      assert.equal((await user.go('stepOut')).reason, 'step');
      assert.match(await top(), /^hrtimer_nanosleep/);
    });
  });

  test('hit counts, logpoints with expressions, one location with many addresses', async () => {
    await inStartKernel('guest.do=ticks guest.ticks=6', async (user) => {
      const name = 'hrtimer_nanosleep';
      const set = await setFunctions(
        user,
        { name, hitCondition: '>= 3', logMessage: 'from the third: {mode} in {$pc}' },
        { name, hitCondition: '% 2', logMessage: 'every second' },
        { name, hitCondition: '== 4', logMessage: 'the fourth' },
        { name, condition: 'clockid == 77', logMessage: 'never' },
        { name: 'hrtimer_init_sleeper_on_stack', logMessage: 'inlined' },
      );
      for (const { verified, message } of set) assert.equal(verified, true, message);
      const symbols = SymbolFile.open((await vmlinux()).file);
      assert.ok(symbols.functionBreakpoint('hrtimer_init_sleeper_on_stack').length > 3);
      symbols.close();
      await runOut(user);
      // One for each tick, and what the shell's poweroff may sleep.
      const fromThird = logged(
        user,
        /^from the third: HRTIMER_MODE_REL \(1\) in 0xffff\w+ <hrtimer_nanosleep\+0x8>$/gm,
      );
      assert.ok(fromThird >= 4);
      assert.equal(logged(user, /^every second$/gm), Math.floor((fromThird + 2) / 2));
      assert.equal(logged(user, /^the fourth$/gm), 1);
      assert.equal(logged(user, /^never$/gm), 0);
      assert.ok(logged(user, /^inlined$/gm) >= 6, 'among others in hrtimer_nanosleep()');
    });
  });

  test('set and cleared while the guest runs', async () => {
    await inStartKernel('guest.do=ticks guest.ticks=5', async (user) => {
      await user.client.request('continue', { threadId: user.threadId });
      for (let round = 0; round < 3; round++) {
        const [set] = await setFunctions(user, { name: 'hrtimer_nanosleep' });
        assert.equal(set?.verified, true, set?.message);
        assert.deepEqual((await user.stopped()).hitBreakpointIds, [set?.id]);
        await user.client.request('continue', { threadId: user.threadId });
        await setFunctions(user);
      }
      const before = user.client.events('stopped').length;
      assert.equal((await user.client.waitFor('exited')).body.exitCode, 0);
      assert.ok(user.client.events('stopped').length - before <= 1, 'one may have been on its way');
    });
  });

  test('bad ones say what is wrong with them, and leave the others alone', async () => {
    await inStartKernel('guest.do=ticks guest.ticks=4', async (user) => {
      const here = await user.pc();
      const task = await addressOf(user, 'init_task');
      const nowhere = 0xffff_8000_2000_1000n;
      const [data, odd, unmapped, forced] = await setInstructions(
        user,
        [task],
        [here + 2n],
        [nowhere],
        [nowhere + 4n, { mode: 'software' }],
      );
      assert.match(data?.message ?? '', /no code at 0x\w+: it is in \.data/);
      assert.match(odd?.message ?? '', /aligned to 4 bytes/);
      assert.match(unmapped?.message ?? '', /1 of the vCPU's 6 are in use. No code is mapped there yet/);
      assert.match(forced?.message ?? '', /Cannot access virtual memory/);
      assert.deepEqual(
        [data, odd, unmapped, forced].map((each) => each?.verified),
        [false, false, true, false],
      );

      const many = Array.from({ length: 8 }, (_, n) => [here + BigInt(4 * n), { mode: 'hardware' }] as const);
      const budget = await setInstructions(user, ...many);
      assert.equal(budget.filter(({ verified }) => verified).length, 6);
      assert.match(budget[0]?.message ?? '', /6 of the vCPU's 6 are in use/);
      assert.match(budget[7]?.message ?? '', /No hardware breakpoint is left for 0x\w+: 6 of the vCPU's 6/);
      // Fewer are enough for all.
      const fewer = await setInstructions(user, ...many.slice(4));
      assert.ok(fewer.every(({ verified }) => verified));
      assert.match(fewer[0]?.message ?? '', /4 of the vCPU's 6/);
      await setInstructions(user);

      const [unparsed, faulting, good] = await setFunctions(
        user,
        { name: 'hrtimer_nanosleep', condition: 'mode ==' },
        { name: 'hrtimer_nanosleep', condition: '*(int *)0x10 == 1' },
        { name: 'hrtimer_nanosleep', hitCondition: '2', condition: 'mode == HRTIMER_MODE_REL' },
      );
      assert.match(unparsed?.message ?? '', /condition is not valid/);
      assert.deepEqual([unparsed?.verified, faulting?.verified, good?.verified], [false, true, true]);
      const fault = await user.go('continue');
      assert.deepEqual(fault.hitBreakpointIds, [faulting?.id]);
      assert.match(fault.description, /condition cannot be evaluated: Cannot access virtual memory at 0x10/);
      assert.deepEqual((await user.go('continue')).hitBreakpointIds, [good?.id]);
      await runOut(user);
      assert.equal(logged(user, /cannot be evaluated/g), 1);
    });
  });

  test('data: read and written, of any place and size, with what was and what is', async () => {
    await inStartKernel('guest.do=ticks guest.ticks=2', async (user) => {
      const jiffies = await addressOf(user, 'jiffies');
      const frameId = (await user.frames())[0]?.id;
      const info = (args: object) => user.client.request('dataBreakpointInfo', args);
      const stopAt = async (dataId: string, accessType: string): Promise<string> => {
        const [set] = await setData(user, { dataId, accessType });
        assert.equal(set?.verified, true, set?.message);
        assert.match(set?.message ?? '', /the vCPU has 4/);
        const { reason, description, hitBreakpointIds } = await user.go('continue');
        assert.deepEqual([reason, hitBreakpointIds], ['data breakpoint', [set?.id]]);
        await setData(user);
        return description;
      };

      const expression = await info({ name: 'jiffies', frameId });
      const written = await stopAt(expression.dataId, 'write');
      const [, old = 0, now = 0] =
        /`st\w+ .*` at 0x\w+ accessed 8 bytes at .* were (0x\w+) and are (0x\w+)/.exec(written) ?? [];
      assert.equal(BigInt(now), BigInt(old) + 1n, written);
      assert.match(
        await stopAt(expression.dataId, 'read'),
        /`ld\w+ .*` at 0x\w+ accessed 8 bytes at \w+, which are 0x/,
      );
      assert.match(await stopAt(expression.dataId, 'readWrite'), /accessed 8 bytes at \w+, which (are|were) 0x/);

      const unaligned = await info({ name: hex(jiffies + 2n), asAddress: true, bytes: 3 });
      assert.match(
        await stopAt(unaligned.dataId, 'write'),
        new RegExp(`accessed 3 bytes at ${hex(jiffies + 2n)}, which`),
      );
      const range = await info({
        name: `(char *)&jiffies - 4`,
        asAddress: true,
        bytes: 24,
        frameId: (await user.frames())[0]?.id,
      });
      assert.equal(range.dataId, `${hex(jiffies - 4n)}/24`);
      assert.match(
        await stopAt(range.dataId, 'write'),
        new RegExp(`accessed 24 bytes at ${hex(jiffies - 4n)}, of which \\d at ${hex(jiffies)} were 0x\\w+ and are 0x`),
      );

      const evaluated = await user.client.request('evaluate', { expression: 'init_task', context: 'watch' });
      const member = await info({ variablesReference: evaluated.variablesReference, name: 'nivcsw' });
      assert.match(await stopAt(member.dataId, 'write'), /accessed 8 bytes at .* were 0x\w+ and are 0x/);
      assert.equal((await info({ name: '$x0' })).dataId, null);

      const [first, second, huge, third] = await setData(
        user,
        { dataId: range.dataId },
        { dataId: `${hex(jiffies + 60n)}/24` },
        { dataId: `${hex(jiffies + 1n)}/2147483647` },
        { dataId: member.dataId },
      );
      assert.deepEqual(
        [first, second, huge, third].map((each) => each?.verified),
        [true, false, false, true],
      );
      assert.match(second?.message ?? '', /needs \d of the vCPU's 4 hardware watchpoints; \d are in use/);
      assert.match(huge?.message ?? '', /Cannot watch 2147483647 bytes/);
      assert.equal((await user.go('continue')).reason, 'data breakpoint');
      await setData(user);
      await runOut(user);
    });
  });
});
