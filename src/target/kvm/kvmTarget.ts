// The Target over the vCPU threads of a VMM: KVM ioctls injected into them, guest memory through the memory slots.
import { aarch64 } from '../../arch/aarch64/aarch64.ts';
import { decodeDebugExit } from '../../arch/aarch64/debug.ts';
import { reinjectBreakpoint } from '../../arch/aarch64/exception.ts';
import { type TranslationRegisters, translate, translationRegisterNames } from '../../arch/aarch64/mmu.ts';
import { isAArch32, Pstate } from '../../arch/aarch64/pstate.ts';
import type { RegisterDescription, RegisterValues } from '../../arch/architecture.ts';
import { type Gpa, Gva, hex } from '../../base/address.ts';
import { SessionError, TargetError } from '../../base/errors.ts';
import type { PhysicalMemory, VirtualMemory } from '../../base/memory.ts';
import type {
  Capabilities,
  ExitStatus,
  KernelTables,
  StopEvent,
  StopPoint,
  StopPointId,
  Target,
  Translation,
  TrapFilter,
  Vcpu,
} from '../target.ts';
import { addGuestDebug, type Batch } from './batch.ts';
import { GuestClock } from './guestClock.ts';
import { mailboxUndo } from './journal.ts';
import { Capability, Kvm } from './kvmAbi.ts';
import { installMailbox, type MailboxRecord, removeMailbox } from './mailbox.ts';
import { type MemorySlots, SlotMemory } from './memorySlots.ts';
import { isEnding, kvmDescriptors, processName, startTime } from './procfs.ts';
import { Standings } from './standings.ts';
import { breakInstruction, StopPoints } from './stopPoints.ts';
import { keepingAlive } from './tracer.ts';
import { TranslationTables } from './translationTables.ts';
import type { DebugExit, RunOutcome, VcpuGroup } from './vcpuGroup.ts';
import { VcpuRegisters } from './vcpuRegisters.ts';
import { type StepMode, VcpuStepper } from './vcpuStepper.ts';
import type { VcpuThread } from './vcpuThread.ts';

const generalNames = aarch64.generalRegisters.map(({ name }) => name);
const SIGKILL = 9;

export interface KvmVm {
  readonly pid: number;
  /** Every vCPU thread is parked. */
  readonly group: VcpuGroup;
  /** Called once, when system calls can be injected. */
  findSlots(thread: VcpuThread): MemorySlots;
}

/** A part of guest memory, `offset` bytes into what it is a part of. */
interface Span {
  readonly gpa: Gpa;
  readonly offset: number;
  size: number;
}

/** In the journal. */
const debugKey = (fd: number): string => `debug ${fd}`;

const breakpointAt = (gpa: Gpa): { gpa: Gpa; size: number } => ({ gpa, size: breakInstruction.length });

export class KvmTarget implements Target {
  readonly architecture = aarch64;
  readonly capabilities: Capabilities;
  readonly physicalMemory: PhysicalMemory;
  readonly #vm: KvmVm;
  readonly #registers: VcpuRegisters;
  readonly #memory: SlotMemory;
  readonly #tables: TranslationTables;
  readonly #points: StopPoints;
  readonly #clock: GuestClock;
  readonly #stepper: VcpuStepper;
  readonly #standings: Standings;
  readonly #mailbox: MailboxRecord;
  #filter: TrapFilter | undefined;
  #kernelTables: KernelTables | undefined;
  #interrupted = false;
  #detached = false;
  #pending: Promise<void> | undefined;

