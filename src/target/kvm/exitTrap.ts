// Keeps KVM_EXIT_DEBUG from the VMM: the vCPU thread must stop after KVM_RUN returned with one and before the VMM sees it.
//
//   perf     a perf event on the tracepoint kvm:kvm_userspace_exit raises SIGTRAP in the thread for debug exits only.
//            Costs the VMM's other exits nothing. Linux 5.13 (perf_event_attr.sigtrap), readable tracefs, and
//            CAP_PERFMON or perf_event_paranoid <= 1.
//   syscall  the thread stops at every system call. Works everywhere, slows each exit down.
import { closeSync } from 'node:fs';
import { messageOf, UserError } from '../../base/errors.ts';
import type { ExitTrapChoice } from '../connection.ts';
import type { Journal } from './journal.ts';
import { ExitReason } from './kvmAbi.ts';
import { openTrapEvent, tracepointId } from './perfEvent.ts';
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

/** exit_reason stays 4 when a later KVM_RUN is interrupted: errno tells the two apart. */
const debugExits = `reason == ${ExitReason.DEBUG} && errno == 0`;

const SIGTRAP_BIT = 1n << 4n;

class PerfTrap implements ExitTrap {
  readonly tier = 'perf';
  readonly request = 'CONT';
  readonly reason = 'available';
  readonly #events = new Map<VcpuThread, { fd: number; blocked: boolean }>();
  readonly #tracepoint = tracepointId('kvm/kvm_userspace_exit');

  /** perf_event_open is tried on this thread first, so that missing permission shows before a VM is touched. */
  constructor() {
    closeSync(openTrapEvent(0, this.#tracepoint, debugExits));
  }

  arm(thread: VcpuThread): void {
    this.#events.set(thread, { fd: openTrapEvent(thread.tid, this.#tracepoint, debugExits), blocked: false });
  }

  /** QEMU blocks every signal in its vCPU threads, and a blocked SIGTRAP would lose the stop. */
  beforeResume(thread: VcpuThread, journal: Journal): void {
    const event = this.#events.get(thread);
    if (!event || event.blocked) return;
    const mask = thread.signalMask;
    if ((mask & SIGTRAP_BIT) === 0n) return;
    event.blocked = true;
    journal.enter({ key: `sigtrap ${thread.tid}`, undo: { undo: 'blockSigtrap', tid: thread.tid } });
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
