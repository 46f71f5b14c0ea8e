import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { after, test } from 'node:test';
import { type Check, checkMachine, machineReport } from '../../src/extension/machine.ts';
import { KernelFolder } from './kernelFolder.ts';

const scratch = mkdtempSync(join(tmpdir(), 'kvm-debug-machine-'));
after(() => rmSync(scratch, { recursive: true }));
const kernel = new KernelFolder(join(scratch, 'linux'));
kernel.build();

let machines = 0;
/** A machine of files; programs are those below bin/. */
function machine(files: Readonly<Record<string, string>>, architecture = 'arm64', folders = [kernel.path]) {
  const root = join(scratch, `${machines++}`);
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
    if (path.startsWith('bin/')) chmodSync(join(root, path), 0o755);
  }
  return { root, architecture, folders, path: `${join(root, 'none')}:${join(root, 'bin')}` };
}

const verdicts = (checks: readonly Check[]): Record<string, string> =>
  Object.fromEntries(checks.map(({ subject, verdict }) => [subject, verdict]));

const good = {
  'dev/kvm': '',
  'bin/lkvm': '',
  'proc/self/status': 'Name:\tnode\nCapEff:\t0000000000000000\n',
  'proc/sys/kernel/yama/ptrace_scope': '0\n',
  'proc/sys/kernel/perf_event_paranoid': '1\n',
  'sys/kernel/tracing/events/kvm/kvm_userspace_exit/id': '300\n',
};

test('a machine that offers everything', async () => {
  const checks = await checkMachine(machine(good));
  assert.deepEqual(verdicts(checks), {
    Architecture: 'good',
    KVM: 'good',
    VMM: 'good',
    Attaching: 'good',
    'Exit trap': 'good',
    Symbols: 'good',
  });
  assert.ok(checks.every(({ remedy }) => remedy === undefined));
  assert.match(
    machineReport(checks),
    /^# This machine\n\nGuests can be debugged here\.\n\n- ✅ \*\*Architecture\*\*: arm64\n/,
  );
});

test('names of files are not taken for Markdown', () => {
  const check = { subject: 'Symbols', verdict: 'good', finding: '/src/__old__/a*b*/my_kernel' } as const;
  assert.match(machineReport([check]), /: \/src\/\\_\\_old\\_\\_\/a\\\*b\\\*\/my_kernel\n/);
});

test('what is missing has a remedy', async () => {
  const checks = await checkMachine(machine({ 'proc/sys/kernel/yama/ptrace_scope': '1\n' }, 'x64', []));
  assert.deepEqual(verdicts(checks), {
    Architecture: 'bad',
    KVM: 'bad',
    VMM: 'limited',
    Attaching: 'limited',
    'Exit trap': 'limited',
    Symbols: 'limited',
  });
  assert.ok(checks.every(({ remedy }) => remedy !== undefined));
  const report = machineReport(checks);
  assert.match(report, /Guests cannot be debugged here yet/);
  assert.match(report, /launching works, attaching does not\n {2}- `sudo sysctl kernel\.yama\.ptrace_scope=0`/);
});

test('capabilities stand in for settings, but not for Yama at its strictest', async () => {
  const strict = { ...good, 'proc/sys/kernel/perf_event_paranoid': '4\n' };
  const status = (bits: bigint): string => `CapEff:\t${bits.toString(16).padStart(16, '0')}\n`;
  const found = async (scope: number, bits: bigint): Promise<readonly (string | undefined)[]> => {
    const files = { 'proc/sys/kernel/yama/ptrace_scope': `${scope}\n`, 'proc/self/status': status(bits) };
    const all = verdicts(await checkMachine(machine({ ...strict, ...files })));
    return [all.Attaching, all['Exit trap']];
  };
  assert.deepEqual(await found(1, 0n), ['limited', 'limited']);
  assert.deepEqual(await found(2, 0n), ['bad', 'limited']);
  assert.deepEqual(await found(2, 1n << 19n), ['good', 'limited']);
  assert.deepEqual(await found(3, 1n << 19n), ['bad', 'limited']);
  assert.deepEqual(await found(0, 1n << 38n), ['good', 'good']);
  assert.deepEqual(await found(0, 1n << 21n), ['good', 'good']);
});

const checkOf = async (subject: string, checked: Parameters<typeof checkMachine>[0]): Promise<Check | undefined> =>
  (await checkMachine(checked)).find((check) => check.subject === subject);

test('the VMMs are those that a launch would take', async () => {
  const { 'bin/lkvm': _lkvm, ...without } = good;
  const found = async (program: string) => (await checkOf('VMM', machine({ ...without, [program]: '' })))?.verdict;
  for (const name of ['bin/kvmtool', 'bin/vm', 'bin/qemu-system-aarch64'])
    assert.equal(await found(name), 'good', name);
  assert.equal(await found('bin/lkvm/a-folder'), 'limited');
  const absolute = machine(good);
  const fromHere = { ...absolute, path: relative(process.cwd(), absolute.path.split(':')[1] ?? '') };
  assert.equal((await checkOf('VMM', fromHere))?.verdict, 'limited');
});

test('symbols are a vmlinux with debug information, in each kernel of the workspace', async () => {
  const symbols = (...folders: string[]) => checkOf('Symbols', machine(good, 'arm64', folders));
  assert.equal((await symbols(kernel.path))?.finding, join(kernel.path, 'vmlinux'));
  const bare = new KernelFolder(join(scratch, 'bare'));
  bare.build('.', 'CONFIG_ARM64=y\n');
  const { verdict, finding = '', remedy = '' } = (await symbols(kernel.path, bare.path)) ?? {};
  assert.equal(verdict, 'limited');
  assert.match(finding, /CONFIG_DEBUG_INFO.*: \S+bare\/vmlinux$/);
  assert.match(remedy, /make menuconfig/);
  const foreign = new KernelFolder(join(scratch, 'foreign'));
  foreign.vmlinux('vmlinux', 62);
  const of = await symbols(foreign.path);
  assert.equal(of?.verdict, 'limited');
  assert.match(of?.finding ?? '', /foreign\/vmlinux is a kernel for x86_64; this version debugs arm64 guests only$/);
  const unbuilt = new KernelFolder(join(scratch, 'unbuilt'));
  unbuilt.sources();
  const lacking = await symbols(unbuilt.path);
  assert.match(lacking?.finding ?? '', /^no vmlinux is in \S+unbuilt or a folder directly below it/);
  assert.match(lacking?.remedy ?? '', /^Build the kernel with `make`/);
});
