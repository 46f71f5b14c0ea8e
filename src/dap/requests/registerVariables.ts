// Registers in the Variables view: groups, topics of system registers, and the fields of a register.
import type { RegisterDescription } from '../../arch/architecture.ts';
import { hex } from '../../base/address.ts';
import { UserError } from '../../base/errors.ts';
import { readEach } from '../../debugger/registerReading.ts';
import { fieldMask, fieldText, registerRadix, registerText } from '../../debugger/registerText.ts';
import { FrameScope } from '../../debugger/scope.ts';
import type { StopContext } from '../../debugger/stopContext.ts';
import type { Radix } from '../../symbols/format.ts';
import { debuggerOf, type RegisterHandle, type RequestContext } from '../context.ts';

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
        debuggerOf(context).registerHistory.watch(current, vcpu);
        const topics = new Set(registers.filter(({ group }) => group === 'system').map(topicOf));
        const position = { vcpu, frame, inline };
        return [
          {
            name: 'Changed since the last stop',
            value: '',
            variablesReference: context.variables.create(current, { kind: 'changes', ...position }),
          },
          ...[...topics].map((topic) => ({
            name: topic,
            value: '',
            variablesReference: context.variables.create(current, { kind: 'topic', ...position, topic }),
          })),
        ];
      }
      const wanted = registers.filter(({ group }) => group === handle.group);
      return registerVariables(wanted, handle, current, context, radix);
    }
    case 'changes':
      return changedRegisters(handle, current, context);
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

async function changedRegisters(
  { vcpu, frame, inline }: RegisterHandle,
  current: StopContext,
  context: RequestContext,
): Promise<object[]> {
  const changes = await debuggerOf(context).registerHistory.changes(current, vcpu);
  const note = (name: string, value: string): object => ({
    name,
    value,
    variablesReference: 0,
    presentationHint: { attributes: ['readOnly'] },
  });
  if (changes === undefined) {
    return [note('unknown', `<no earlier reading: nobody looked at the system registers of vCPU ${vcpu} before>`)];
  }
  if (changes.length === 0) return [note('none', '<no system register has changed>')];
  return changes.map(({ register: { name, bits, fields }, before, now }) => ({
    name,
    value: `${hex(before)} -> ${hex(now)}`,
    type: `${bits} bits`,
    evaluateName: `$${name}`,
    variablesReference: fields
      ? context.variables.create(current, { kind: 'fields', vcpu, frame, inline, register: name })
      : 0,
    presentationHint: { attributes: ['readOnly'] },
  }));
}

async function registerVariables(
  wanted: readonly RegisterDescription[],
  { vcpu, frame, inline }: RegisterHandle,
  current: StopContext,
  context: RequestContext,
  radix: Radix | undefined,
): Promise<object[]> {
  const known = (await current.frame(vcpu, frame)).registers;
  const missing = frame > 0 ? [] : wanted.filter(({ name }) => !known.has(name)).map(({ name }) => name);
  const read = await readEach((names) => current.readRegisters(vcpu, names), missing);
  return wanted.map((register) => {
    const { name, bits, fields } = register;
    const value = known.get(name) ?? read.get(name) ?? '<not saved by the called functions>';
    const common = { name, type: `${bits} bits`, evaluateName: `$${name}` };
    if (typeof value !== 'bigint') {
      return { ...common, value: typeof value === 'string' ? value : `<${value.message}>`, variablesReference: 0 };
    }
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
