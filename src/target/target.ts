import type { Architecture, RegisterDescription, RegisterValues } from '../arch/architecture.ts';
import type { Gpa, Gva } from '../base/address.ts';
import { TargetError } from '../base/errors.ts';
import type { PhysicalMemory, VirtualMemory } from '../base/memory.ts';

/** Index of a vCPU, as KVM numbers them. */
export type Vcpu = number;

export type WatchAccess = 'read' | 'write' | 'readWrite';

/** Something the guest shall stop at. `address` is a guest virtual address of the stopped vCPU's regime. */
export type StopPoint =
  | { readonly kind: 'software'; readonly address: Gva }
  | { readonly kind: 'hardware'; readonly address: Gva }
  | { readonly kind: 'watch'; readonly address: Gva; readonly length: number; readonly access: WatchAccess };

export type StopPointId = number & { readonly __stopPoint: never };

/** What this target can do; budgets are what the vCPU really has, never a constant. */
export interface Capabilities {
  readonly softwareBreakpoints: boolean;
  readonly hardwareBreakpoints: number;
  readonly hardwareWatchpoints: number;
  /** Whether an instruction step can hold interrupts off. */
  readonly stepWithoutInterrupts: boolean;
  /** Whether `setTrapFilter` has an effect: the guest's own breakpoint instructions come to the debugger first. */
  readonly guestTraps: boolean;
  /** Human-readable facts for the user: VMM, pid, exit trap tier, … */
  readonly facts: ReadonlyMap<string, string>;
}

export interface ExitStatus {
  /** Exit code of the VMM, or undefined when a signal ended it or it cannot be known. */
  readonly code: number | undefined;
  readonly signal: number | undefined;
}

/** Why the guest stopped. Several vCPUs can stop at once: every event is kept and reported. */
export type StopEvent =
  /** The VM is launched and no guest instruction has run. */
  | { readonly kind: 'entry'; readonly vcpu: Vcpu }
  /** The pc is at the stop point; the instruction there has not executed. */
  | { readonly kind: 'breakpoint'; readonly vcpu: Vcpu; readonly pc: Gva; readonly ids: readonly StopPointId[] }
  /** `accessed` is the address the CPU reports, which may lie near, not in, the watched range; the access has not executed
   *  on arm64 and has on x86-64. */
  | {
      readonly kind: 'watchpoint';
      readonly vcpu: Vcpu;
      readonly pc: Gva;
      readonly accessed: Gva;
      readonly ids: readonly StopPointId[];
    }
  | { readonly kind: 'step'; readonly vcpu: Vcpu; readonly pc: Gva }
  /** A breakpoint instruction of the guest's own that `TrapFilter` asked to stop at. Still to be executed: resume
   *  re-injects it. */
  | { readonly kind: 'guestTrap'; readonly vcpu: Vcpu; readonly pc: Gva; readonly immediate: number }
  /** `interrupt()` was called. */
  | { readonly kind: 'interrupted'; readonly vcpu: Vcpu }
  /** The VMM ended; nothing of the target can be used any more. */
  | { readonly kind: 'exited'; readonly status: ExitStatus }
  /** A debug exit that nothing explains; `detail` names the raw payload. */
  | { readonly kind: 'unknown'; readonly vcpu: Vcpu; readonly detail: string };

/** Decides which of the guest's own breakpoint instructions stop it; the others go back to the guest unseen. */
export type TrapFilter = (trap: { vcpu: Vcpu; pc: Gva; immediate: number }) => boolean;

/** Top-level translation tables, by their physical addresses. */
export interface KernelTables {
  readonly from: Gpa;
  readonly to: Gpa;
}

/** How one level of a page-table walk went, for views. */
export interface Translation {
  readonly address: Gpa;
  /** Bytes from `address` to the end of the page or block that maps it. */
  readonly remaining: number;
  readonly writable: boolean;
  /** Instructions there can be executed, at one exception level or another. */
  readonly executable: boolean;
}

/** Stop points that were accepted cannot be planted any more: software breakpoints, and behind a remote stub also others. The
 *  guest has executed no more than the instructions
 *  at the stop points that vCPUs stood at. */
export class UnplantedBreakpoints extends TargetError {
  override readonly name = 'UnplantedBreakpoints';

