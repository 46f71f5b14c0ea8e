// The walk of `mmu.ts` with everything that its registers and descriptors say, for views.

import { type Gva, hex } from '../../base/address.ts';
import { TargetError } from '../../base/errors.ts';
import type { RegisterValues } from '../architecture.ts';
import type { PageWalk, ReadPhysical, WalkFault, WalkLevel, WalkRegime, WalkTarget } from '../pageWalk.ts';
import { type AttributeRegisters, attributesOf } from './descriptorAttributes.ts';
import { type Half, halfOf, type Mapping, translationRegisterNames, type WalkResult, walk } from './mmu.ts';

/** What `pageWalk` looks at; those from the fifth on may be missing. */
export const walkRegisters = [...translationRegisterNames, 'mair_el1', 'mair2_el1'] as const;
const indispensable = walkRegisters.slice(0, 4);

/** TargetError when a register is missing that translation cannot be told without. Errors of `read` other than MemoryFault
 *  pass through. */
export async function pageWalk(values: RegisterValues, read: ReadPhysical, address: Gva): Promise<PageWalk> {
  for (const name of indispensable) {
    if (!values.has(name))
      throw new TargetError(`The vCPU does not tell its ${name}, so nothing is known of its tables.`);
  }
  const registers = Object.fromEntries(values) as unknown as AttributeRegisters;
  const half = halfOf(registers, address);
  const result = await walk(registers, read, address);
  const isMmuOn = half !== undefined;
  const shape = half !== undefined && 'upper' in half ? half : undefined;
  const regime = shape && regimeOf(shape);
  const levels = shape === undefined ? [] : levelsOf(result, shape, registers);
  const mapping = result.kind === 'mapping' ? result : result.mapping;
  const target = mapping && targetOf(mapping);
  const fault = faultOf(result);
  const walked = { isMmuOn, regime, levels, target, fault };
  return { ...walked, lines: linesOf(address, walked) };
}

const regimeOf = ({ upper, base, granule, inputSize, outputSize }: Half): WalkRegime => ({
  register: upper ? 'ttbr1_el1' : 'ttbr0_el1',
  value: base,
  granule: 2 ** granule,
  addressBits: inputSize,
  outputBits: outputSize,
});

const levelsOf = ({ steps }: WalkResult, half: Half, registers: AttributeRegisters): readonly WalkLevel[] =>
  steps.map((step) => ({
    ...step,
    index: Number(step.address - step.table) / 8,
    attributes: attributesOf(step, half, registers),
  }));

const targetOf = ({ address, pageSize, remaining, ...mapping }: Mapping): WalkTarget => ({
  address,
  pageSize,
  remaining,
  permissions: {
    writable: mapping.writable,
    user: mapping.user,
    executable: mapping.executable,
    userExecutable: mapping.userExecutable,
  },
});

function faultOf(result: WalkResult): WalkFault | undefined {
  if (result.kind === 'mapping') return undefined;
  const { fault, level, message, why, steps } = result;
  const last = steps.at(-1);
  const reason = why ?? (last?.kind === 'invalid' ? whyInvalid(last.descriptor, last.level) : undefined);
  return { kind: fault, level, message: reason === undefined ? message : `${message}: ${reason}` };
}

/** D8.3: a descriptor that is valid in bit 0 is invalid where its level has no blocks. */
const whyInvalid = (descriptor: bigint, level: number): string =>
  (descriptor & 1n) === 0n ? 'bit 0 of the descriptor is 0' : `there are no blocks at level ${level}`;

function linesOf(address: Gva, walked: Omit<PageWalk, 'lines'>): readonly string[] {
  const { isMmuOn, regime, levels, target, fault } = walked;
  return [
    `${hex(address)}${isMmuOn ? '' : ': the MMU is off (SCTLR_EL1.M is 0)'}`,
    ...(regime === undefined ? [] : [regimeLine(regime)]),
    ...levels.map(levelLine),
    ...(fault === undefined ? [] : [fault.message]),
    target === undefined ? 'No physical address' : targetLine(target, isMmuOn),
  ];
}

const regimeLine = ({ register, value, granule, addressBits, outputBits }: WalkRegime): string =>
  `${register.toUpperCase()} ${hex(value)}: pages of ${granule / 1024} KiB, ${addressBits}-bit virtual and ${outputBits}-bit physical addresses`;

function levelLine({ level, table, index, address, descriptor, kind, output, attributes }: WalkLevel): string {
  const place = `L${level} ${hex(table)}[${index}] at ${hex(address)}: ${hex(descriptor)} ${kind}`;
  const words = attributes.flatMap(({ short }) => (short === '' ? [] : [short]));
  return [output === undefined ? place : `${place} -> ${hex(output)}`, ...words].join(', ');
}

function targetLine({ address, pageSize, remaining, permissions }: WalkTarget, isMmuOn: boolean): string {
  const physical = `Physical address ${hex(address)}`;
  if (!isMmuOn) return physical;
  const { writable, user, executable, userExecutable } = permissions;
  const one = ['read', ...(writable ? ['write'] : []), ...(executable ? ['execute'] : [])].join(', ');
  const zero = [...(user ? ['access'] : []), ...(userExecutable ? ['execute'] : [])].join(', ') || 'nothing';
  return `${physical}, ${remaining} of ${pageSize} bytes before the end; EL1 may ${one}; EL0 may ${zero}`;
}
