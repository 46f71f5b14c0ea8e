// Starts a VMM and holds every vCPU before its first instruction: the VMM is traced from exec, so that its memory slots
// are seen as they are made, and each vCPU thread is parked at its first KVM_RUN.
import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join, resolve } from 'node:path';
import { PassThrough } from 'node:stream';
import { ReadStream } from 'node:tty';
import { Hva } from '../../base/address.ts';
import { messageOf, UserError } from '../../base/errors.ts';
import type { GuestConsole, LaunchRequest } from '../connection.ts';
import type { ExitStatus } from '../target.ts';
import { chooseExitTrap, type ExitTrap } from './exitTrap.ts';
import {
  openPty,
  PtraceEvent,
  PtraceOption,
  readProcess,
  SystemError,
  spawnProcess,
  Wait,
  type WaitStatus,
  wait,
} from './ffi.ts';
import { IoctlTap } from './ioctlTap.ts';
import { noJournal } from './journal.ts';
import { decodeMemoryRegion, Kvm, type MemoryRegion, Syscall } from './kvmAbi.ts';
import { MemorySlots } from './memorySlots.ts';
import { kvmDescriptors, kvmRunMappings, threads } from './procfs.ts';
import { seize } from './seize.ts';
import { keepingAlive, newThreadOf } from './tracer.ts';
import { exitStatus, VcpuGroup } from './vcpuGroup.ts';
import { VcpuThread } from './vcpuThread.ts';

export interface LaunchedVmm {
  readonly pid: number;
  readonly group: VcpuGroup;
  readonly slots: MemorySlots;
  readonly console: GuestConsole;
}

function findProgram(name: string, cwd: string, environment: Readonly<Record<string, string>>): string {
  const candidates = name.includes('/')
    ? [resolve(cwd, name)]
    : (environment.PATH ?? '').split(delimiter).map((folder) => join(folder, name));
  for (const candidate of candidates) {
    try {
      accessSync(candidate, constants.X_OK);
      return candidate;
    } catch {
      // Not there, or not to be run: the next one.
    }
  }
  const where = name.includes('/') ? 'there is no such program' : 'it is not on PATH';
  throw new UserError(`Cannot start the VMM "${name}": ${where}. Install it, or set "vmmPath" to where it is.`);
}

function checkKvm(): void {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
  } catch (thrown) {
    const missing = (thrown as NodeJS.ErrnoException).code === 'ENOENT';
    throw new UserError(
      missing
        ? '/dev/kvm does not exist: this machine offers no KVM. Load the kvm module or enable virtualization in the firmware.'
        : '/dev/kvm may not be opened by this user. Join the group that owns it (usually "kvm") and log in again.',
      { cause: thrown },
    );
  }
}

/** The text the VMM printed, kept while it starts so that an early death can be explained: its beginning, where VMMs say
 *  what is wrong before they explain their usage at length, and its end. */
class StartupText {
  static readonly #part = 800;
  #head = '';
  #tail = '';
  readonly #listener = (data: Buffer): void => {
    const text = data.toString();
    const room = StartupText.#part - this.#head.length;
    this.#head += text.slice(0, room);
    this.#tail = (this.#tail + text.slice(room)).slice(-StartupText.#part);
  };

  constructor(private readonly stream: ReadStream) {
    stream.on('data', this.#listener);
  }

  release(): void {
    this.stream.off('data', this.#listener);
  }

  /** All of it, once nobody has the terminal open any more or `patience` ms are over. */
  async final(patience: number): Promise<string> {
    if (!this.stream.closed) {
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, patience);
        this.stream.once('close', () => {
          clearTimeout(timer);
          resolve(undefined);
        });
      });
    }
    const cut = this.#tail.length === StartupText.#part ? '\n…\n' : '';
    return `${this.#head}${cut}${this.#tail}`.replaceAll('\r\n', '\n').trim();
  }
}

/** Hands the terminal to a process that reads it until the VMM ends: with its master closed, a terminal hangs up on the
 *  VMM, and with nobody reading it the VMM blocks. */
function drain(master: number): void {
  const reader = spawn('/bin/sh', ['-c', 'exec cat >/dev/null 2>&1'], {
    stdio: [master, 'ignore', 'ignore'],
    detached: true,
  });
  reader.unref();
}

const describeExit = ({ code, signal }: ExitStatus): string =>
  code === undefined ? `was ended by signal ${signal}` : `exited with status ${code}`;

