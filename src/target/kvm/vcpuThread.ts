// One vCPU thread of the VMM: what its stops mean, how it is held, and how it makes system calls for us.
//
// A held thread is *parked*: its registers are rewound to the `svc` of its KVM_RUN, so that letting it go at any moment,
// our death included, makes it execute KVM_RUN again as if nothing had been. On arm64 the first argument of a system
// call is lost once it returned (there is no orig_x0 in user_pt_regs), so the descriptor must be known to park.
// The guardian also takes a thread that does not come to KVM_RUN, where it stands: it goes on from there.
import { Hva } from '../../base/address.ts';
import { SessionError } from '../../base/errors.ts';
import { Batch, block } from './batch.ts';
import { NativeBuffer, PtraceEvent, ptrace, readProcess, signalThread, type WaitStatus, writeProcess } from './ffi.ts';
import type { Journal } from './journal.ts';
import { Errno, ExitReason, Kvm, KvmRun, Syscall } from './kvmAbi.ts';
import { kvmRunMappings, vcpuOf } from './procfs.ts';
import { stubEnd, stubSvc } from './stub.ts';
import { ThreadRegisters } from './threadRegisters.ts';
import type { Tracer } from './tracer.ts';

const SIGTRAP = 5;
const SIGTRAP_BIT = 1n << BigInt(SIGTRAP - 1);
/** As the kernel gives it back: SIGKILL and SIGSTOP cannot be blocked (signal(7)). */
const allButSigtrap = BigInt.asUintN(64, ~(SIGTRAP_BIT | (1n << 8n) | (1n << 18n)));
const syscallStop = SIGTRAP | 0x80; // PTRACE_O_TRACESYSGOOD
/** include/uapi/asm-generic/siginfo.h: a perf event of ours, or the leftover of a step of ours. */
const trapCodes = { TRAP_TRACE: 2, TRAP_PERF: 6 } as const;
const svcInstruction = 0xd4000001;

/** What a stop of the thread is, before its registers are looked at (ptrace(2)). */
export type StopKind =
  | { readonly kind: 'interrupt' }
  | { readonly kind: 'group' }
  | { readonly kind: 'event'; readonly event: number }
  | { readonly kind: 'trap' }
  | { readonly kind: 'signal'; readonly signal: number }
  | { readonly kind: 'syscall'; readonly entry: boolean };

/** Where the thread's user registers stand relative to KVM_RUN. */
export type RunFrame = 'debugExit' | 'interrupted' | 'parked' | 'elsewhere';

// Reused: nothing awaits while they are in use.
/** What a thread is made to run on, */
const borrowed = new ThreadRegisters();
/** and where it got to. */
const now = new ThreadRegisters();
const signalInfo = new NativeBuffer(128);
const signalMask = new NativeBuffer(8);
const syscallInfo = new NativeBuffer(88);

export interface Mailbox {
  /** Start of the injected code. */
  readonly code: Hva;
  /** Bytes. */
  readonly codeSize: number;
  /** This thread's block (batch.ts). */
  readonly block: Hva;
}

/** kvm_run up to the end of debug.arch. */
const kvmRunExitSize = Number(KvmRun.debugFar) + 8;

export class VcpuThread {
  state: 'running' | 'parked' | 'gone' = 'running';
  /** vCPU index and descriptor, known once a KVM_RUN entry was seen or the thread was named. */
  index: number | undefined;
  fd: number | undefined;
  kvmRun: Hva | undefined;
  mailbox: Mailbox | undefined;
  /** Signals that arrived with a stop of ours and go to the thread at the next resume. */
  readonly #held: number[] = [];
  /** As of the last `locate`, and as they are put back after an injection. */
  readonly #registers = new ThreadRegisters();
  /** kvm_run, the part that tells of the last exit, as of the last `locate` that found one. */
  #lastExit: DataView | undefined;
  #mask: bigint | undefined;
  /** Address of the `svc` of KVM_RUN. */
  #svc: bigint | undefined;
  /** The value of kvm_run.immediate_exit before it was set to settle. */
  #immediateExit: number | undefined;

  constructor(
    readonly pid: number,
    readonly tid: number,
    private readonly tracer: Tracer,
    private readonly journal: Journal,
  ) {}

  identify(fd: number, index: number, kvmRun: Hva | undefined): void {
    this.fd = fd;
    this.index = index;
    this.kvmRun = kvmRun;
  }