  constructor(
    message: string,
    readonly ids: readonly StopPointId[],
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** A guest reached through stub operations. Calls are serialised by the owner; implementations need no locking.
 *  One exception: `interrupt()` may be called while `resume()` or `step()` is pending.
 *
 *  The target is *stopped* (every vCPU held) or *running*. Everything but `resume`, `step`, `interrupt`, `detach` and
 *  `kill` needs it stopped unless its comment says otherwise. A stopped guest is an unpatched guest: stop points are in
 *  guest memory and debug registers only while it runs, so reads never show them and a debugger that dies while the
 *  guest is stopped leaves nothing in it.
 *
 *  Errors: TargetError when the one operation failed, MemoryFault for memory, SessionError when the target is lost. */
export interface Target {
  readonly architecture: Architecture;
  readonly capabilities: Capabilities;
  readonly vcpus: readonly Vcpu[];
  /** Resolves when the VMM ended, whoever ended it, also while the guest is stopped. Never after `detach()`. Rejects with a
   *  SessionError when the target is lost otherwise. */
  readonly exited: Promise<ExitStatus>;

  /** All registers the vCPU offers, general first. Known after connecting; callable at any time. */
  readonly registers: readonly RegisterDescription[];

  /** Values of the named registers; of the general ones when `names` is absent. Unknown names are a TargetError. */
  readRegisters(vcpu: Vcpu, names?: readonly string[]): Promise<RegisterValues>;
  /** Writes one register. TargetError when the value is wider than the register or the vCPU refuses it. */
  writeRegister(vcpu: Vcpu, name: string, value: bigint): Promise<void>;

  /** Virtual memory in the translation regime of the stopped vCPU. */
  memory(vcpu: Vcpu): VirtualMemory;
  readonly physicalMemory: PhysicalMemory;
  /** TargetError where the target has no way to find out; a MemoryFault, which is one too, where nothing is mapped. */
  translate(vcpu: Vcpu, address: Gva): Promise<Translation>;
  /** From now on addresses of the kernel are translated by the tables at `tables.to` while a vCPU's own are those at
   *  `tables.from`: in user mode a kernel may map of itself no more than its entry code. */
  setKernelTables(tables: KernelTables): void;

  /** Takes a stop point into the set that is planted at each resume. A software breakpoint is tried at once: written,
   *  read back and taken out again, so that success means it can be in place. `vcpu` names the regime that translates
   *  the address; what is patched is remembered by physical address, hardware stop points are armed on every vCPU.
   *  TargetError: not mapped, not aligned, the budget is used up, a range that the hardware cannot watch. */
  insert(point: StopPoint, vcpu: Vcpu): Promise<StopPointId>;
  remove(id: StopPointId): Promise<void>;
  /** Software breakpoints whose place the guest has written over since the last call: it may have passed there unseen.
   *  What it wrote stays, and is what they are planted over at the next resume. */
  takeRewritten(): readonly StopPointId[];

  /** Plants all stop points and runs all vCPUs until something stops one, then stops all and takes the stop points
   *  out. A vCPU that stands at a stop point executes that instruction first, alone. At least one event.
   *  UnplantedBreakpoints when some cannot be planted. */
  resume(): Promise<readonly StopEvent[]>;
  /** Executes one instruction of `vcpu`, or an exclusive sequence as one, with interrupts held off where the target can; the
   *  other vCPUs stay held. No stop point is planted. Ends early with the events that say so when interrupted.
   *
   *  With `end`, an address ahead, a target that can do that without the guest being able to tell executes more of the code
   *  that runs straight on from the pc: not past `end`, not past the address of a stop point, and not past a branch. */
  step(vcpu: Vcpu, end?: Gva): Promise<readonly StopEvent[]>;
  /** Asks the pending `resume()` or `step()` to end with an `interrupted` event. When nothing is pending, it is the next
   *  one that is asked. */
  interrupt(): void;

  /** Which of the guest's own breakpoint instructions end a `resume()`. None while it is undefined, as at first. */
  setTrapFilter(filter: TrapFilter | undefined): void;

  /** Leaves the VM running as if nobody had been there. Works stopped or running; idempotent. */
  detach(): Promise<void>;
  /** Ends the VM and waits until it is gone. Works stopped or running; idempotent. */
  kill(): Promise<void>;
}
