// Keeps KVM_EXIT_DEBUG from the VMM: the vCPU thread must stop after KVM_RUN returned with one and before the VMM sees it.
//
//   perf     a perf event on the tracepoint kvm:kvm_userspace_exit raises SIGTRAP in the thread for debug exits only.
//            Costs the VMM's other exits nothing. Linux 5.13 (perf_event_attr.sigtrap), readable tracefs, and
//            CAP_PERFMON or perf_event_paranoid <= 1.
//   syscall  the thread stops at every system call. Works everywhere, slows each exit down.
import { closeSync, readFileSync } from 'node:fs';
import { messageOf, UserError } from '../../base/errors.ts';
import type { ExitTrapChoice } from '../connection.ts';
import { NativeBuffer, ownIoctl, rawSyscall } from './ffi.ts';
import type { Journal } from './journal.ts';
import { ExitReason } from './kvmAbi.ts';
import type { VcpuThread } from './vcpuThread.ts';

export interface ExitTrap {
  readonly tier: 'perf' | 'syscall';
  /** How a thread is let go so that the trap works. */
  readonly request: 'CONT' | 'SYSCALL';
  /** Why the better tier was not taken, for the user. */
  readonly reason: string;
  /** Precondition of both: the thread is parked. */
  arm(thread: VcpuThread): void;
  disarm(thread: VcpuThread): void;
  /** Before each resume. */
  beforeResume(thread: VcpuThread, journal: Journal): void;
}

const tracefs = ['/sys/kernel/tracing', '/sys/kernel/debug/tracing'] as const;

/** Id of the tracepoint, by which perf names it. */
function tracepointId(): bigint {
  const failures: string[] = [];
  for (const root of tracefs) {
    try {
      return BigInt(readFileSync(`${root}/events/kvm/kvm_userspace_exit/id`, 'utf8').trim());
    } catch (thrown) {
      failures.push(messageOf(thrown));
    }
  }
  throw new UserError(`The tracepoint kvm:kvm_userspace_exit cannot be read (${failures.join('; ')}); mount tracefs`);
}

/** struct perf_event_attr (include/uapi/linux/perf_event.h): type 0, size 4, config 8, sample_period 16, flags 40. */
const attribute = {
  size: 128,
  PERF_TYPE_TRACEPOINT: 2,
  disabled: 1n << 0n,
  remove_on_exec: 1n << 36n,
  sigtrap: 1n << 37n,
} as const;
const PERF_FLAG_FD_CLOEXEC = 8;
const PERF_EVENT_IOC_ENABLE = 0x2400n;
const PERF_EVENT_IOC_SET_FILTER = 0x40082406n;

function openExitEvent(tid: number, tracepoint: bigint): number {
  const attributes = new NativeBuffer(attribute.size);
  attributes.view.setUint32(0, attribute.PERF_TYPE_TRACEPOINT, true);
  attributes.view.setUint32(4, attribute.size, true);
  attributes.view.setBigUint64(8, tracepoint, true);
  attributes.view.setBigUint64(16, 1n, true);
  attributes.view.setBigUint64(40, attribute.disabled | attribute.remove_on_exec | attribute.sigtrap, true);
  const fd = rawSyscall('perf_event_open', attributes.address, tid, -1, -1, PERF_FLAG_FD_CLOEXEC);
  try {
    // exit_reason stays 4 when a later KVM_RUN is interrupted: errno tells the two apart.
    const text = new TextEncoder().encode(`reason == ${ExitReason.DEBUG} && errno == 0\0`);
    const filter = new NativeBuffer(text.length);
    filter.bytes.set(text);
    ownIoctl('PERF_EVENT_IOC_SET_FILTER', fd, PERF_EVENT_IOC_SET_FILTER, filter.address);
    ownIoctl('PERF_EVENT_IOC_ENABLE', fd, PERF_EVENT_IOC_ENABLE, 0);
  } catch (thrown) {
    closeSync(fd);
    throw thrown;
  }
  return fd;
}

const SIGTRAP_BIT = 1n << 4n;

class PerfTrap implements ExitTrap {
  readonly tier = 'perf';
  readonly request = 'CONT';
  readonly reason = 'available';
  readonly #events = new Map<VcpuThread, { fd: number; blocked: boolean }>();
  readonly #tracepoint = tracepointId();

  /** perf_event_open is tried on this thread first, so that missing permission shows before a VM is touched. */
  constructor() {
    closeSync(openExitEvent(0, this.#tracepoint));
  }

  arm(thread: VcpuThread): void {
    this.#events.set(thread, { fd: openExitEvent(thread.tid, this.#tracepoint), blocked: false });
  }

  /** QEMU blocks every signal in its vCPU threads, and a blocked SIGTRAP would lose the stop. */
  beforeResume(thread: VcpuThread, journal: Journal): void {
    const event = this.#events.get(thread);
    if (!event || event.blocked) return;
    const mask = thread.signalMask;
    if ((mask & SIGTRAP_BIT) === 0n) return;
    event.blocked = true;
    journal.enter(`sigtrap ${thread.tid}`, { undo: 'blockSigtrap', tid: thread.tid });
    thread.signalMask = mask & ~SIGTRAP_BIT;
  }

  disarm(thread: VcpuThread): void {
    const event = this.#events.get(thread);
    if (!event) return;
    this.#events.delete(thread);
    closeSync(event.fd);
    if (event.blocked && thread.state !== 'gone') thread.signalMask |= SIGTRAP_BIT;
  }
}

class SyscallTrap implements ExitTrap {
  readonly tier = 'syscall';
  readonly request = 'SYSCALL';
  constructor(readonly reason: string) {}
  arm(): void {}
  disarm(): void {}
  beforeResume(): void {}
}

/** The best tier that works here, or the one asked for. UserError when that one does not work. */
export function chooseExitTrap(choice: ExitTrapChoice): ExitTrap {
  if (choice === 'syscall') return new SyscallTrap('asked for');
  try {
    return new PerfTrap();
  } catch (thrown) {
    const why = messageOf(thrown);
    if (choice === 'perf') {
      throw new UserError(
        `The exit trap "perf" does not work here: ${why}. It needs tracefs and CAP_PERFMON or perf_event_paranoid <= 1; "auto" falls back to "syscall".`,
        { cause: thrown },
      );
    }
    return new SyscallTrap(why);
  }
}
