import type { Gva } from '../base/address.ts';
import type { PageWalk, ReadPhysical } from './pageWalk.ts';

/** One bit field of a register, `high` and `low` inclusive. `values` names the encodings worth naming. */
export interface BitField {
  readonly name: string;
  readonly high: number;
  readonly low: number;
  readonly values?: Readonly<Record<number, string>>;
}

/** `general`: what a `g` packet or a call frame holds; `float`: floating point and vector; `system`: everything else. */
export type RegisterGroup = 'general' | 'float' | 'system';

export interface RegisterDescription {
  /** Lower-case architectural name: `x0`, `sp`, `pc`, `pstate`, `v0`, `sctlr_el1`. */
  readonly name: string;
  readonly group: RegisterGroup;
  /** For system registers: `exception`, `translation`, `timers`, `debug`, `identification`, `other`, … */
  readonly topic?: string;
  readonly bits: number;
  readonly fields?: readonly BitField[];
  /** It counts time or events: that it differs from one stop to the next says nothing. */
  readonly counts?: true;
}

/** Register values by name, unsigned, as wide as the register is. */
export type RegisterValues = ReadonlyMap<string, bigint>;

/** What a stepping plan must know of the instruction at an address. */
export interface Instruction {
  /** Bytes. */
  readonly length: number;
  /** A `branch` is a jump that may not be taken. */
  readonly kind: 'call' | 'return' | 'jump' | 'branch' | 'other';
  /** Of one that goes to an address that the instruction itself names: bytes from the instruction to there. */
  readonly displacement?: bigint;
}

/** The interrupted context that an exception entry left behind, for unwinding through it. */
export interface UnwindHints {
  /** Name of the register that holds the return address in a leaf (arm64 `x30`), if the architecture has one. */
  readonly linkRegister: string | undefined;
  /** Name of the frame pointer register (arm64 `x29`, x86-64 `rbp`). */
  readonly framePointer: string;
  /** Registers a callee preserves: without a rule in the call frame information they still hold the caller's value. */
  readonly calleeSaved?: readonly string[];
  /** Registers beside the general ones that `codeAddress` looks at. */
  readonly addressing?: readonly string[];
}

/** Something that some registers tell of a vCPU. */
export interface Told<Value> {
  /** What `of` looks at. */
  readonly registers: readonly string[];
  of(registers: RegisterValues): Value | undefined;
}

/** Everything above the target that differs between architectures. Pure: no I/O, no state.
 *
 *  Porting recipe: (1) describe the registers and number them for DWARF; (2) give the breakpoint instruction and
 *  decode calls, returns and jumps; (3) walk the page tables (`mmu.ts`) from register values and a physical reader;
 *  (4) encode hardware breakpoints and decode debug exits (`debug.ts`), used by the targets; (5) build the exception
 *  that gives the guest its own traps back. No layer above `arch` names a register but through this interface. */
export interface Architecture {
  readonly name: 'aarch64' | 'x86_64';
  readonly generalRegisters: readonly RegisterDescription[];
  readonly floatRegisters: readonly RegisterDescription[];
  readonly programCounter: string;
  readonly stackPointer: string;
  readonly unwind: UnwindHints;
  /** The software breakpoint, little endian as in memory. Its length is also the alignment on fixed-width machines. */
  readonly breakpointInstruction: Uint8Array;
  /** Byte alignment of instructions; 1 where they vary in length. */
  readonly instructionAlignment: number;
  /** Capstone's names for architecture and mode. */
  readonly disassembler: { readonly arch: 'arm64' | 'x86'; readonly mode: 'arm' | '64' };
  /** The register that DWARF number `number` stands for (AADWARF64 4.1; System V psABI 3.6.2). */
  dwarfRegister(number: number): string | undefined;
  /** Decodes the instruction whose bytes start at `bytes[0]`; `bytes` holds at least the longest instruction. */
  decode(bytes: Uint8Array): Instruction;
  /** The instruction of the kernel's own that an exception was taken at; undefined unless the vCPU stands at the first
   *  instruction of its handler, and for exceptions of user space. */
  readonly exceptionOrigin: Told<Gva>;
  /** What tells the programs of user space apart, whose addresses and stacks may be the same; undefined in the kernel. */
  readonly addressSpace: Told<bigint>;
  /** How the MMU of a vCPU comes from a virtual address to a physical one, for a view. */
  readonly pageWalk: {
    /** What `of` looks at, as far as the vCPU has them. */
    readonly registers: readonly string[];
    /** TargetError when a register is missing that it cannot do without. */
    of(registers: RegisterValues, read: ReadPhysical, address: Gva): Promise<PageWalk>;
  };
  /** A code address as the program meant it: pointer authentication removed (arm64), else unchanged. */
  codeAddress(value: bigint, registers: RegisterValues): Gva;
  /** A short text for the thread name: privilege level and so on, such as `EL1`. */
  describeContext(registers: RegisterValues): string;
}
