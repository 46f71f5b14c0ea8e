// The guest's own traps and failures: the exception filters stop at those that are chosen, the others it takes as if nobody
// were there.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type LabCpu, lkvm } from '../../lab/lab.ts';
import { guestCommand } from '../../lab/vmm.ts';
import { type AdapterInLab, guestConfiguration, startAdapterInLab } from '../support/labAdapter.ts';
import { noStrays, session, type Vmm } from '../support/labUser.ts';
import { provokingInitrd } from './provoke.ts';

/** Where the initramfs with the provoking modules is, in the lab. */
const provoking = '/job/provoking';

// VHE and nVHE: KVM handles the debug exceptions in different places.
for (const [cpu, vmm] of [
  ['neoverse-n1', lkvm() === undefined ? 'qemu' : 'kvmtool'],
  ['cortex-a72', 'qemu'],
] as const satisfies readonly (readonly [LabCpu, Vmm])[]) {
  describe(`traps on ${cpu}`, () => {
    let adapter: AdapterInLab;
    before(async () => {
      adapter = await startAdapterInLab({ cpu, files: { [provoking]: await provokingInitrd() } });
    });
    after(() => adapter.close());

    test("the guest's own traps: those chosen stop it, the others it takes itself", async (context) => {
      const free = adapter.lab.start(guestCommand(vmm, 'guest.do=traps'));
      context.after(() => free.kill('SIGKILL'));
      const wanted = /GUEST-KPROBE (.*)[\s\S]*GUEST-BRK (\d+)/.exec((await free.ended).output);
      assert.equal(wanted?.[2]?.trim(), '133', 'SIGTRAP');

      await session(adapter, async (user) => {
        const choose = (...filters: string[]) => user.client.request('setExceptionBreakpoints', { filters });
        await user.begin('launch', guestConfiguration(vmm, { cpus: 2, parameters: 'guest.do=traps' }), async () => {
          const { breakpoints } = await choose('bug', 'kprobe', 'panic');
          assert.deepEqual(
            breakpoints.map(({ verified }: { verified: boolean }) => verified),
            [true, true, true],
          );
        });
        await user.stopped();
        assert.equal((await user.go('continue')).reason, 'exception');
        assert.match((await user.frames())[0]?.name ?? '', /do_sys_openat2/);
        const info = await user.client.request('exceptionInfo', { threadId: user.threadId });
        assert.equal(info.exceptionId, 'kprobe');
        // Its handler is no place to step to.
        assert.equal((await user.go('next')).reason, 'step');
        assert.match((await user.frames())[0]?.name ?? '', /do_sys_openat2/);
        await choose('user', 'panic');
        assert.equal((await user.go('continue')).reason, 'exception');
        assert.equal(await user.pc(), 0x400078n, 'the instruction in user space');
        assert.equal((await user.go('continue')).reason, 'exception');
        assert.match((await user.frames())[0]?.name ?? '', /panic/);
        const names = (await user.frames()).map(({ name }) => name).join(' ');
        assert.match(names, /sysrq_handle_crash/);
        await user.client.request('continue', { threadId: user.threadId });
        await user.client.waitFor('exited');
        const seen = /GUEST-KPROBE (.*)[\s\S]*GUEST-BRK (\d+)/.exec(user.client.outputText('stdout'));
        assert.deepEqual([seen?.[1]?.trim(), seen?.[2]?.trim()], [wanted?.[1]?.trim(), wanted?.[2]?.trim()]);
        await user.leave(true);
        await noStrays(adapter);
      });
    });

    // Neither CPU nor VMM make a difference here, and it takes its time.
    if (cpu !== 'neoverse-n1') return;

    test('a WARN, a soft lockup, traps of each kind, an oops and a BUG: as unattached, each stopped at when chosen', async () => {
      const parameters = 'guest.do=provoke loglevel=5';
      /** What the kernel says of them, less what differs from run to run; a lockup is reported as long as it lasts. */
      const said = (console: string): readonly string[] =>
        console
          .split(/[\r\n]+/)
          .map((line) => line.replace(/^\[ *\d+\.\d+\] /, ''))
          .filter((line) => /^(WARNING:|watchdog:|Unable to|Internal error|kernel BUG|GUEST-PROVOKED)/.test(line))
          .map((line) => line.replace(/CPU(: |#)\d+|PID: \d+|for \d+s|insmod:\d+/g, ''))
          .filter((line, index, all) => line !== all[index - 1]);
      // What comes after it the kernel and the shell write into each other.
      const untilBug = (lines: readonly string[]): readonly string[] =>
        lines.slice(0, lines.findIndex((line) => line.startsWith('Internal error: Oops - BUG')) + 1);
      const alone = untilBug(
        said((await adapter.lab.run(guestCommand(vmm, parameters, { initrd: provoking }))).output),
      );
      assert.match(alone.join('\n'), /WARNING: .*soft lockup.*Unable to handle.*Internal error: Oops.*kernel BUG at/s);

      const kinds = ['kasan', 'ubsan', 'cfi', 'kgdb', 'brk'];
      for (const chosen of [[], ['warn', 'bug', 'oops', 'lockup', ...kinds]]) {
        await session(adapter, async (user) => {
          const choose = (filters: readonly string[]) => user.client.request('setExceptionBreakpoints', { filters });
          const stopsAt = async (id: string, caller: RegExp): Promise<void> => {
            assert.equal((await user.go('continue')).reason, 'exception');
            const info = await user.client.request('exceptionInfo', { threadId: user.threadId });
            assert.equal(info.exceptionId, id);
            assert.match((await user.frames()).map(({ name }) => name).join(' '), caller);
          };
          await user.begin(
            'launch',
            { ...guestConfiguration(vmm, { cpus: 2, parameters }), initrd: provoking },
            async () => {
              for (const { verified } of (await choose(chosen)).breakpoints) assert.equal(verified, true);
            },
          );
          await user.stopped();
          if (chosen.length > 0) {
            await stopsAt('warn', /do_one_initcall/);
            // Its handler is no place to step to. A busy guest may have more to complain of meanwhile.
            const warning = await user.pc();
            await choose([]);
            assert.equal((await user.go('next', { granularity: 'instruction' })).reason, 'step');
            assert.equal(await user.pc(), warning + 4n);
            await choose(chosen.filter((id) => id !== 'warn'));
            await stopsAt('lockup', /watchdog_timer_fn/);
            await choose(kinds);
            for (const kind of kinds) await stopsAt(kind, /do_one_initcall/);
            await choose(['bug', 'oops']);
            await stopsAt('oops', /die.*brk_handler|die.*do_debug_exception/);
            await stopsAt('oops', /die.*__do_kernel_fault/);
            await stopsAt('bug', /do_one_initcall/);
            await stopsAt('oops', /die.*bug_handler/);
            await choose([]);
          }
          await user.client.request('continue', { threadId: user.threadId });
          await user.client.waitFor('exited');
          assert.deepEqual(untilBug(said(user.client.outputText('stdout'))), alone);
          await user.leave(true);
          await noStrays(adapter);
        });
      }
    });
  });
}
