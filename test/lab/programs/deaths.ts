/** The debugger is killed, and the VMM and its guest are as they were. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { guestCommand } from '../../../lab/vmm.ts';
import { cold, hot, spinning, symbol } from './linuxGuest.ts';
import { afterwards, check } from './report.ts';
import { attach, imprint, missing, processes, type RunningVm, Transcript, until, vmms } from './vms.ts';

/** Longer than the guardian waits for a vCPU. */
const guardianTimeout = 150_000;

interface Victim {
  readonly child: ChildProcess;
  readonly output: Transcript;
}

function victim(what: string, ...args: readonly string[]): Victim {
  const child = spawn(process.execPath, ['/job/victim.mjs', what, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  afterwards(() => child.kill('SIGKILL'));
  if (!child.stdout) throw new Error('no pipe');
  return { child, output: new Transcript(child.stdout) };
}

async function kill({ child }: Victim): Promise<void> {
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}

const guardians = (): readonly number[] => processes(/guardian\.mjs/).map((line) => Number.parseInt(line, 10));

async function guardianGone(what: string): Promise<void> {
  await until(`${what}: the guardian is gone`, () => guardians().length === 0, guardianTimeout);
}

/** The VM runs, and can be attached to again. */
async function runsOn(vm: RunningVm, text: Uint8Array, before: readonly string[], what: string): Promise<void> {
  await vm.output.ticks();
  const next = await attach(vm.pid);
  assert.deepEqual(await next.memory(0).read(symbol(hot), 4096), text, what);
  await next.detach();
  assert.deepEqual(imprint(vm.pid), before, what);
}

async function textOf(vm: RunningVm): Promise<Uint8Array> {
  const target = await attach(vm.pid);
  const text = await target.memory(0).read(symbol(hot), 4096);
  await target.detach();
  return text;
}

for (const vmm of vmms) {
  await check(
    `${vmm}: the debugger is killed stopped, stepping, running, and the VM never knows`,
    async () => {
      const vm = await spinning(vmm);
      vm.input.resume();
      const before = imprint(vm.pid);
      const text = await textOf(vm);
      const scenes: readonly (readonly [string, ...string[]])[] = [
        ['stopped', hot, hot],
        ['stepping', cold, cold],
        ['quiet', cold, cold],
        ['running', hot, cold],
      ];
      for (const [what, ...names] of scenes) {
        if (vmm === 'qemu' && what === 'quiet') continue; // much the same as running
        const debuggerToDie = victim(what, `${vm.pid}`, ...names.map((name) => `${symbol(name)}`));
        await debuggerToDie.output.waitFor(/READY/);
        await kill(debuggerToDie);
        await guardianGone(what);
        assert.deepEqual(imprint(vm.pid), before, what);
        await runsOn(vm, text, before, what);
      }
      assert.doesNotMatch(vm.output.text, /KVM exit|KVM_EXIT|PC: |Unexpected|BUG|Oops/);
    },
    { skip: missing(vmm), timeout: 600_000 },
  );
}

/** Whether a thread of the VMM waits in a write to its standard input (/proc/PID/task/TID/syscall), from which node reads no
 *  more. */
function isStuckWriting({ pid, input }: RunningVm): boolean {
  if (input.readableLength < input.readableHighWaterMark) return false;
  return readdirSync(`/proc/${pid}/task`).some((tid) =>
    readFileSync(`/proc/${pid}/task/${tid}/syscall`, 'utf8').startsWith('64 0x0 '),
  );
}

// What the guest executes until the guardian comes is not made undone, so only the VMM and the guest's text are compared.
for (const cpus of [1, 2]) {
  await check(
    `kvmtool, ${cpus} vCPU: the guardian is late, and the VMM stuck with what it prints of debug exits`,
    async () => {
      const vm = await spinning('kvmtool', { cpus });
      const before = imprint(vm.pid);
      const text = await textOf(vm);
      const debuggerToDie = victim('stepping', `${vm.pid}`, `${symbol(cold)}`, `${symbol(cold)}`);
      await debuggerToDie.output.waitFor(/READY/);
      for (const pid of guardians()) process.kill(pid, 'SIGSTOP');
      const gone = once(debuggerToDie.child, 'exit');
      debuggerToDie.child.kill('SIGUSR2');
      await gone;
      await until('the VMM prints', () => isStuckWriting(vm));
      for (const pid of guardians()) process.kill(pid, 'SIGCONT');
      await guardianGone('late');
      assert.deepEqual(imprint(vm.pid), before);
      assert.match(`${vm.input.read()}`, /Registers:\s+PC: +0x/);
      vm.input.resume();
      assert.deepEqual(await textOf(vm), text);
      assert.deepEqual(imprint(vm.pid), before);
    },
    { skip: missing('kvmtool'), timeout: 300_000 },
  );
}

for (const vmm of vmms) {
  await check(
    `${vmm}: the debugger dies when it has taken its signals from a thread, and not yet made it work`,
    async () => {
      const vm = await spinning(vmm);
      const before = imprint(vm.pid);
      const debuggerToDie = victim('injecting', `${vm.pid}`);
      await once(debuggerToDie.child, 'exit');
      assert.match(debuggerToDie.output.text, /READY/);
      await guardianGone('injecting');
      assert.deepEqual(imprint(vm.pid), before);
      await vm.output.ticks();
    },
    { skip: missing(vmm) },
  );
}

async function launchedVictim(): Promise<{ pid: string; debuggerToDie: Victim }> {
  const debuggerToDie = victim('quiet', guestCommand('kvmtool', 'guest.do=idle'));
  await debuggerToDie.output.waitFor(/READY/);
  const [line = ''] = processes(/^\S*lkvm run/);
  assert.notEqual(line, '', 'the VMM runs');
  return { pid: line.split(' ')[0] ?? '', debuggerToDie };
}

await check(
  'a launched VM ends with the debugger that is killed',
  async () => {
    const { pid, debuggerToDie } = await launchedVictim();
    await kill(debuggerToDie);
    await until('the VMM is gone', () => processes(/^\S*lkvm run/).length === 0, 5000);
    assert.deepEqual(guardians(), [], pid);
  },
  { skip: missing('kvmtool') },
);

process.exit(0);
