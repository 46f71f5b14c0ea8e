// What this machine offers the debugger, and what would mend what it lacks.
import { constants } from 'node:fs';
import { access, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { findKernelTree, isDebugged, whyNotDebugged } from './kernelTree.ts';
import { places } from './offers.ts';
import { installedVmms, noProgram } from './programs.ts';

export interface Check {
  readonly subject: string;
  /** `limited`: it works, but not all of it. */
  readonly verdict: 'good' | 'limited' | 'bad';
  readonly finding: string;
  readonly remedy?: string;
}

/** What the checks look at: the file system below `root`, this process and the workspace. */
export interface Machine {
  readonly root: string;
  /** As `process.arch` has it. */
  readonly architecture: string;
  /** $PATH. */
  readonly path: string;
  /** Of the workspace. */
  readonly folders: readonly string[];
}

export const thisMachine = (folders: readonly string[]): Machine => ({
  root: '/',
  architecture: process.arch,
  path: process.env.PATH ?? '',
  folders,
});

export function checkMachine(machine: Machine): Promise<readonly Check[]> {
  const checks = [architecture, kvm, vmm, attaching, exitTrap, symbols];
  return Promise.all(checks.map((check) => check(machine)));
}

async function architecture({ architecture: name }: Machine): Promise<Check> {
  const subject = 'Architecture';
  if (name === 'arm64') return { subject, verdict: 'good', finding: 'arm64' };
  return {
    subject,
    verdict: 'bad',
    finding: `${name}: guests can only be debugged on arm64 so far`,
    remedy:
      'Open the folder on an arm64 machine (Remote - SSH), or run the adapter there and name its port in "debugServer". "KVM Debug: Open the Demo" shows the debugger here, on an emulated one.',
  };
}

async function kvm({ root }: Machine): Promise<Check> {
  const subject = 'KVM';
  const device = join(root, 'dev/kvm');
  if (!(await may(device, constants.F_OK))) {
    return {
      subject,
      verdict: 'bad',
      finding: '/dev/kvm does not exist',
      remedy:
        'Load the kvm module, or enable virtualization in the firmware; in a VM, its host must offer it nested virtualization.',
    };
  }
  if (await may(device, constants.R_OK | constants.W_OK)) {
    return { subject, verdict: 'good', finding: '/dev/kvm can be opened' };
  }
  return {
    subject,
    verdict: 'bad',
    finding: '/dev/kvm may not be opened by this user',
    remedy: 'Join the group that owns it and log in again: `sudo usermod -aG kvm "$USER"`.',
  };
}

async function vmm({ path }: Machine): Promise<Check> {
  const subject = 'VMM';
  const found = await installedVmms(path);
  if (found.length > 0) return { subject, verdict: 'good', finding: found.map(({ program }) => program).join(', ') };
  return {
    subject,
    verdict: 'limited',
    finding: `${noProgram()} is on PATH`,
    remedy: 'Build kvmtool or install QEMU, or name the program in "vmmPath". VMs that run can be attached to without.',
  };
}

/** Bits of CapEff (include/uapi/linux/capability.h). */
const capability = { CAP_SYS_PTRACE: 19n, CAP_SYS_ADMIN: 21n, CAP_PERFMON: 38n };

async function capabilities(root: string): Promise<bigint> {
  const status = await text(join(root, 'proc/self/status'));
  return BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status ?? '')?.[1] ?? '0'}`);
}

const has = (set: bigint, bit: bigint): boolean => ((set >> bit) & 1n) === 1n;

/** Yama (Linux Documentation/admin-guide/LSM/Yama.rst): 0 own processes, 1 descendants, 2 only with CAP_SYS_PTRACE, 3 nobody. */
async function attaching({ root }: Machine): Promise<Check> {
  const subject = 'Attaching';
  const scope = Number((await text(join(root, 'proc/sys/kernel/yama/ptrace_scope')))?.trim() ?? 0);
  if (scope === 0) return { subject, verdict: 'good', finding: "this user's VMs can be attached to" };
  if (scope < 3 && has(await capabilities(root), capability.CAP_SYS_PTRACE)) {
    return { subject, verdict: 'good', finding: 'allowed by CAP_SYS_PTRACE' };
  }
  return {
    subject,
    verdict: scope === 1 ? 'limited' : 'bad',
    finding: `Yama restricts ptrace (kernel.yama.ptrace_scope is ${scope})${scope === 1 ? ': launching works, attaching does not' : ''}`,
    remedy:
      scope === 3
        ? 'The value 3 stays until the next boot: change it in /etc/sysctl.d and boot again.'
        : '`sudo sysctl kernel.yama.ptrace_scope=0`, or run the adapter with CAP_SYS_PTRACE.',
  };
}

async function exitTrap({ root }: Machine): Promise<Check> {
  const subject = 'Exit trap';
  const slow = 'the VMM is stopped at each of its system calls instead, which slows its devices down';
  const set = await capabilities(root);
  const paranoid = Number((await text(join(root, 'proc/sys/kernel/perf_event_paranoid')))?.trim() ?? 4);
  if (paranoid > 1 && !has(set, capability.CAP_PERFMON) && !has(set, capability.CAP_SYS_ADMIN)) {
    return {
      subject,
      verdict: 'limited',
      finding: `perf events are not allowed (kernel.perf_event_paranoid is ${paranoid}): ${slow}`,
      remedy: '`sudo sysctl kernel.perf_event_paranoid=1`, or give the adapter CAP_PERFMON.',
    };
  }
  const event = 'events/kvm/kvm_userspace_exit/id';
  const places = ['sys/kernel/tracing', 'sys/kernel/debug/tracing'];
  for (const place of places) {
    if ((await text(join(root, place, event))) !== undefined) {
      return { subject, verdict: 'good', finding: 'perf: costs the VMM nothing' };
    }
  }
  return {
    subject,
    verdict: 'limited',
    finding: `the tracepoint kvm:kvm_userspace_exit cannot be read in tracefs: ${slow}`,
    remedy: '`sudo mount -t tracefs -o mode=755 tracing /sys/kernel/tracing`, once the kvm module is there.',
  };
}

/** Of the kernels in the workspace. */
async function symbols({ folders }: Machine): Promise<Check> {
  const subject = 'Symbols';
  const withoutLines = 'there are no source lines and no variables without';
  if (folders.length === 0) {
    return {
      subject,
      verdict: 'limited',
      finding: `no folder is open to look for a vmlinux in: ${withoutLines}`,
      remedy: 'Open the folder that the kernel was built in, or name its vmlinux in "symbols" of launch.json.',
    };
  }
  const trees = await Promise.all(folders.map(findKernelTree));
  const found = trees.flatMap((tree) => tree.builds).filter(({ vmlinux }) => vmlinux !== undefined);
  const builds = found.filter(isDebugged);
  // Of several kernels each may be the one that is debugged.
  const bare = builds.filter(({ debugInfo }) => debugInfo === false);
  if (bare.length > 0) {
    return {
      subject,
      verdict: 'limited',
      finding: `built without CONFIG_DEBUG_INFO, so without source lines and variables: ${bare.map(({ vmlinux }) => vmlinux).join(', ')}`,
      remedy: 'Choose debug information under "Kernel hacking" in `make menuconfig`, and build again.',
    };
  }
  if (builds.length > 0) {
    return { subject, verdict: 'good', finding: builds.map(({ vmlinux }) => vmlinux).join(', ') };
  }
  const [other] = found;
  if (other !== undefined) {
    const remedy = 'Open the folder of an arm64 kernel, or name its vmlinux in "symbols" of launch.json.';
    return { subject, verdict: 'limited', finding: whyNotDebugged(other), remedy };
  }
  const isSource = trees.some(({ sources }) => sources !== undefined);
  return {
    subject,
    verdict: 'limited',
    finding: `no vmlinux is ${trees.map(places).join(', nor ')}: ${withoutLines}`,
    remedy: isSource
      ? 'Build the kernel with `make`, with debug information chosen under "Kernel hacking" in `make menuconfig`.'
      : 'Open the folder that the kernel was built in, or name its vmlinux in "symbols" of launch.json.',
  };
}

const may = (path: string, mode: number): Promise<boolean> =>
  access(path, mode).then(
    () => true,
    () => false,
  );

/** Undefined where it cannot be read. */
const text = (path: string): Promise<string | undefined> => readFile(path, 'utf8').catch(() => undefined);

const marks = { good: '✅', limited: '⚠️', bad: '❌' } as const;

/** A text that may hold names of files, as Markdown. */
const literal = (plain: string): string => plain.replaceAll(/[\\*[\]<>]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])/g, '\\$&');

/** The checks as a Markdown document. */
export function machineReport(checks: readonly Check[]): string {
  const count = (verdict: Check['verdict']): number => checks.filter((check) => check.verdict === verdict).length;
  const summary =
    count('bad') > 0
      ? 'Guests cannot be debugged here yet.'
      : count('limited') > 0
        ? 'Guests can be debugged here, with limits.'
        : 'Guests can be debugged here.';
  const lines = checks.map(({ subject, verdict, finding, remedy }) => {
    const more = remedy === undefined ? '' : `\n  - ${literal(remedy)}`;
    return `- ${marks[verdict]} **${subject}**: ${literal(finding)}${more}`;
  });
  return `# This machine\n\n${summary}\n\n${lines.join('\n')}\n`;
}
