// Holds interrupts off in a step where the stub cannot: by the masks in PSTATE, as target/kvm does it.

import { type BeforeStep, finishStep, planStep } from '../../arch/aarch64/step.ts';
import type { Stretch } from '../../arch/aarch64/stretch.ts';
import { Gva } from '../../base/address.ts';
import { TargetError } from '../../base/errors.ts';
import type { StopEvent, Vcpu } from '../target.ts';
import type { RemoteRegisters } from './remoteRegisters.ts';

const stateNames = ['pc', 'pstate', 'spsr_el1', 'elr_el1'] as const;
const resultNames = [...stateNames, 'vbar_el1'] as const;
/** What stubs write; of system registers QEMU's writes none. */
const isWritable = (name: string): boolean => /^(pc|pstate|x\d+)$/.test(name);

type Registers = Pick<RemoteRegisters, 'read' | 'one' | 'write'>;

export const canMaskSteps = (registers: Pick<RemoteRegisters, 'has'>): boolean =>
  resultNames.every((name) => registers.has(name));

/** `run` steps the vCPU over `instruction`, which it stands at, or the stretch of code that begins there. The guest's PSTATE
 *  is its own again afterwards. */
export async function maskedStep(
  registers: Registers,
  vcpu: Vcpu,
  instruction: number,
  stretch: Stretch | undefined,
  run: () => Promise<StopEvent | undefined>,
): Promise<StopEvent | undefined> {
  const before = await stateOf<BeforeStep>(registers, vcpu, stateNames);
  const plan = planStep(instruction, before, stretch);
  if (plan.pstate === before.pstate) return run();
  await registers.write(vcpu, 'pstate', plan.pstate);
  let event: StopEvent | undefined;
  try {
    event = await run();
  } catch (error) {
    // The vCPU has not run; after anything else the connection is of no use.
    if (error instanceof TargetError) await registers.write(vcpu, 'pstate', before.pstate);
    throw error;
  }
  if (event?.kind === 'exited') return event;
  const found = await stateOf<Parameters<typeof finishStep>[1]>(registers, vcpu, resultNames);
  const writes = finishStep(plan, found);
  if ('spsr_el1' in writes && !('pc' in writes)) {
    // It took an exception, and what that saved of PSTATE cannot be written: it takes it once more, unmasked.
    await registers.write(vcpu, 'pc', before.pc);
    await registers.write(vcpu, 'pstate', before.pstate);
    return run();
  }
  for (const [name, value] of Object.entries(writes)) if (isWritable(name)) await registers.write(vcpu, name, value);
  return event?.kind === 'step' ? { ...event, pc: Gva(await registers.one(vcpu, 'pc')) } : event;
}

async function stateOf<State>(registers: Registers, vcpu: Vcpu, names: readonly string[]): Promise<State> {
  return Object.fromEntries(await registers.read(vcpu, names)) as unknown as State;
}
