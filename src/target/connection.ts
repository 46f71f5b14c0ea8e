import type { Readable, Writable } from 'node:stream';
import type { Target } from './target.ts';

/** How KVM_EXIT_DEBUG is kept from the VMM. `auto` takes the first that works: perf, then syscall. */
export type ExitTrapChoice = 'auto' | 'perf' | 'syscall';

export interface LaunchRequest {
  /** The VMM and its arguments, run without a shell; argv[0] is looked up on PATH when it has no slash. */
  readonly argv: readonly [string, ...string[]];
  readonly cwd: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly exitTrap: ExitTrapChoice;
}

export interface AttachRequest {
  readonly pid: number;
  readonly exitTrap: ExitTrapChoice;
}

/** Where a GDB stub listens. */
export interface RemoteAddress {
  readonly host: string;
  readonly port: number;
}

/** The VMM's terminal (a pty that the adapter owns): what the guest's serial console prints and reads. `output` ends
 *  with the VMM. */
export interface GuestConsole {
  readonly output: Readable;
  readonly input: Writable;
  /** Leaves the terminal open for a VM that goes on without us; what it prints from now on is dropped. */
  leave(): void;
}

export interface Launched {
  readonly target: Target;
  readonly console: GuestConsole;
}

/** Makes targets. Its calls end with the target stopped and every vCPU held: a launched guest has not executed its
 *  first instruction. UserError when the configuration or the machine is at fault; what was started is then ended, what
 *  was found running is left as it was. Aborting `signal` does the same. */
export interface Connector {
  launch(request: LaunchRequest, signal: AbortSignal): Promise<Launched>;
  attach(request: AttachRequest, signal: AbortSignal): Promise<Target>;
  /** To a guest behind a GDB stub. */
  connect(address: RemoteAddress, signal: AbortSignal): Promise<Target>;
}
