// Code that the guest rewrites where breakpoints of ours stand: it behaves as unattached, and they stay.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { lkvm, vmlinux } from '../../lab/lab.ts';
import { guestCommand } from '../../lab/vmm.ts';
import { PatchedText } from '../../src/linux/patchedText.ts';
import { SymbolFile } from '../../src/symbols/image.ts';
import { type AdapterInLab, guestConfiguration, startAdapterInLab } from '../support/labAdapter.ts';
import { lineOf, noStrays, session, type Vmm } from '../support/labUser.ts';

const vmm: Vmm = lkvm() === undefined ? 'qemu' : 'kvmtool';
const traced = 'do_sys_openat2';

/** The first instruction of a function that the kernel replaces, behind the room for ftrace. */
function firstPatched(symbols: SymbolFile, name: string): bigint {
  const [symbol] = symbols.symbolsNamed(name);
  const patched = new PatchedText(symbols);
  const end = (symbol?.address ?? 0n) + (symbol?.size ?? 0n);
  for (let address = (symbol?.address ?? 0n) + 8n; address < end; address += 4n) {
    if (patched.has(address)) return address;
  }
  throw new Error(`nothing is replaced in ${name}`);
}

describe('code that the guest rewrites', () => {
  let adapter: AdapterInLab;
  let start: bigint;
  let behindPrologue: bigint;
  /** A place of the static key sched_schedstats, which is passed by once whenever /proc/PID/sched is read. */
  let keyed: bigint;
  let alone: readonly string[];
  const parameters = (): string =>
    `guest.do=patch guest.busy=1 guest.trace=${traced} guest.probe=${traced}+${behindPrologue - start}`;
  /** What the guest says of its own kprobe and tracer, and everything the kernel complains of. */
  const said = (console: string): readonly string[] =>
    console.split(/[\r\n]+/).filter((line) => /GUEST-[KF]|rror|WARN|ftrace|kprobe/.test(line));

  before(async () => {
    const symbols = SymbolFile.open((await vmlinux()).file);
    start = symbols.symbolsNamed(traced)[0]?.address ?? 0n;
    behindPrologue = symbols.functionBreakpoint(traced)[0]?.address ?? 0n;
    keyed = firstPatched(symbols, 'proc_sched_show_task');
    symbols.close();
    adapter = await startAdapterInLab();
    alone = said((await adapter.lab.run(guestCommand(vmm, parameters()))).output);
  });
  after(() => adapter.close());

  for (const [mode, cpus] of [
    ['auto', 4],
    ['software', 2],
    ['hardware', 2],
  ] as const) {
    test(`breakpoints of mode ${mode} under a kprobe, the function tracer and a static key, ${cpus} busy vCPUs`, async () => {
      assert.match(alone.join(), /GUEST-KPROBE +probed +[1-9].*GUEST-FTRACE [1-9]/);
      await session(adapter, async (user) => {
        const line = await lineOf('boot_cpu_init');
        await user.begin('launch', guestConfiguration(vmm, { cpus, parameters: parameters() }), async () => {
          await user.breakAt(line);
        });
        await user.stopped();
        await user.go('continue');
        // Room for ftrace, which it makes use of later in the boot, the instruction that the kprobe is at, and a static key.
        const places = [start, start + 4n, behindPrologue, keyed];
        const { breakpoints } = await user.client.request('setInstructionBreakpoints', {
          breakpoints: places.map((place, index) => ({
            instructionReference: `0x${place.toString(16)}`,
            mode,
            logMessage: `at ${index}`,
          })),
        });
        assert.deepEqual(
          breakpoints.map(({ verified }: { verified: boolean }) => verified),
          [true, true, true, true],
        );
        await user.breakAt(line, { condition: '0' });
        await user.client.request('continue', { threadId: user.threadId });
        assert.equal((await user.client.waitFor('exited')).body.exitCode, 0);
        assert.deepEqual(said(user.client.outputText('stdout')), alone);
        const logged = user.client.outputText('console');
        const counts = places.map((_, index) => logged.match(new RegExp(`^at ${index}$`, 'gm'))?.length ?? 0);
        const ofKey = counts.pop();
        assert.ok((counts[0] ?? 0) > 10 && new Set(counts).size === 1, `each was hit at each call: ${counts}`);
        assert.equal(ofKey, 3, 'with the key off, on, and off again');
        assert.doesNotMatch(logged, /rewritten/);
        assert.match(logged, /the guest has freed the code of init\/main.c/);
        await user.leave(true);
        await noStrays(adapter);
      });
    });
  }

  /** As often as hardware breakpoints, which are nothing but an address, are hit. */
  let wanted: number | undefined;
  for (const mode of ['hardware', 'software', 'auto'] as const) {
    test(`a breakpoint of mode ${mode} in a module that goes and comes again`, async () => {
      await session(adapter, async (user) => {
        await user.begin('launch', guestConfiguration(vmm, { cpus: 2, parameters: 'guest.do=reload' }));
        await user.stopped();
        await user.client.request('setFunctionBreakpoints', { breakpoints: [{ name: 'proc_sched_show_task' }] });
        assert.equal((await user.go('continue')).reason, 'function breakpoint');
        const place = /GUEST-AT ([0-9a-f]+) /;
        while (!place.test(user.client.outputText('stdout'))) await user.client.waitFor('output');
        const [, start] = place.exec(user.client.outputText('stdout')) ?? [];
        const { breakpoints } = await user.client.request('setInstructionBreakpoints', {
          breakpoints: [{ instructionReference: `0x${start}`, mode, logMessage: 'in the module' }],
        });
        assert.equal(breakpoints[0].verified, true, breakpoints[0].message);
        await user.client.request('setFunctionBreakpoints', { breakpoints: [] });
        await user.client.request('continue', { threadId: user.threadId });
        await user.client.waitFor('exited');
        const hits = user.client.outputText('console').match(/^in the module$/gm)?.length ?? 0;
        // Three for each time it is loaded, and what the kernel wants to know by itself.
        assert.ok(hits >= 6, `${hits} hits`);
        wanted ??= hits;
        assert.equal(hits, wanted);
        assert.equal(user.client.outputText('stdout').match(/GUEST-AT /g)?.length, 2);
        await user.leave(true);
        await noStrays(adapter);
      });
    });
  }
});
