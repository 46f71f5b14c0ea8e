/** The debuggers that are measured against each other, each at the interface that its front ends use. */

/** Where a debugger finds a VM, and what its guest's symbols are in. */
export interface VmToDebug {
  readonly pid: number;
  /** TCP port of the VMM's own GDB stub, on the loopback interface. */
  readonly stubPort: number;
}

/** By its address, so that both have the same: what a function's name means is up to each. */
export interface BreakpointPlace {
  readonly address: bigint;
  readonly condition?: string;
  /** In the debug registers, and not as an instruction in memory. */
  readonly isHardware?: boolean;
}

/** One debugger with its process. Between calls the guest is stopped, but after `run`. */
export interface Debugger {
  readonly name: string;
  /** Leaves the guest stopped. */
  attach(vm: VmToDebug): Promise<void>;
  /** Leaves the guest running. */
  detach(): Promise<void>;
  /** The only breakpoint from now on, or none. */
  setBreakpoint(place?: BreakpointPlace): Promise<void>;
  /** Resolves when the next stop is reported. */
  continueToStop(): Promise<void>;
  /** Resolves when the debugger says that the guest runs. */
  run(): Promise<void>;
  /** Resolves when the stop is reported. */
  pause(): Promise<void>;
  /** Resolves when the end of the step is reported. */
  next(): Promise<void>;
  /** Names of the functions of up to `levels` frames of the vCPU that stopped, innermost first. */
  stack(levels: number): Promise<readonly string[]>;
  /** Where the vCPU that stopped is. */
  pc(): Promise<bigint>;
  /** The integer value of a C expression in the innermost frame. */
  evaluate(expression: string): Promise<bigint>;
  end(): void;
}

/** Longer than anything takes that is measured, in emulation on a busy machine. */
export const patienceMs = 60_000;
