// Connects to a guest behind a GDB stub.

import { debugRegisterCounts } from '../../arch/aarch64/debug.ts';
import { hex } from '../../base/address.ts';
import { SessionError, TargetError, UserError } from '../../base/errors.ts';
import type { RemoteAddress } from '../connection.ts';
import type { Capabilities, Target } from '../target.ts';
import { type Patience, RspConnection, usualPatience } from './connection.ts';
import { canMaskSteps } from './maskedStep.ts';
import { RemoteRegisters } from './remoteRegisters.ts';
import { RspTarget } from './rspTarget.ts';
import { offeredStopPoints } from './stopPoints.ts';
import { type Changes, negotiate, type Stub, setSstep } from './stub.ts';
import { Threads } from './threads.ts';

/** Of each kind a PE has 16 at most (Arm ARM, D24.2, ID_AA64DFR0_EL1): where the stub does not give that register, it is for
 *  the stub to refuse what is more than it has. */
const most = { breakpoints: 16, watchpoints: 16 };

/** Ends with the target stopped. UserError when nobody is there, it is nothing that can be debugged, or it is cancelled: the
 *  guest runs then, also one that was stopped before, unless the message says that it may not. */
export async function connectRemote(
  address: RemoteAddress,
  signal: AbortSignal,
  patience: Patience = usualPatience,
): Promise<Target> {
  const connection = await RspConnection.open(address, patience, signal);
  const changes: Changes = { sstepBefore: undefined, process: undefined };
  const abort = (): void => connection.cancel();
  signal.addEventListener('abort', abort, { once: true });
  try {
    const stub = await negotiate(connection, changes);
    const capabilities = await findCapabilities(connection, stub);
    if (!signal.aborted) return new RspTarget(connection, stub, capabilities);
  } catch (thrown) {
    if (!signal.aborted) {
      signal.removeEventListener('abort', abort);
      const left = await letGo(connection, changes);
      if (!(thrown instanceof TargetError || thrown instanceof SessionError || thrown instanceof UserError))
        throw thrown;
      if (thrown instanceof UserError && left === '') throw thrown;
      const message = thrown instanceof UserError ? thrown.message : `attach: ${thrown.message}`;
      throw new UserError(`${message}${left}`, { cause: thrown });
    }
  } finally {
    signal.removeEventListener('abort', abort);
  }
  throw new UserError(`attach: cancelled.${await letGo(connection, changes)}`);
}

/** To have connected has stopped the guest. Ends with the connection closed; returns what to tell where the guest may not run
 *  as before. A connection that was lost before says so itself. */
async function letGo(connection: RspConnection, { sstepBefore, process }: Changes): Promise<string> {
  if (!connection.isOpen) return '';
  connection.leave();
  try {
    if (sstepBefore !== undefined && !(await setSstep(connection, sstepBefore))) {
      throw new TargetError('the stub does not take back its flags of steps');
    }
    // Where threads belong to processes, one has to be named.
    if (process !== undefined || (await connection.ask('D')) !== 'OK') {
      await connection.command(`D;${process ?? '1'}`, 'Cannot detach');
    }
    return '';
  } catch (error) {
    if (!(error instanceof TargetError || error instanceof SessionError)) throw error;
    return ` The guest may be left stopped: ${error.message}`;
  } finally {
    connection.close();
  }
}

async function findCapabilities(connection: RspConnection, stub: Stub): Promise<Capabilities> {
  const registers = new RemoteRegisters(stub.registers, stub.remotes, connection, new Threads(stub, connection));
  const offered = await offeredStopPoints(connection, await registers.one(0, 'pc'));
  const counts = await readCounts(registers);
  const breakpoints = offered.hardware ? counts.breakpoints : 0;
  const watchpoints = offered.watch ? counts.watchpoints : 0;
  const { stepsWithoutInterrupts, threads, memory, hasVCont } = stub;
  const holdsInterrupts = stepsWithoutInterrupts || canMaskSteps(registers);
  return {
    softwareBreakpoints: offered.software,
    hardwareBreakpoints: breakpoints,
    hardwareWatchpoints: watchpoints,
    stepWithoutInterrupts: holdsInterrupts,
    guestTraps: false,
    facts: new Map([
      ['target', `remote stub ${connection.where}`],
      ['vCPUs', `${threads.length}`],
      [
        'RAM',
        memory.length > 0
          ? memory
              .filter(({ isWritable }) => isWritable)
              .map(({ start, end }) => `${hex(start)}+${hex(end - start)}`)
              .join(', ')
          : 'not told by the stub: memory is what the vCPU itself can access',
      ],
      [
        'steps',
        stepsWithoutInterrupts
          ? 'interrupts are held off'
          : holdsInterrupts
            ? 'interrupts are masked in PSTATE'
            : 'interrupts are not held off: a step may end in a handler',
      ],
      ...(hasVCont || threads.length === 1
        ? []
        : ([['other vCPUs in a step', 'may run: the stub has no vCont']] as const)),
      ...(offered.software ? [] : ([['software breakpoints', 'none in the stub']] as const)),
      ["the guest's own breakpoint instructions", 'not seen: exception filters for them have no effect'],
      ['a debugger that dies', 'leaves the guest and its breakpoints as they are: a stub has no guardian'],
    ]),
  };
}

async function readCounts(registers: RemoteRegisters): Promise<typeof most> {
  if (!registers.has('id_aa64dfr0_el1')) return most;
  try {
    const value = await registers.one(0, 'id_aa64dfr0_el1');
    // A PE has two breakpoints at least; zero is what a stub gives that does not know.
    return value === 0n ? most : debugRegisterCounts(value);
  } catch (error) {
    if (error instanceof TargetError) return most;
    throw error;
  }
}
