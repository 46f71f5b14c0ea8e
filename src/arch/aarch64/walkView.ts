// The walk of `mmu.ts` with everything that its registers and descriptors say, for views.

import { type Gva, hex } from '../../base/address.ts';
import { TargetError } from '../../base/errors.ts';
import type { RegisterValues } from '../architecture.ts';
import type { PageWalk, ReadPhysical, WalkFault, WalkLevel, WalkRegime, WalkTarget } from '../pageWalk.ts';
import { type AttributeRegisters, attributesOf } from './descriptorAttributes.ts';
import { type Half, halfOf, type Mapping, translationRegisterNames, type WalkResult, walk } from './mmu.ts';
import { exceptionLevel } from './pstate.ts';
import { translationRegime } from './regime.ts';

type Owner = 'el1' | 'el2';

const controls = ['sctlr', 'tcr', 'ttbr0', 'ttbr1'] as const;

/** What `pageWalk` looks at, where the vCPU has it. */
export const walkRegisters: readonly string[] = [
  ...['pstate', 'hcr_el2'],
  ...translationRegisterNames,
  ...['mair_el1', 'mair2_el1'],
  ...[...controls, 'mair'].map((name) => `${name}_el2`),
];

/** TargetError when a register is missing that translation cannot be told without, and at an exception level whose regime is
 *  not known here. Errors of `read` other than MemoryFault pass through. */
export async function pageWalk(values: RegisterValues, read: ReadPhysical, address: Gva): Promise<PageWalk> {
  const pstate = values.get('pstate') ?? 0n;
  const owner = translationRegime(pstate, values.get('hcr_el2') ?? 0n);
  if (owner === undefined) {
    throw new TargetError(
      `The tables of EL${exceptionLevel(pstate)} cannot be walked unless it has a host kernel (HCR_EL2.E2H).`,
    );
  }
  for (const name of controls.map((control) => `${control}_${owner}`)) {
    if (!values.has(name))
      throw new TargetError(`The vCPU does not tell its ${name}, so nothing is known of its tables.`);
  }
  const registers = (owner === 'el1' ? Object.fromEntries(values) : ofHost(values)) as unknown as AttributeRegisters;
  const half = halfOf(registers, address);
  const result = await walk(registers, read, address);
  const isMmuOn = half !== undefined;
  const shape = half !== undefined && 'upper' in half ? half : undefined;
  const regime = shape && regimeOf(shape, owner);
  const levels = shape === undefined ? [] : levelsOf(result, shape, registers);
  const mapping = result.kind === 'mapping' ? result : result.mapping;
  const target = mapping && targetOf(mapping);
  const fault = faultOf(result);
  const walked = { isMmuOn, regime, levels, target, fault };
  return { ...walked, lines: linesOf(address, walked, owner) };
}

/** Of a host kernel at EL2, under the names of EL1's, which are laid out alike. */
const ofHost = (values: RegisterValues): Readonly<Record<string, bigint | undefined>> => ({
  id_aa64mmfr0_el1: values.get('id_aa64mmfr0_el1'),
  ...Object.fromEntries([...controls, 'mair'].map((name) => [`${name}_el1`, values.get(`${name}_el2`)])),
});

const regimeOf = ({ upper, base, granule, inputSize, outputSize }: Half, owner: Owner): WalkRegime => ({
  register: `${upper ? 'ttbr1' : 'ttbr0'}_${owner}`,
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

function linesOf(address: Gva, walked: Omit<PageWalk, 'lines'>, owner: Owner): readonly string[] {
  const { isMmuOn, regime, levels, target, fault } = walked;
  return [
    `${hex(address)}${isMmuOn ? '' : `: the MMU is off (SCTLR_${owner.toUpperCase()}.M is 0)`}`,
    ...(regime === undefined ? [] : [regimeLine(regime)]),
    ...levels.map(levelLine),
    ...(fault === undefined ? [] : [fault.message]),
    target === undefined ? 'No physical address' : targetLine(target, isMmuOn, owner),
  ];
}

const regimeLine = ({ register, value, granule, addressBits, outputBits }: WalkRegime): string =>
  `${register.toUpperCase()} ${hex(value)}: pages of ${granule / 1024} KiB, ${addressBits}-bit virtual and ${outputBits}-bit physical addresses`;

function levelLine({ level, table, index, address, descriptor, kind, output, attributes }: WalkLevel): string {
  const place = `L${level} ${hex(table)}[${index}] at ${hex(address)}: ${hex(descriptor)} ${kind}`;
  const words = attributes.flatMap(({ short }) => (short === '' ? [] : [short]));
  return [output === undefined ? place : `${place} -> ${hex(output)}`, ...words].join(', ');
}

function targetLine({ address, pageSize, remaining, permissions }: WalkTarget, isMmuOn: boolean, owner: Owner): string {
  const physical = `Physical address ${hex(address)}`;
  if (!isMmuOn) return physical;
  const { writable, user, executable, userExecutable } = permissions;
  const one = ['read', ...(writable ? ['write'] : []), ...(executable ? ['execute'] : [])].join(', ');
  const zero = [...(user ? ['access'] : []), ...(userExecutable ? ['execute'] : [])].join(', ') || 'nothing';
  return `${physical}, ${remaining} of ${pageSize} bytes before the end; ${owner.toUpperCase()} may ${one}; EL0 may ${zero}`;
}
