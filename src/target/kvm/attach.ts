// Takes hold of a VMM that runs: finds its vCPU threads, parks them, and finds the memory slots.
import { SessionError, UserError } from '../../base/errors.ts';
import type { AttachRequest } from '../connection.ts';
import { chooseExitTrap } from './exitTrap.ts';
import { PtraceOption } from './ffi.ts';
import type { Journal } from './journal.ts';
import { Kvm, Syscall } from './kvmAbi.ts';
import {
  blockedSyscall,
  type KvmDescriptors,
  kvmDescriptors,
  kvmRunMappings,
  processExists,
  processName,
  startTime,
  threadName,
  threads,
} from './procfs.ts';
import { seize } from './seize.ts';
import { VcpuGroup } from './vcpuGroup.ts';
import { VcpuThread } from './vcpuThread.ts';

export interface AttachedVmm {
  readonly pid: number;
  readonly group: VcpuGroup;
}

/** The vCPU that a thread runs, as far as can be told without touching it: kvmtool names its threads, QEMU does when told
 *  to (debug-threads), and a thread that sleeps in KVM_RUN shows the descriptor. */
function vcpuIndex(pid: number, tid: number, descriptors: KvmDescriptors): number | undefined {
  const name = threadName(pid, tid).match(/^kvm-vcpu-(\d+)$|^CPU (\d+)\/KVM$/);
  const named = name && Number(name[1] ?? name[2]);
  if (typeof named === 'number' && descriptors.vcpus.has(named)) return named;
  const call = blockedSyscall(pid, tid);
  if (call?.[0] !== Syscall.ioctl || call[2] !== Kvm.RUN) return undefined;
  return [...descriptors.vcpus].find(([, fd]) => BigInt(fd) === call[1])?.[0];
}

function describeVm(pid: number): KvmDescriptors {
  if (!processExists(pid)) throw new UserError(`There is no process ${pid}.`);
  let descriptors: KvmDescriptors;
  try {
    descriptors = kvmDescriptors(pid);
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code !== 'EACCES') throw thrown;
    throw new UserError(
      `Not allowed to look into ${processName(pid)} (pid ${pid}): run the adapter as the user that owns it, or with CAP_SYS_PTRACE.`,
      { cause: thrown },
    );
  }
  if (descriptors.vm === undefined || descriptors.vcpus.size === 0) {
    throw new UserError(`${processName(pid)} (pid ${pid}) is no VMM: it has no KVM virtual machine open.`);
  }
  return descriptors;
}

/** Seizes the vCPU threads and parks them. On failure the process is as it was. `openJournal` is called once it is sure
 *  that there is a VM to attach to. Precondition: not a child that node:child_process started, because libuv would take
 *  the stops of its first thread from the tracer. */
export async function attachVmm(
  request: AttachRequest,
  openJournal: () => Journal,
  signal: AbortSignal,
): Promise<AttachedVmm> {
  const { pid } = request;
  const descriptors = describeVm(pid);
  const trap = chooseExitTrap(request.exitTrap);
  const journal = openJournal();
  const group = new VcpuGroup(pid, trap, false, journal);
  journal.vmm({ pid, startTime: startTime(pid) ?? '', threads: [] });
  const runs = kvmRunMappings(pid);
  const abort = (): void => group.abandon();
  try {
    const found = threads(pid).map((tid) => ({ tid, index: vcpuIndex(pid, tid, descriptors) }));
    const known = new Set(found.flatMap(({ index }) => (index === undefined ? [] : [index])));
    // Where some vCPU's thread cannot be told, every thread is looked at until all are found.
    const chosen = known.size === descriptors.vcpus.size ? found.filter(({ index }) => index !== undefined) : found;
    for (const { tid, index } of chosen) {
      seize(pid, tid, PtraceOption.TRACESYSGOOD);
      const thread = new VcpuThread(pid, tid, group.tracer, journal);
      const fd = index === undefined ? undefined : descriptors.vcpus.get(index);
      if (index !== undefined && fd !== undefined) thread.identify(fd, index, runs.get(index));
      group.add(thread);
    }
    signal.addEventListener('abort', abort, { once: true });
    await group.gather(descriptors.vcpus.size);
    if (signal.aborted) throw new UserError('The attach was cancelled.');
    if (group.exitStatus) throw new SessionError(`The VMM (pid ${pid}) ended while the debugger attached.`);
    return { pid, group };
  } catch (thrown) {
    group.abandon();
    throw thrown;
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
