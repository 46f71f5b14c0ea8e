// What this machine offers the debugger, and what would mend what it lacks.
import { constants } from 'node:fs';
import { access, readFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';

export interface Check {
  readonly subject: string;
  /** `limited`: it works, but not all of it. */
  readonly verdict: 'good' | 'limited' | 'bad';
  readonly finding: string;
  readonly remedy?: string;
}

/** What the checks look at: the file system below `root` and this process. */
export interface Machine {
  readonly root: string;
  /** As `process.arch` has it. */
  readonly architecture: string;
  /** $PATH. */
  readonly path: string;
}

export const thisMachine = (): Machine => ({
  root: '/',
  architecture: process.arch,
  path: process.env.PATH ?? '',
});

export function checkMachine(machine: Machine): Promise<readonly Check[]> {
  return Promise.all([architecture(machine), kvm(machine), vmm(machine), attaching(machine), exitTrap(machine)]);
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

const vmms = ['lkvm', 'qemu-system-aarch64'];

async function vmm({ path }: Machine): Promise<Check> {
  const subject = 'VMM';
  const found: string[] = [];
  for (const name of vmms) {
    for (const folder of path.split(delimiter).filter((each) => each !== '')) {
      const program = join(folder, name);
      if (!(await may(program, constants.X_OK))) continue;
      found.push(program);
      break;
    }
  }
  if (found.length > 0) return { subject, verdict: 'good', finding: found.join(', ') };
  return {
    subject,
    verdict: 'limited',
    finding: `none of ${vmms.join(' and ')} is on PATH`,
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

const may = (path: string, mode: number): Promise<boolean> =>
  access(path, mode).then(
    () => true,
    () => false,
  );

/** Undefined where it cannot be read. */
const text = (path: string): Promise<string | undefined> => readFile(path, 'utf8').catch(() => undefined);

const marks = { good: '✅', limited: '⚠️', bad: '❌' } as const;

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
    const more = remedy === undefined ? '' : `\n  - ${remedy}`;
    return `- ${marks[verdict]} **${subject}**: ${finding}${more}`;
  });
  return `# This machine\n\n${summary}\n\n${lines.join('\n')}\n`;
}