  classify(status: WaitStatus & { kind: 'stopped' }): StopKind {
    if (status.event === PtraceEvent.STOP) return { kind: status.signal === SIGTRAP ? 'interrupt' : 'group' };
    if (status.event !== 0) return { kind: 'event', event: status.event };
    if (status.signal === syscallStop) return { kind: 'syscall', entry: this.#syscallInfo() };
    if (status.signal === SIGTRAP) {
      ptrace('GETSIGINFO', this.tid, 0, signalInfo.address);
      // siginfo_t: si_signo at 0, si_errno at 4, si_code at 8.
      const code = signalInfo.view.getInt32(8, true);
      if (code === trapCodes.TRAP_PERF || code === trapCodes.TRAP_TRACE) return { kind: 'trap' };
    }
    return { kind: 'signal', signal: status.signal };
  }

  /** PTRACE_GET_SYSCALL_INFO: op at 0 (1 entry, 2 exit); of an entry: nr at 24, args at 32. True for an entry. */
  #syscallInfo(): boolean {
    ptrace('GET_SYSCALL_INFO', this.tid, syscallInfo.length, syscallInfo.address);
    return syscallInfo.view.getUint8(0) === 1;
  }

  /** The system call at whose entry the thread is stopped. Precondition: `classify` just said so. */
  get enteredSyscall(): { number: bigint; args: readonly bigint[] } {
    const { view } = syscallInfo;
    return {
      number: view.getBigUint64(24, true),
      args: [0, 1, 2, 3].map((index) => view.getBigUint64(32 + 8 * index, true)),
    };
  }

  /** Whether the system call at whose entry the thread is stopped is KVM_RUN; learns the vCPU from it. */
  get entersRun(): boolean {
    const { number, args } = this.enteredSyscall;
    if (number !== Syscall.ioctl || args[1] !== Kvm.RUN) return false;
    if (this.fd === undefined) {
      const fd = Number(args[0]);
      const index = vcpuOf(this.pid, fd);
      if (index !== undefined) this.identify(fd, index, kvmRunMappings(this.pid).get(index));
    }
    return this.fd !== undefined;
  }

  /** Reads the registers of the stopped thread and says where it stands. */
  locate(): RunFrame {
    this.#registers.read(this.tid);
    return this.#frame();
  }

  #frame(): RunFrame {
    const registers = this.#registers;
    if (registers.x(8) !== Syscall.ioctl || registers.x(1) !== Kvm.RUN) return 'elsewhere';
    if (this.#svc === undefined) this.#svc = this.#findSvc(registers);
    if (this.#svc === undefined) return 'elsewhere';
    if (registers.pc === this.#svc) return 'parked';
    if (registers.pc !== this.#svc + 4n) return 'elsewhere';
    if (registers.result === -Errno.EINTR) return 'interrupted';
    if (registers.result === 0n && this.exitReason === ExitReason.DEBUG) return 'debugExit';
    return 'elsewhere';
  }

  /** Whether the system call that the thread just came out of succeeded. Precondition: `locate` was called. */
  get succeeded(): boolean {
    return this.#registers.result === 0n;
  }

  /** The ioctl that the thread just came out of: arm64 leaves all its arguments but the first in place. */
  finishedIoctl(): { request: bigint; argument: bigint; succeeded: boolean } {
    const registers = this.#registers;
    registers.read(this.tid);
    return { request: registers.x(1), argument: registers.x(2), succeeded: registers.result === 0n };
  }

  #findSvc(registers: ThreadRegisters): bigint | undefined {
    for (const address of [registers.pc - 4n, registers.pc]) {
      const word = readProcess(this.pid, Hva(address), 4);
      if (new DataView(word.buffer).getUint32(0, true) === svcInstruction) return address;
    }
    return undefined;
  }

  #runField(offset: bigint, length: number): DataView {
    if (this.kvmRun === undefined) throw new SessionError(`vCPU thread ${this.tid}: its kvm_run mapping is not known`);
    return new DataView(readProcess(this.pid, Hva(this.kvmRun + offset), length).buffer);
  }

  get exitReason(): number {
    this.#lastExit = this.#runField(0n, kvmRunExitSize);
    return this.#lastExit.getUint32(Number(KvmRun.exitReason), true);
  }

  /** kvm_run.debug.arch of the last debug exit: ESR_EL2 and FAR_EL2. Precondition: `locate` just said debugExit. */
  get debugExit(): { hsr: number; far: bigint } {
    const exit = this.#lastExit;
    if (!exit) throw new Error(`vCPU thread ${this.tid} has not exited`);
    return {
      hsr: exit.getUint32(Number(KvmRun.debugHsr), true),
      far: exit.getBigUint64(Number(KvmRun.debugFar), true),
    };
  }

  /** Rewinds to the `svc` of KVM_RUN. Precondition: `locate` said interrupted, debugExit or parked, and `fd` is known. */
  park(signal?: number): void {
    const registers = this.#registers;
    if (this.#svc === undefined || this.fd === undefined) {
      throw new SessionError(`vCPU thread ${this.tid} cannot be parked: its KVM_RUN frame is not known`);
    }
    registers.pc = this.#svc;
    registers.setX(0, BigInt(this.fd));
    registers.write(this.tid);
    if (signal !== undefined) this.#held.push(signal);
    this.state = 'parked';
  }

  /** Keeps the thread where it stands. Precondition: it was just located, not in a system-call stop, in which x7 lies, nor in
   *  the injected code, whose block the next batch is written to. */
  hold(signal?: number): void {
    if (signal !== undefined) this.#held.push(signal);
    this.state = 'parked';
  }

  /** Whether the thread stands in the injected code. Precondition: it was just located. */
  get isInMailbox(): boolean {
    if (!this.mailbox) return false;
    const offset = this.#registers.pc - this.mailbox.code;
    return offset >= 0n && offset < BigInt(this.mailbox.codeSize);
  }

  /** Whether a held thread stands before its KVM_RUN. */
  get isAtRun(): boolean {
    return this.state === 'parked' && this.#frame() === 'parked';
  }

  /** Makes a parked thread return -EINTR from KVM_RUN, as a signal would: kvmtool reads exit_reason even then. */
  unpark(): void {
    const registers = this.#parked();
    registers.pc += 4n;
    registers.setX(0, -Errno.EINTR);
    registers.write(this.tid);
    this.setExitReason(ExitReason.INTR);
  }

  setExitReason(reason: number): void {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, reason, true);
    writeProcess(this.pid, Hva((this.kvmRun ?? 0n) + KvmRun.exitReason), bytes);
  }