  constructor(vm: KvmVm) {
    this.#vm = vm;
    const { pid, group } = vm;
    const { journal } = group;
    const [first] = group.threads;
    if (!first) throw new SessionError('The VMM has no vCPU');
    journal.vmm({
      pid,
      startTime: startTime(pid) ?? '',
      threads: group.threads.map(({ tid, fd = -1, index = -1, kvmRun = 0n }) => ({
        tid,
        fd,
        index,
        kvmRun: `${kvmRun}`,
      })),
    });
    this.#mailbox = installMailbox(group.threads, (record) =>
      journal.enter({ key: 'mailbox', undo: mailboxUndo(record) }),
    );
    for (const thread of group.threads) group.trap.arm(thread);
    this.#registers = new VcpuRegisters(first);
    this.#clock = new GuestClock(this.#registers, first);
    this.#memory = new SlotMemory(pid, vm.findSlots(first));
    this.#tables = new TranslationTables(this.#memory);
    this.physicalMemory = {
      read: (address, length) => this.#memory.read(address, length),
      write: async (address, bytes) => {
        this.#tables.forget();
        this.#memory.writeNow(address, bytes);
      },
    };
    this.capabilities = this.#findCapabilities(first);
    this.#points = new StopPoints(this.#memory, this.capabilities, journal);
    this.#stepper = new VcpuStepper(
      group,
      this.#registers,
      this.#points,
      this.#clock,
      this.capabilities.hardwareBreakpoints,
      (vcpu) => this.memory(vcpu),
    );
    this.#standings = new Standings(this.#registers, this.#points, this.#stepper, {
      step: (thread, mode, end) => this.#stepOne(thread, mode, end),
      reinject: (thread, immediate) => this.#reinject(thread, immediate),
    });
    // Whoever ends the VMM, and whenever: nothing is left to undo, and nobody to be waited for.
    void group.exited.then(() => {
      journal.close();
      group.close();
    });
  }

  #findCapabilities(thread: VcpuThread): Capabilities {
    const { pid, group } = this.#vm;
    const { slots } = this.#memory;
    const { vm } = kvmDescriptors(pid);
    const batch = thread.batch();
    const ask = (capability: number): number =>
      batch.ioctl('KVM_CHECK_EXTENSION', vm ?? -1, Kvm.CHECK_EXTENSION, BigInt(capability));
    const debug = ask(Capability.SET_GUEST_DEBUG);
    const breakpoints = ask(Capability.GUEST_DEBUG_HW_BPS);
    const watchpoints = ask(Capability.GUEST_DEBUG_HW_WPS);
    thread.run(batch);
    const number = (call: number): number => Math.max(0, Number(batch.result(call).value));
    return {
      softwareBreakpoints: number(debug) > 0,
      hardwareBreakpoints: number(breakpoints),
      hardwareWatchpoints: number(watchpoints),
      stepWithoutInterrupts: true,
      guestTraps: true,
      facts: new Map([
        ['VMM', `${processName(pid)} (pid ${pid})`],
        ['vCPUs', `${group.threads.length}`],
        [
          "guest's clock",
          this.#clock.isHeld ? 'stands while the guest is stopped' : "runs on: it is not the debugger's to set",
        ],
        ['exit trap', group.trap.tier === 'perf' ? 'perf' : `syscall (${group.trap.reason})`],
        ['RAM', slots.regions.map(({ gpa, size }) => `${hex(gpa)}+${hex(size)}`).join(', ')],
      ]),
    };
  }

  get exited(): Promise<ExitStatus> {
    return this.#vm.group.exited;
  }

  get vcpus(): readonly Vcpu[] {
    return this.#vm.group.threads.flatMap(({ index }) => (index === undefined ? [] : [index]));
  }

  get registers(): readonly RegisterDescription[] {
    return this.#registers.catalogue;
  }

  #thread(vcpu: Vcpu): VcpuThread {
    const thread = this.#vm.group.threadOf(vcpu);
    if (!thread) throw new TargetError(`There is no vCPU ${vcpu}`);
    return thread;
  }

  async readRegisters(vcpu: Vcpu, names: readonly string[] = generalNames): Promise<RegisterValues> {
    const thread = this.#thread(vcpu);
    return this.#clock.held(this.#registers.read(thread, names), thread);
  }

  async writeRegister(vcpu: Vcpu, name: string, value: bigint): Promise<void> {
    const thread = this.#thread(vcpu);
    this.#registers.write(thread, { [name]: value });
    this.#clock.written(name, value);
    if (name === 'pc') {
      this.#standings.forget(vcpu);
      // A branch target type left by an earlier indirect branch would make the new place fault (Arm ARM, D8.4.5).
      const pstate = this.#registers.one(thread, 'pstate');
      if ((pstate & Pstate.BTYPE) !== 0n && !isAArch32(pstate)) {
        this.#registers.write(thread, { pstate: pstate & ~Pstate.BTYPE });
      }
    }
  }

  #translation(thread: VcpuThread): TranslationRegisters {
    const names = translationRegisterNames.filter((name) => this.#registers.has(name));
    const registers = Object.fromEntries(this.#registers.read(thread, names)) as unknown as TranslationRegisters;
    // TTBR1_EL1 (Arm ARM, D24.2): 63:48 ASID, 47:1 BADDR, 0 CnP. Tables are whole pages.
    const { from, to } = this.#kernelTables ?? {};
    if (from === undefined || to === undefined || (registers.ttbr1_el1 & 0xffff_ffff_f000n) !== from) return registers;
    return { ...registers, ttbr1_el1: to };
  }

  async translate(vcpu: Vcpu, address: Gva): Promise<Translation> {
    const found = await translate(this.#translation(this.#thread(vcpu)), this.#tables.read, address);
    return { ...found, executable: found.executable || found.userExecutable };
  }

  memory(vcpu: Vcpu): VirtualMemory {
    return {
      read: async (address, length) => {
        const spans = await this.#spans(vcpu, address, length);
        const [first] = spans;
        if (spans.length === 1 && first) return this.#memory.readNow(first.gpa, length);
        const result = new Uint8Array(length);
        for (const { gpa, offset, size } of spans) result.set(this.#memory.readNow(gpa, size), offset);
        return result;
      },
      write: async (address, bytes) => {
        const spans = await this.#spans(vcpu, address, bytes.length);
        this.#tables.forget();
        for (const { gpa, offset, size } of spans) this.#memory.writeNow(gpa, bytes.subarray(offset, offset + size));
        const thread = this.#thread(vcpu);
        thread.run(this.#syncing(thread, spans)); // the bytes may be instructions
      },
    };
  }

  /** Where [address, address + length) lies, in pieces that are contiguous in guest physical memory. */
  async #spans(vcpu: Vcpu, address: Gva, length: number): Promise<readonly Span[]> {
    const registers = this.#translation(this.#thread(vcpu));
    const spans: Span[] = [];
    for (let offset = 0; offset < length; ) {
      const found = await translate(registers, this.#tables.read, Gva(address + BigInt(offset)));
      const size = Math.min(length - offset, found.remaining);
      const last = spans.at(-1);
      if (last && last.gpa + BigInt(last.size) === found.address) last.size += size;
      else spans.push({ gpa: found.address, offset, size });
      offset += size;
    }
    return spans;
  }

  async insert(point: StopPoint, vcpu: Vcpu): Promise<StopPointId> {
    if (point.kind === 'hardware') return this.#points.addHardware(point.address);
    if (point.kind === 'watch') return this.#points.addWatch(point);
    const { address } = await this.translate(vcpu, point.address);
    return this.#points.addSoftware(point.address, address);
  }

  async remove(id: StopPointId): Promise<void> {
    this.#points.remove(id);
  }

  takeRewritten(): readonly StopPointId[] {
    return this.#points.takeRewritten();
  }

  setKernelTables(tables: KernelTables): void {
    this.#kernelTables = tables;
  }

  setTrapFilter(filter: TrapFilter | undefined): void {
    this.#filter = filter;
  }

  interrupt(): void {
    this.#interrupted = true;
    this.#vm.group.interrupt();
  }

  resume(): Promise<readonly StopEvent[]> {
    return this.#track(this.#resume());
  }

  async #resume(): Promise<readonly StopEvent[]> {
    for (const thread of this.#vm.group.threads) this.#registers.depart(thread);
    for (const thread of this.#vm.group.threads) {
      const events = await this.#standings.leave(thread);
      if (events.length > 0) return events;
    }
    if (this.#interrupted) return [{ kind: 'interrupted', vcpu: this.vcpus[0] ?? 0 }];
    return this.#runAll();
  }

  async #runAll(): Promise<readonly StopEvent[]> {
    const { group } = this.#vm;
    const events = new Map<Vcpu, StopEvent>();
    let outcomes: readonly RunOutcome[] = [];
    try {
      this.#arm(this.#points.plant());
      for (const thread of group.threads) this.#registers.invalidate(thread);
      this.#tables.forget();
      outcomes = await group.run(group.threads, async (exit) => {
        this.#registers.invalidate(this.#thread(exit.vcpu));
        this.#tables.forget(); // the others run
        const event = await this.#explain(exit);
        if (!event) return 'resume';
        events.set(exit.vcpu, event);
        return 'stop';
      });
    } finally {
      this.#tables.forget();
      if (group.exitStatus === undefined) this.#disarm();
    }
    return this.#report(outcomes, events);
  }

  #report(outcomes: readonly RunOutcome[], events: ReadonlyMap<Vcpu, StopEvent>): readonly StopEvent[] {
    this.#standings.reported(events.values());
    const exited = outcomes.find((outcome) => outcome.kind === 'exited');
    if (exited) {
      return [...events.values(), { kind: 'exited', status: exited.status }];
    }
    if (events.size > 0) return [...events.values()];
    return [{ kind: 'interrupted', vcpu: this.vcpus[0] ?? 0 }];
  }

  /** Arms guest debug on every vCPU, makes the patched instructions visible and lets the guest's clock go on, in one injection. */
  #arm(patched: readonly Gpa[]): void {
    const { group } = this.#vm;
    const { journal } = group;
    const [first] = group.threads;
    if (!first) return;
    const isUnwatched = this.#points.isEmpty && !this.#filter;
    const fds = isUnwatched ? [] : group.threads.map(({ fd = -1 }) => fd);
    const debug = this.#points.guestDebug('run');
    const batch = this.#syncing(first, patched.map(breakpointAt), fds.length + 1);
    journal.enter(...fds.map((fd) => ({ key: debugKey(fd), undo: { undo: 'guestDebug', fd } as const })));
    const calls = addGuestDebug(batch, fds, debug);
    const released = this.#clock.addRelease(batch, first);
    first.run(batch);
    for (const call of calls) batch.checked(call);
    released();
  }

  /** A batch that, when it runs, makes what was written visible to the guest's instruction fetch. It has room for `more`
   *  calls; what does not fit into it has run. */
  #syncing(thread: VcpuThread, written: readonly { readonly gpa: Gpa; readonly size: number }[], more = 0): Batch {
    let batch = thread.batch();
    for (const { gpa, size } of written) {
      this.#memory.pieces(gpa, size, (hva, _offset, length) => {
        if (batch.room <= more) {
          thread.run(batch);
          batch = thread.batch();
        }
        batch.syncInstructions(hva, length);
      });
    }
    return batch;
  }

  /** Takes everything out of guest memory and the debug registers again, and holds the guest's clock. Precondition: all vCPUs
   *  are parked. */
  #disarm(): void {
    const { group } = this.#vm;
    const { journal } = group;
    const [first] = group.threads;
    if (!first) return;
    const patched = this.#points.lift();
    const batch = this.#syncing(first, patched.map(breakpointAt), group.threads.length + 1);
    const fds = group.threads.map(({ fd = -1 }) => fd);
    const calls = addGuestDebug(batch, fds);
    const hold = this.#clock.addHold(batch, first);
    first.run(batch);
    for (const call of calls) batch.checked(call);
    hold();
    journal.strike(...fds.map(debugKey));
  }

  /** The stop event of a debug exit, or undefined when the guest got its own trap back and goes on. `step`: where the step
   *  under way ends, if there is one: no breakpoint instruction but the guest's own is there then. */
  async #explain(
    exit: DebugExit,
    step?: { readonly ends: readonly Gva[] | undefined },
  ): Promise<StopEvent | undefined> {
    const { vcpu } = exit;
    const thread = this.#thread(vcpu);
    const decoded = decodeDebugExit(exit.hsr, exit.far);
    const pc = Gva(this.#registers.one(thread, 'pc'));
    switch (decoded.kind) {
      case 'softwareBreakpoint': {
        const ids = step ? [] : await this.#plantedAt(vcpu, pc);
        if (ids.length > 0) return { kind: 'breakpoint', vcpu, pc, ids };
        if (this.#filter?.({ vcpu, pc, immediate: decoded.immediate })) {
          return { kind: 'guestTrap', vcpu, pc, immediate: decoded.immediate };
        }
        this.#reinject(thread, decoded.immediate);
        return undefined;
      }
      case 'hardwareBreakpoint': {
        if (step?.ends?.includes(pc)) return { kind: 'step', vcpu, pc };
        const ids = this.#points.hardwareAt(pc);
        if (ids.length > 0) return { kind: 'breakpoint', vcpu, pc, ids };
        break;
      }
      case 'watchpoint': {
        const ids = this.#points.watchNear(decoded.far, decoded.write);
        if (ids.length > 0) return { kind: 'watchpoint', vcpu, pc, accessed: decoded.far, ids };
        break;
      }
      case 'step':
        return { kind: 'step', vcpu, pc };
    }
    return {
      kind: 'unknown',
      vcpu,
      detail: `debug exit with ESR ${hex(exit.hsr)}, FAR ${hex(exit.far)} at ${hex(pc)}`,
    };
  }

  /** Software breakpoints of ours at `pc`: by physical address, since other virtual addresses may map the same page. */
  async #plantedAt(vcpu: Vcpu, pc: Gva): Promise<readonly StopPointId[]> {
    const { address } = await this.translate(vcpu, pc);
    return this.#points.softwareAt(address);
  }

  /** Gives the guest the exception that its own breakpoint instruction would have raised. */
  #reinject(thread: VcpuThread, immediate: number): void {
    const names = ['pc', 'pstate', 'vbar_el1', 'sctlr_el1'] as const;
    const values = this.#registers.read(thread, names);
    const state = Object.fromEntries(names.map((name) => [name, values.get(name) ?? 0n])) as Record<
      (typeof names)[number],
      bigint
    >;
    const mte = this.#registers.has('gcr_el1');
    this.#registers.write(thread, { ...reinjectBreakpoint(state, immediate, { mte }) });
  }

  step(vcpu: Vcpu, end?: Gva): Promise<readonly StopEvent[]> {
    const thread = this.#thread(vcpu);
    this.#registers.depart(thread);
    return this.#track(this.#standings.step(thread, end));
  }

  async #stepOne(thread: VcpuThread, mode: StepMode, end?: Gva): Promise<readonly StopEvent[]> {
    const vcpu = thread.index ?? 0;
    const { outcomes, exits, ends, isInstead } = await this.#stepper
      .step(thread, mode, end)
      .finally(() => this.#tables.forget());
    if (this.#vm.group.exitStatus !== undefined) return this.#report(outcomes, new Map());
    const events = new Map<Vcpu, StopEvent>();
    // Or an interrupt came between the last instruction and the breakpoint behind it.
    const isOver = isInstead || (exits.length === 0 && ends?.includes(Gva(this.#registers.one(thread, 'pc'))));
    if (isOver) events.set(vcpu, { kind: 'step', vcpu, pc: Gva(this.#registers.one(thread, 'pc')) });
    for (const exit of exits) {
      const event = await this.#explain(exit, { ends });
      // The guest's own trap went back to it: its instruction is the step.
      const pc = Gva(this.#registers.one(thread, 'pc'));
      events.set(vcpu, event ?? { kind: 'step', vcpu, pc });
    }
    return this.#report(outcomes, events);
  }

  async detach(): Promise<void> {
    if (this.#detached) return;
    this.#detached = true;
    const { group } = this.#vm;
    const { journal } = group;
    while (this.#pending !== undefined) {
      this.interrupt();
      await this.#pending;
    }
    const [first] = group.threads;
    if (first) {
      this.#disarm();
      this.#clock.release(first);
      removeMailbox(first, this.#mailbox);
    }
    group.detach();
    journal.close();
  }

  async kill(): Promise<void> {
    if (this.#detached) return;
    this.#detached = true;
    const { group, pid } = this.#vm;
    if (group.exitStatus === undefined) process.kill(pid, SIGKILL);
    await keepingAlive(group.exited);
    await this.#pending;
  }

  /** A VMM that was killed fails whatever is being done in it: that it ended is then what there is to say. */
  async #endInstead(failure: unknown): Promise<readonly StopEvent[]> {
    const { group, pid } = this.#vm;
    if (group.exitStatus === undefined && !isEnding(pid)) throw failure;
    const status = await keepingAlive(group.exited);
    return this.#report([{ kind: 'exited', status }], new Map());
  }

  /** Remembers a run for `detach` and `kill`, which may come while it is under way. */
  async #track(attempt: Promise<readonly StopEvent[]>): Promise<readonly StopEvent[]> {
    const run = attempt.catch((failure: unknown) => this.#endInstead(failure));
    const settled = run.then(
      () => undefined,
      () => undefined,
    );
    this.#pending = settled;
    try {
      return await run;
    } finally {
      this.#pending = undefined;
      this.#interrupted = false;
    }
  }
}