export async function launchVmm(request: LaunchRequest, signal: AbortSignal): Promise<LaunchedVmm> {
  const [name, ...rest] = request.argv;
  const program = findProgram(name, request.cwd, request.environment);
  checkKvm();
  const trap = chooseExitTrap(request.exitTrap);
  const { master, slave } = openPty();
  const terminal = new ReadStream(master);
  // The master reads EIO once the last slave is closed: the end of the VMM, not an error.
  terminal.on('error', () => terminal.destroy());
  const output = new PassThrough();
  terminal.pipe(output);
  terminal.once('close', () => output.end());
  const text = new StartupText(terminal);
  let pid: number;
  try {
    pid = spawnProcess({
      argv: ['/bin/sh', '-c', 'kill -STOP $$; exec "$@"', 'sh', program, ...rest],
      cwd: request.cwd,
      environment: request.environment,
      terminal: slave,
    });
  } catch (thrown) {
    terminal.destroy();
    throw new UserError(`Cannot start the VMM "${program}" in ${request.cwd}: ${messageOf(thrown)}`, { cause: thrown });
  }
  const startup = new Startup(pid, trap);
  const abort = (): void => startup.end();
  signal.addEventListener('abort', abort, { once: true });
  try {
    const died = await startup.run();
    if (signal.aborted) throw new UserError('The launch was cancelled.');
    if (died) {
      const printed = await text.final(lastWordsMs);
      throw new UserError(
        `The VMM "${name}" ${describeExit(died)} before the guest started${printed === '' ? '' : `: ${printed}`}`,
      );
    }
    text.release();
    const leave = (): void => {
      drain(master);
      terminal.destroy();
    };
    const guestConsole = { output, input: terminal, leave };
    return { pid, group: startup.group, slots: startup.slots, console: guestConsole };
  } catch (thrown) {
    await startup.abandon();
    terminal.destroy();
    throw thrown;
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

const vcpuOptions = PtraceOption.TRACESYSGOOD | PtraceOption.EXITKILL;
/** Until the vCPUs are found: their threads are made by others. */
const options = vcpuOptions | PtraceOption.TRACECLONE | PtraceOption.TRACEEXEC;
const SIGKILL = 9;
/** What a VMM that ended has still to print is on its way; a child of its own may keep the terminal open for ever. */
const lastWordsMs = 1000;

class Startup {
  readonly group: VcpuGroup;
  readonly slots = new MemorySlots();
  readonly #threads = new Map<number, VcpuThread>();
  /** The memory region a thread is about to set. */
  readonly #regions = new Map<number, MemoryRegion>();
  #started = false;
  /** Stops the first thread only for the ioctls that matter, where perf can do that: a VMM makes thousands of system calls
   *  before it is ready. Threads that run vCPUs may block the tap's signal (QEMU's do) and are followed closely. */
  #tap: IoctlTap | undefined;

  constructor(
    private readonly pid: number,
    trap: ExitTrap,
  ) {
    this.group = new VcpuGroup(pid, trap, true, noJournal);
  }

  /** Returns once every vCPU is parked, or with the status of a VMM that ended before. */
  async run(): Promise<ExitStatus | undefined> {
    const { tracer } = this.group;
    wait(this.pid, Wait.UNTRACED);
    seize(this.pid, this.pid, options);
    this.#watch(this.pid);
    process.kill(this.pid, 'SIGCONT');
    while (!this.#allParked()) {
      const { tid, status } = await tracer.next();
      if (status.kind !== 'stopped') {
        this.#threads.delete(tid);
        if (tid === this.pid) return this.group.exitStatus ?? exitStatus(status);
        continue;
      }
      const thread = this.#threads.get(tid) ?? this.#watch(tid);
      try {
        this.#handle(thread, status);
      } catch (thrown) {
        // A thread that is killed while it is stopped is gone from under us; its death is reported next.
        if (!(thrown instanceof SystemError && thrown.code === 'ESRCH')) throw thrown;
      }
    }
    const others: number[] = [];
    for (const thread of this.#threads.values()) {
      if (thread.state !== 'parked') {
        others.push(thread.tid);
        continue;
      }
      thread.options = vcpuOptions;
      this.group.add(thread);
    }
    this.#closeTap();
    tracer.release(...others);
    tracer.watch(this.pid); // as a child, for its exit status
    return undefined;
  }

  /** Ends a VMM that could not be started as it should, and everything that was begun for it. */
  async abandon(): Promise<void> {
    this.#closeTap();
    this.group.tracer.watch(this.pid);
    this.end();
    await keepingAlive(this.group.exited);
    this.group.close();
  }

  /** Kills the VMM, unless it is gone: its pid may be another's by now. */
  end(): void {
    if (this.group.exitStatus === undefined) process.kill(this.pid, SIGKILL);
  }

  #closeTap(): void {
    this.#tap?.close();
    this.#tap = undefined;
  }

  #watch(tid: number): VcpuThread {
    const thread = new VcpuThread(this.pid, tid, this.group.tracer, noJournal);
    this.#threads.set(tid, thread);
    this.group.tracer.watch(tid);
    return thread;
  }

  /** A new thread is traced from its start. One that is none of the VMM's own, a process it cloned, is let go. */
  #adopt(tid: number): void {
    if (threads(this.pid).includes(tid)) this.#watch(tid);
    else this.group.tracer.release(tid);
  }

  #allParked(): boolean {
    const parked = [...this.#threads.values()].filter((thread) => thread.state === 'parked').length;
    return parked > 0 && parked === kvmDescriptors(this.pid).vcpus.size;
  }

  #handle(thread: VcpuThread, status: WaitStatus & { kind: 'stopped' }): void {
    const stop = thread.classify(status);
    switch (stop.kind) {
      case 'syscall':
        if (stop.entry) this.#enter(thread);
        else if (this.#leave(thread)) return;
        break;
      case 'event':
        if (stop.event === PtraceEvent.EXEC) this.#begin();
        if (stop.event === PtraceEvent.CLONE) this.#adopt(newThreadOf(thread.tid));
        break;
      case 'trap':
        if (this.#tapped(thread)) return;
        break;
      case 'signal':
        // SIGCONT ends the stop in which the shell waited; the VMM never learns of it.
        thread.proceed(this.#request(thread), this.#started ? stop.signal : 0);
        return;
    }
    thread.proceed(this.#request(thread));
  }

  /** The VMM's program was loaded. */
  #begin(): void {
    this.#started = true;
    this.#tap = IoctlTap.open(this.pid, [Kvm.SET_USER_MEMORY_REGION, Kvm.SET_USER_MEMORY_REGION2, Kvm.RUN]);
  }

  /** The first thread may run from one tapped ioctl to the next; any other is followed from system call to system call. */
  #request(thread: VcpuThread): 'CONT' | 'SYSCALL' {
    return !this.#started || (this.#tap && thread.tid === this.pid) ? 'CONT' : 'SYSCALL';
  }

  /** The first thread comes out of an ioctl that was tapped. True when it got parked. */
  #tapped(thread: VcpuThread): boolean {
    const { request, argument, succeeded } = thread.finishedIoctl();
    if (request === Kvm.SET_USER_MEMORY_REGION || request === Kvm.SET_USER_MEMORY_REGION2) {
      if (succeeded) this.slots.set(decodeMemoryRegion(readProcess(this.pid, Hva(argument), 32)));
      return false;
    }
    // The first thread runs a vCPU itself: KVM_RUN came back before the guest was entered, for the signal of the tap.
    this.#closeTap();
    const [[index, fd] = [], ...others] = kvmDescriptors(this.pid).vcpus;
    if (index === undefined || fd === undefined || others.length > 0) return false;
    thread.identify(fd, index, kvmRunMappings(this.pid).get(index));
    if (thread.locate() !== 'interrupted') return false;
    thread.park();
    return true;
  }

  #enter(thread: VcpuThread): void {
    const { number, args } = thread.enteredSyscall;
    if (number !== Syscall.ioctl) return;
    const [, request, address = 0n] = args;
    if (request === Kvm.SET_USER_MEMORY_REGION || request === Kvm.SET_USER_MEMORY_REGION2) {
      this.#regions.set(thread.tid, decodeMemoryRegion(readProcess(this.pid, Hva(address), 32)));
    } else if (thread.entersRun) {
      thread.beginSettle();
    }
  }

  /** True when the thread got parked. */
  #leave(thread: VcpuThread): boolean {
    const region = this.#regions.get(thread.tid);
    this.#regions.delete(thread.tid);
    if (!region && !thread.isSettling) return false;
    const frame = thread.locate();
    if (region && thread.succeeded) this.slots.set(region);
    if (!thread.isSettling) return false;
    thread.endSettle();
    if (frame !== 'interrupted') return false;
    const signal = thread.leaveSyscallStop();
    if (thread.state === 'gone') return true;
    thread.locate();
    thread.park(signal);
    return true;
  }
}
