// Holds interrupts off in a step where the stub cannot: by the masks in PSTATE, as target/kvm does it.

import { type BeforeStep, finishStep, planStep, type StepPlan, type StepResult } from '../../arch/aarch64/step.ts';
import type { Stretch } from '../../arch/aarch64/stretch.ts';
import { Gva } from '../../base/address.ts';
import { SessionError, TargetError } from '../../base/errors.ts';
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
 *  is its own again afterwards, also when that fails; SessionError when it cannot be. */
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
  let event: StopEvent | undefined;
  let isAgain = false;
  try {
    await registers.write(vcpu, 'pstate', plan.pstate);
    event = await run();
  } finally {
    if (event?.kind !== 'exited') isAgain = await unmask(registers, vcpu, plan);
  }
  if (isAgain) return run();
  return event?.kind === 'step' ? { ...event, pc: Gva(await registers.one(vcpu, 'pc')) } : event;
}

/** Whatever the vCPU has done. Returns whether the instruction is to be executed once more, without masks: it took an
 *  exception, and what that saved of PSTATE cannot be written. */
async function unmask(registers: Registers, vcpu: Vcpu, plan: StepPlan): Promise<boolean> {
  const { before } = plan;
  try {
    const found = await stateOf<StepResult>(registers, vcpu, resultNames);
    const finish = finishStep(plan, found);
    const isAgain = 'spsr_el1' in finish && !('pc' in finish);
    const writes = isAgain ? { pc: before.pc, pstate: before.pstate } : finish;
    for (const [name, value] of Object.entries(writes)) {
      if (isWritable(name)) await registers.write(vcpu, name, value);
    }
    return isAgain;
  } catch (cause) {
    if (!(cause instanceof TargetError)) throw cause;
    throw new SessionError(`The interrupt masks of vCPU ${vcpu} could not be restored: ${cause.message}`, { cause });
  }
}

async function stateOf<State>(registers: Registers, vcpu: Vcpu, names: readonly string[]): Promise<State> {
  return Object.fromEntries(await registers.read(vcpu, names)) as unknown as State;
}
