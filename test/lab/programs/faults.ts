/** What is wrong with a request or with the machine: one sentence that says so, and nothing is left changed. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { guestCommand, guestWords } from '../../../lab/vmm.ts';
import { Gva } from '../../../src/base/address.ts';
import { MemoryFault, SessionError, UserError } from '../../../src/base/errors.ts';
import type { ExitTrapChoice } from '../../../src/target/connection.ts';
import { kvmDescriptors } from '../../../src/target/kvm/procfs.ts';
import { afterwards, check, within } from './report.ts';
import { attach, connector, imprint, launch, missing, processes, startLinux, Transcript, until } from './vms.ts';

const lkvm = missing('kvmtool');
/** The VMM that all checks but kvmtool's own can use. */
const vmm = lkvm === undefined ? 'kvmtool' : 'qemu';
const { signal } = new AbortController();

/** Whether it is the user's to solve, in one line or with the VMM's own words after it. */
const says = (pattern: RegExp) => (thrown: unknown) => {
  assert.ok(thrown instanceof UserError, `${thrown instanceof Error ? thrown.stack : thrown}`);
  assert.match(thrown.message, pattern);
  assert.doesNotMatch(thrown.message, /undefined|\[object/);
  return true;
};

async function sleeper(): Promise<ChildProcess & { pid: number }> {
  const child = spawn('sleep', ['1000'], { stdio: 'ignore' }) as ChildProcess & { pid: number };
  afterwards(() => child.kill('SIGKILL'));
  // Until then it changes its mappings: the program loads.
  await until('it sleeps', () => /^State:\tS/m.test(readFileSync(`/proc/${child.pid}/status`, 'utf8')));
  return child;
}

interface OtherDebugger {
  readonly output: Transcript;
  end(): Promise<void>;
}

function debuggerAs(user: string | undefined, ...args: readonly string[]): OtherDebugger {
  const env = { ...process.env, ...(user === undefined ? {} : { RUN_AS: user, HOME: '/tmp' }) };
  const child = spawn(process.execPath, ['/job/victim.mjs', ...args], { stdio: ['ignore', 'pipe', 'inherit'], env });
  const end = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  };
  afterwards(end);
  if (!child.stdout) throw new Error('no pipe');
  return { output: new Transcript(child.stdout), end };
}

const noGuardian = (): Promise<void> => until('no guardian is left', () => processes(/guardian\.mjs/).length === 0);

await check('attach to a pid that is not there', async () => {
  await assert.rejects(attach(4_194_303), says(/no process 4194303/));
  await noGuardian();
});

await check('attach to processes that are no VMM', async () => {
  const { pid } = await sleeper();
  const before = imprint(pid);
  await assert.rejects(attach(pid), says(new RegExp(`sleep \\(pid ${pid}\\) is no VMM`)));
  await assert.rejects(attach(1), says(/pid 1\) is no VMM/));
  await assert.rejects(attach(process.pid), says(/is no VMM/));
  assert.deepEqual(imprint(pid), before);
  await noGuardian();
});

await check('attach to a VM that is debugged already', async () => {
  const vm = await startLinux(vmm, 'guest.do=ticks');
  await vm.output.waitFor(/GUEST-TICK 1/);
  const first = debuggerAs(undefined, 'quiet', `${vm.pid}`);
  await first.output.waitFor(/READY/);
  const before = imprint(vm.pid);
  await assert.rejects(attach(vm.pid), says(/traced by process \d+ already/));
  assert.deepEqual(imprint(vm.pid), before);
  await vm.output.ticks();
});

await check(
  'attach to a VM that is paused',
  async () => {
    const vm = await startLinux('qemu', 'guest.do=ticks', { paused: true });
    await until('it has its vCPUs', () => kvmDescriptors(vm.pid).vcpus.size === 2);
    const refusal = await debuggerAs(undefined, 'quiet', `${vm.pid}`).output.waitFor(/REFUSED (.*)\n/);
    assert.match(refusal[1] ?? '', /^UserError: .*does not run: it is paused/);
    for (const line of imprint(vm.pid)) assert.doesNotMatch(line, /TracerPid:\s*[1-9]/);
    await noGuardian();
  },
  { timeout: 60_000 },
);

await check(
  'the guardian is killed while breakpoints are set',
  async () => {
    const vm = await startLinux(vmm, 'guest.do=ticks');
    await vm.output.waitFor(/GUEST-TICK 1/);
    const target = await attach(vm.pid);
    const [pc = 0n] = [...(await target.readRegisters(0, ['pc'])).values()];
    await target.insert({ kind: 'hardware', address: Gva(pc & ~3n) }, 0);
    for (const line of processes(/guardian\.mjs/)) process.kill(Number.parseInt(line, 10), 'SIGKILL');
    await noGuardian();
    await assert.rejects(
      target.resume(),
      (thrown) => thrown instanceof SessionError && /restore the VM/.test(thrown.message),
    );
    await target.detach();
    await vm.output.ticks();
  },
  { timeout: 60_000 },
);

