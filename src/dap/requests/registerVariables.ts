// Registers in the Variables view: groups, topics of system registers, and the fields of a register.
import type { RegisterDescription } from '../../arch/architecture.ts';
import { hex } from '../../base/address.ts';
import { TargetError, UserError } from '../../base/errors.ts';
import { fieldMask, fieldText, registerRadix, registerText } from '../../debugger/registerText.ts';
import { FrameScope } from '../../debugger/scope.ts';
import type { StopContext } from '../../debugger/stopContext.ts';
import type { Radix } from '../../symbols/format.ts';
import type { Vcpu } from '../../target/target.ts';
import type { RegisterHandle, RequestContext } from '../context.ts';

export async function registerChildren(
  handle: RegisterHandle,
  current: StopContext,
  context: RequestContext,
  radix: Radix | undefined,
): Promise<object[]> {
  const { registers } = current.target;
  const { vcpu, frame, inline } = handle;
  switch (handle.kind) {
    case 'group': {
      if (handle.group === 'system') {
        const topics = new Set(registers.filter(({ group }) => group === 'system').map(topicOf));
        return [...topics].map((topic) => ({
          name: topic,
          value: '',
          variablesReference: context.variables.create(current, { kind: 'topic', vcpu, frame, inline, topic }),
        }));
      }
      const wanted = registers.filter(({ group }) => group === handle.group);
      return registerVariables(wanted, handle, current, context, radix);
    }
    case 'topic': {
      const wanted = registers.filter((register) => register.group === 'system' && topicOf(register) === handle.topic);
      return registerVariables(wanted, handle, current, context, radix);
    }
    case 'fields': {
      const register = registers.find(({ name }) => name === handle.register);
      const { value } = await (await FrameScope.of(current, handle)).register(handle.register);
      return (register?.fields ?? []).map((field) => ({
        name: field.name,
        value: fieldText(field, value, radix),
        type: field.high === field.low ? `bit ${field.low}` : `bits ${field.high}:${field.low}`,
        variablesReference: 0,
      }));
    }
  }
}

const topicOf = ({ topic }: RegisterDescription): string => topic ?? 'other';

async function registerVariables(
  wanted: readonly RegisterDescription[],
  { vcpu, frame, inline }: RegisterHandle,
  current: StopContext,
  context: RequestContext,
  radix: Radix | undefined,
): Promise<object[]> {
  const known = (await current.frame(vcpu, frame)).registers;
  const missing = frame > 0 ? [] : wanted.filter(({ name }) => !known.has(name)).map(({ name }) => name);
  const read = missing.length > 0 ? await readAll(current, vcpu, missing) : new Map<string, bigint | string>();
  return wanted.map((register) => {
    const { name, bits, fields } = register;
    const value = known.get(name) ?? read.get(name) ?? '<not saved by the called functions>';
    const common = { name, type: `${bits} bits`, evaluateName: `$${name}` };
    if (typeof value === 'string') return { ...common, value, variablesReference: 0 };
    return {
      ...common,
      value: registerText(value, registerRadix(register, current.target.architecture, radix)),
      variablesReference: fields
        ? context.variables.create(current, { kind: 'fields', vcpu, frame, inline, register: name })
        : 0,
      ...(bits === 64 ? { memoryReference: hex(value) } : {}),
    };
  });
}

// In one batch; one by one when the vCPU refuses a register, so that the others are still shown.
async function readAll(
  current: StopContext,
  vcpu: Vcpu,
  names: readonly string[],
): Promise<ReadonlyMap<string, bigint | string>> {
  try {
    return await current.readRegisters(vcpu, names);
  } catch (error) {
    if (!(error instanceof TargetError)) throw error;
  }
  const values = new Map<string, bigint | string>();
  for (const name of names) {
    try {
      values.set(name, (await current.readRegisters(vcpu, [name])).get(name) ?? '<not available>');
    } catch (error) {
      if (!(error instanceof TargetError)) throw error;
      values.set(name, `<${error.message}>`);
    }
  }
  return values;
}

/** Writes a register, or a field of one; returns its new text. UserError when the value does not fit. */
export async function setRegister(
  handle: RegisterHandle,
  name: string,
  value: bigint,
  current: StopContext,
  radix: Radix | undefined,
): Promise<string> {
  const scope = await FrameScope.of(current, handle);
  const register = current.target.registers.find(
    (each) => each.name === (handle.kind === 'fields' ? handle.register : name),
  );
  if (!register) throw new UserError(`\`${name}\` is no register that can be changed.`);
  const field = handle.kind === 'fields' ? register.fields?.find((each) => each.name === name) : undefined;
  if (handle.kind === 'fields' && !field) throw new UserError(`${register.name} has no field \`${name}\`.`);
  const bits = field ? field.high - field.low + 1 : register.bits;
  // A negative number means its two's complement; anything wider would be cut silently.
  if (value >= 1n << BigInt(bits) || value < -(1n << BigInt(bits - 1))) {
    throw new UserError(`${hex(value)} is too wide for ${name}, which has ${bits} bits.`);
  }
  const wanted = BigInt.asUintN(bits, value);
  let whole = wanted;
  if (field) {
    const old = (await scope.register(register.name)).value;
    whole = (old & ~(fieldMask(field) << BigInt(field.low))) | (wanted << BigInt(field.low));
  }
  await scope.writeRegister(register.name, whole);
  const stored = (await (await FrameScope.of(current, handle)).register(register.name)).value;
  if (field) return fieldText(field, stored, radix);
  return registerText(stored, registerRadix(register, current.target.architecture, radix));
}