  /** At a KVM_RUN entry: makes the call finish what the last exit left over and come back with -EINTR. */
  beginSettle(): void {
    const value = this.#runField(KvmRun.immediateExit, 1).getUint8(0);
    const hva = `${(this.kvmRun ?? 0n) + KvmRun.immediateExit}`;
    this.journal.enter({ key: `immediateExit ${this.tid}`, undo: { undo: 'immediateExit', hva, value } });
    this.#immediateExit = value;
    this.#setImmediateExit(1);
  }

  /** At the exit that follows: puts immediate_exit back. */
  endSettle(): void {
    if (this.#immediateExit === undefined) return;
    this.#setImmediateExit(this.#immediateExit);
    this.#immediateExit = undefined;
    this.journal.strike(`immediateExit ${this.tid}`);
  }

  get isSettling(): boolean {
    return this.#immediateExit !== undefined;
  }

  #setImmediateExit(value: number): void {
    writeProcess(this.pid, Hva((this.kvmRun ?? 0n) + KvmRun.immediateExit), Uint8Array.of(value));
  }

  /** Turns a system-call stop, in which x7 lies, into a stop of another kind at the same place. The thread does not reach
   *  user space in between, so the block is microseconds. */
  leaveSyscallStop(): number | undefined {
    ptrace('INTERRUPT', this.tid, 0, 0);
    ptrace('CONT', this.tid, 0, 0);
    const status = this.tracer.nextOf(this.tid);
    if (status?.kind !== 'stopped') {
      this.state = 'gone';
      return undefined;
    }
    const stop = this.classify(status);
    return stop.kind === 'signal' ? stop.signal : undefined;
  }

  /** Lets the thread run on from a stop. */
  proceed(request: 'CONT' | 'SYSCALL' | 'LISTEN', signal = 0): void {
    this.state = 'running';
    this.#mask = undefined;
    ptrace(request, this.tid, 0, signal);
  }