await check(
  'users without rights: another one, and the owner under Yama',
  async () => {
    const user = '1000';
    const yama = '/proc/sys/kernel/yama/ptrace_scope';
    chmodSync('/dev/kvm', 0o666);
    chmodSync('/tmp', 0o1777);
    const other = await startLinux(vmm, 'guest.do=ticks');
    await other.output.waitFor(/GUEST-TICK 1/);
    const before = imprint(other.pid);
    const [, refusal] = await debuggerAs(user, 'quiet', `${other.pid}`).output.waitFor(/REFUSED (.*)\n/);
    assert.match(refusal ?? '', /^UserError: Not allowed .* run the adapter as the user that owns it/);
    assert.deepEqual(imprint(other.pid), before);
    await other.output.ticks();
    process.kill(other.pid, 'SIGKILL');
    // A launch needs no rights but /dev/kvm; perf does, and is left out.
    const launched = debuggerAs(user, 'quiet', guestCommand(vmm, 'guest.do=idle'));
    const [, trap] = await launched.output.waitFor(/TRAP (.*)\n[^R]*READY/);
    await launched.end();
    assert.match(trap ?? '', /^syscall \(.+\)/);
    if (!existsSync(yama)) return;
    const scope = readFileSync(yama, 'utf8');
    afterwards(() => writeFileSync(yama, scope));
    writeFileSync(yama, '1');
    const own = await startLinux(vmm, 'guest.do=ticks', { user: Number(user) });
    await own.output.waitFor(/GUEST-TICK 1/);
    const [, restricted] = await debuggerAs(user, 'quiet', `${own.pid}`).output.waitFor(/REFUSED (.*)\n/);
    assert.match(restricted ?? '', /^UserError: Not allowed .*Yama .*ptrace_scope is 1.*sysctl/);
    await own.output.ticks();
    writeFileSync(yama, '0');
    await debuggerAs(user, 'quiet', `${own.pid}`).output.waitFor(/TRAP syscall[^R]*READY/);
  },
  { timeout: 180_000 },
);

async function launchAs(argv: readonly [string, ...string[]], environment: Record<string, string>): Promise<unknown> {
  const exitTrap: ExitTrapChoice = 'auto';
  return connector.launch({ argv, cwd: '/', environment, exitTrap }, signal);
}

const environment = process.env as Record<string, string>;

await check('the VMM is not on PATH, or not at its path', async () => {
  await assert.rejects(launchAs(['lkvm', 'run'], { PATH: '/nowhere:/tmp' }), says(/"lkvm".*not on PATH.*vmmPath/));
  await assert.rejects(launchAs(['/nowhere/lkvm'], environment), says(/"\/nowhere\/lkvm".*no such program/));
  await assert.rejects(launchAs(['/lab/vmlinux-nothing'], environment), says(/no such program/));
});

await check(
  'the VMM ends at once: its own words are told',
  async () => {
    const failing = launchAs(['lkvm', 'run', '-k', '/nowhere/Image', '-m', '64'], environment);
    await assert.rejects(
      within(20_000, 'the end of lkvm', failing),
      says(/exited with status \d+ .*\/nowhere\/Image/s),
    );
    await assert.rejects(launchAs(['/bin/true'], environment), says(/"\/bin\/true" exited with status 0 before/));
    const selfKill = launchAs(['/bin/sh', '-c', 'kill -SEGV $$'], environment);
    await assert.rejects(selfKill, says(/ended by signal 11/));
    // A process that it leaves behind has its terminal open still.
    const leaving = launchAs(['/bin/sh', '-c', 'echo sorry; sleep 300 & exit 3'], environment);
    await assert.rejects(within(20_000, 'the end of the shell', leaving), says(/exited with status 3 .*sorry/s));
    assert.deepEqual(processes(/^\S*lkvm run/), []);
  },
  { skip: lkvm },
);

await check('a launch that is cancelled ends the VMM', async () => {
  const controller = new AbortController();
  const argv = ['/bin/sleep', '1000'] as const;
  const launching = connector.launch({ argv: [...argv], cwd: '/', environment, exitTrap: 'auto' }, controller.signal);
  await until('it runs', () => processes(/^\/bin\/sleep 1000/).length > 0);
  controller.abort();
  await assert.rejects(launching, says(/cancelled/));
  assert.deepEqual(processes(/^\/bin\/sleep 1000/), []);
});

await check('no /dev/kvm', async () => {
  renameSync('/dev/kvm', '/dev/kvm.away');
  afterwards(() => renameSync('/dev/kvm.away', '/dev/kvm'));
  await assert.rejects(launchAs(guestWords(guestCommand(vmm)), environment), says(/\/dev\/kvm does not exist/));
});

await check('the VMM is killed while it is stopped, and while it runs', async () => {
  for (const running of [false, true]) {
    const { target } = await launch(guestWords(guestCommand(vmm, 'guest.do=idle')));
    const [fact = ''] = /\d+/.exec(target.capabilities.facts.get('VMM') ?? '') ?? [];
    const run = running ? target.resume() : undefined;
    process.kill(Number(fact), 'SIGKILL');
    assert.deepEqual(await within(10_000, 'the end', target.exited), { code: undefined, signal: 9 });
    if (run !== undefined)
      assert.deepEqual(
        (await run).map(({ kind }) => kind),
        ['exited'],
      );
    else await assert.rejects(target.memory(0).read(0n as never, 4), (thrown: unknown) => thrown instanceof Error);
    await target.kill();
  }
});

await check('memory where nothing is', async () => {
  const { target } = await launch(guestWords(guestCommand(vmm, '')));
  const nowhere = 0x7_0000_0000n;
  await assert.rejects(
    target.physicalMemory.read(nowhere as never, 16),
    (thrown: unknown) => thrown instanceof MemoryFault && thrown.space === 'physical' && thrown.address === nowhere,
  );
});
process.exit(0);
