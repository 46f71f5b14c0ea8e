// What /proc tells about a VMM: its threads, its KVM descriptors, its mappings (proc(5)).
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { Hva } from '../../base/address.ts';

export interface Mapping {
  readonly start: Hva;
  readonly end: Hva;
  readonly permissions: string;
  readonly name: string;
}

const missing = new Set(['ENOENT', 'ESRCH']);
const isGone = (thrown: unknown): boolean => missing.has((thrown as NodeJS.ErrnoException).code ?? '');

/** `undefined` when the process or thread is gone; other errors (EACCES) are the caller's to explain. */
function unlessGone<Value>(read: () => Value): Value | undefined {
  try {
    return read();
  } catch (thrown) {
    if (isGone(thrown)) return undefined;
    throw thrown;
  }
}

export const processExists = (pid: number): boolean =>
  unlessGone(() => readFileSync(`/proc/${pid}/stat`)) !== undefined;

export const processName = (pid: number): string =>
  unlessGone(() => readFileSync(`/proc/${pid}/comm`, 'utf8').trim()) ?? `process ${pid}`;

export const threadName = (pid: number, tid: number): string =>
  unlessGone(() => readFileSync(`/proc/${pid}/task/${tid}/comm`, 'utf8').trim()) ?? '';

/** One field of /proc/PID/status, such as `TracerPid`. */
export function statusField(pid: number, field: string): string | undefined {
  const text = unlessGone(() => readFileSync(`/proc/${pid}/status`, 'utf8'));
  return text?.match(new RegExp(`^${field}:\\s*(.*)$`, 'm'))?.[1];
}

/** Whether the process is gone, a zombie, exiting, or about to: its threads then answer ptrace with ESRCH, and their deaths
 *  are still to be reported. */
export function isEnding(pid: number): boolean {
  const [state = 'X', ...rest] = statFields(`/proc/${pid}/stat`) ?? [];
  const PF_EXITING = 4; // include/linux/sched.h
  if (state === 'Z' || state === 'X' || (Number(rest[9 - 4]) & PF_EXITING) !== 0) return true;
  const SIGKILL_BIT = 1n << 8n;
  return (['SigPnd', 'ShdPnd'] as const).some(
    (field) => (BigInt(`0x${statusField(pid, field) ?? 0}`) & SIGKILL_BIT) !== 0n,
  );
}

/** Fields of /proc/PID/stat from the third on; the second, the name, may hold anything. */
function statFields(path: string): readonly string[] | undefined {
  const text = unlessGone(() => readFileSync(path, 'utf8'));
  return text?.slice(text.lastIndexOf(')') + 2).split(' ');
}

/** Ticks since boot at which the process started: with the pid it names one process for ever. */
export const startTime = (pid: number): string | undefined => statFields(`/proc/${pid}/stat`)?.[22 - 3];

/** PF_IO_WORKER, PF_USER_WORKER (include/linux/sched.h) and, before 6.4 had the latter, vhost and KVM recovery threads as
 *  PF_KTHREAD: tasks of the kernel's that appear among a VMM's threads and cannot be traced. */
const workerFlags = 0x10 | 0x4000 | 0x200000;

export function threads(pid: number): readonly number[] {
  const tids = unlessGone(() => readdirSync(`/proc/${pid}/task`)) ?? [];
  return tids.map(Number).filter((tid) => {
    const flags = statFields(`/proc/${pid}/task/${tid}/stat`)?.[9 - 3];
    return flags !== undefined && (Number(flags) & workerFlags) === 0;
  });
}

const vcpuLink = /^anon_inode:kvm-vcpu:(\d+)$/;

export interface KvmDescriptors {
  readonly vm: number | undefined;
  /** Descriptor by vCPU index. */
  readonly vcpus: ReadonlyMap<number, number>;
}

/** The vCPU index behind a descriptor, if it is a vCPU's. */
export function vcpuOf(pid: number, fd: number): number | undefined {
  const index = unlessGone(() => readlinkSync(`/proc/${pid}/fd/${fd}`))?.match(vcpuLink)?.[1];
  return index === undefined ? undefined : Number(index);
}

export function kvmDescriptors(pid: number): KvmDescriptors {
  let vm: number | undefined;
  const vcpus = new Map<number, number>();
  for (const name of unlessGone(() => readdirSync(`/proc/${pid}/fd`)) ?? []) {
    const fd = Number(name);
    const target = unlessGone(() => readlinkSync(`/proc/${pid}/fd/${fd}`));
    if (target === 'anon_inode:kvm-vm') vm = fd;
    const index = target?.match(vcpuLink)?.[1];
    if (index !== undefined) vcpus.set(Number(index), fd);
  }
  return { vm, vcpus };
}

export function mappings(pid: number): readonly Mapping[] {
  const text = unlessGone(() => readFileSync(`/proc/${pid}/maps`, 'utf8')) ?? '';
  const result: Mapping[] = [];
  for (const line of text.split('\n')) {
    const match = line.match(/^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+\s*(.*)$/);
    if (!match) continue;
    const [, start, end, permissions = '', name = ''] = match;
    result.push({ start: Hva(BigInt(`0x${start}`)), end: Hva(BigInt(`0x${end}`)), permissions, name });
  }
  return result;
}

/** The system call a sleeping thread is in: number and arguments; `undefined` while it runs or is in none, and where we may
 *  not trace the thread (ptrace(2), PTRACE_MODE_ATTACH), which a seize will explain. */
export function blockedSyscall(pid: number, tid: number): readonly bigint[] | undefined {
  let text: string | undefined;
  try {
    text = unlessGone(() => readFileSync(`/proc/${pid}/task/${tid}/syscall`, 'utf8'));
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code !== 'EPERM') throw thrown;
  }
  if (text === undefined || !/^\d/.test(text)) return undefined;
  return text.trim().split(' ').map(BigInt);
}

/** kvm_run of each vCPU: the mapping of the vCPU's descriptor. */
export function kvmRunMappings(pid: number): ReadonlyMap<number, Hva> {
  const result = new Map<number, Hva>();
  for (const { start, name } of mappings(pid)) {
    const index = name.match(vcpuLink)?.[1];
    if (index !== undefined && !result.has(Number(index))) result.set(Number(index), start);
  }
  return result;
}