  #deliverHeld(): void {
    if (this.#held.length === 0) return;
    if (this.isAtRun) this.unpark();
    for (const signal of this.#held.splice(0)) signalThread(this.pid, this.tid, signal);
  }

  resume(request: 'CONT' | 'SYSCALL'): void {
    this.#parked();
    this.#deliverHeld();
    this.proceed(request);
  }

  detach(): void {
    if (this.state === 'parked') this.#deliverHeld();
    ptrace('DETACH', this.tid, 0, 0);
    this.tracer.forget(this.tid);
    this.state = 'gone';
  }

  /** What the thread does from now on that the tracer hears of. Precondition: it is stopped. */
  set options(options: number) {
    ptrace('SETOPTIONS', this.tid, 0, options);
  }

  interrupt(): void {
    ptrace('INTERRUPT', this.tid, 0, 0);
  }

  /** Only we change the mask of a stopped thread, so it is asked for once a stop. */
  get signalMask(): bigint {
    if (this.#mask !== undefined) return this.#mask;
    ptrace('GETSIGMASK', this.tid, 8, signalMask.address);
    this.#mask = signalMask.view.getBigUint64(0, true);
    return this.#mask;
  }

  set signalMask(mask: bigint) {
    this.#mask = mask;
    signalMask.view.setBigUint64(0, mask, true);
    ptrace('SETSIGMASK', this.tid, 8, signalMask.address);
  }

  get #savedMask(): Hva | undefined {
    return this.mailbox && Hva(this.mailbox.block + BigInt(block.signalMask));
  }

  /** Gives the thread back the signals that were kept from it while it worked for a tracer that died. Precondition: it is held,
   *  and nothing was injected since. */
  restoreMask(): void {
    const saved = this.#savedMask;
    if (saved === undefined || this.signalMask !== allButSigtrap) return;
    this.signalMask = new DataView(readProcess(this.pid, saved, 8).buffer).getBigUint64(0, true);
  }

  #parked(): ThreadRegisters {
    if (this.state !== 'parked') {
      throw new Error(`vCPU thread ${this.tid} is ${this.state}, not parked`);
    }
    return this.#registers;
  }

  batch(): Batch {
    if (!this.mailbox) throw new Error(`vCPU thread ${this.tid} has no mailbox`);
    return new Batch(this.mailbox.block);
  }

  /** Runs a batch on the parked thread and leaves it parked. Blocks for the time the calls take. */
  run(batch: Batch): void {
    const parked = this.#parked();
    if (batch.length === 0) return;
    if (!this.mailbox) throw new Error(`vCPU thread ${this.tid} has no mailbox`);
    const mask = this.signalMask;
    writeProcess(this.pid, this.mailbox.block, batch.image(parked.bytes, mask));
    const registers = borrowed;
    registers.copyFrom(parked);
    registers.setX(19, this.mailbox.block + BigInt(block.entries));
    registers.setX(20, BigInt(batch.length));
    registers.setX(21, this.mailbox.block + BigInt(block.savedState));
    registers.pc = this.mailbox.code;
    const end = this.mailbox.code + stubEnd;
    this.#borrow(registers, mask, 'CONT', (now) => now.pc === end);
    const { start, length } = batch.resultRange;
    batch.complete(readProcess(this.pid, start, length));
  }

  /** One system call by the `svc` the thread is parked at: for what must happen before there is injected code, and after.
   *  By that of the injected code where the thread is not at its KVM_RUN. */
  rawCall(number: bigint, ...args: readonly bigint[]): bigint {
    const parked = this.#parked();
    const mask = this.signalMask;
    const saved = this.#savedMask;
    if (saved !== undefined) writeProcess(this.pid, saved, new Uint8Array(new BigUint64Array([mask]).buffer));
    const registers = borrowed;
    registers.copyFrom(parked);
    registers.setX(8, number);
    for (let index = 0; index < 6; index++) registers.setX(index, args[index] ?? 0n);
    if (!this.isAtRun && this.mailbox) registers.pc = this.mailbox.code + stubSvc;
    const after = registers.pc + 4n;
    return this.#borrow(registers, mask, 'SINGLESTEP', (now) => now.pc === after).result;
  }

  /** Runs the thread on other registers until `arrived`, then puts its own back. A pending stop can win over the wanted
   *  one before the first instruction ran, so arrival is judged by the pc, not by the stop. */
  #borrow(
    registers: ThreadRegisters,
    mask: bigint,
    request: 'CONT' | 'SINGLESTEP',
    arrived: (now: ThreadRegisters) => boolean,
  ): ThreadRegisters {
    const parked = this.#parked();
    this.signalMask = allButSigtrap;
    registers.write(this.tid);
    try {
      for (;;) {
        ptrace(request, this.tid, 0, 0);
        const status = this.tracer.nextOf(this.tid);
        if (status?.kind !== 'stopped') {
          this.state = 'gone';
          throw new SessionError('The VMM ended while the debugger worked in it');
        }
        now.read(this.tid);
        if (arrived(now)) return now;
        if (status.event === 0 && status.signal !== SIGTRAP && status.signal !== syscallStop) {
          throw new SessionError(`Signal ${status.signal} in injected code at 0x${now.pc.toString(16)}`);
        }
      }
    } finally {
      if (this.state === 'parked') {
        parked.write(this.tid);
        this.signalMask = mask;
      }
    }
  }
}
