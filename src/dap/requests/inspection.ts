import { basename } from 'node:path';
import type { BitField, RegisterDescription } from '../../arch/architecture.ts';
import { Gva, hex } from '../../base/address.ts';
import { TargetError, UserError } from '../../base/errors.ts';
import { evaluate, evaluateExpression, format, typeName, type Value } from '../../debugger/evaluate.ts';
import { parseExpression } from '../../debugger/expression.ts';
import { frameScope } from '../../debugger/scope.ts';
import type { StopContext } from '../../debugger/stopContext.ts';
import type { Frame } from '../../debugger/unwinder.ts';
import type { Vcpu } from '../../target/target.ts';
import {
  debuggerOf,
  frameOf,
  type Handler,
  type RequestContext,
  stopped,
  type VariableHandle,
  vcpuOf,
} from '../context.ts';
import { listingOf } from './memory.ts';

// Ends that need no explanation.
const ordinaryEnds = new Set(['outermost frame', 'entered from user mode']);

export const stackTrace: Handler = async (args, context) => {
  const current = stopped(context);
  const vcpu = vcpuOf(args, context);
  const first = args.optionalInteger('startFrame', { min: 0 }) ?? 0;
  const levels = args.optionalInteger('levels', { min: 0 }) || Number.MAX_SAFE_INTEGER;
  const stack = current.stack(vcpu);
  // Unwinding is cheap beside its alternatives: a total that is not known makes VS Code ask page by page.
  const frames = await stack.frames(Number.MAX_SAFE_INTEGER);
  const stackFrames = frames.slice(first, first + levels).map((frame) => {
    const last = frame.index === frames.length - 1;
    const note = last && stack.end !== undefined && !ordinaryEnds.has(stack.end) ? ` (stack ends: ${stack.end})` : '';
    return frameBody(frame, note, vcpu, current, context);
  });
  return { stackFrames, totalFrames: frames.length };
};

function frameBody(frame: Frame, note: string, vcpu: Vcpu, current: StopContext, context: RequestContext): object {
  const { paths, symbols } = debuggerOf(context);
  const { features } = context.client;
  const row = symbols?.lineAt(frame.lookup);
  const name = symbols?.at(frame.lookup)?.symbol.name ?? hex(frame.pc);
  const id = context.frames.create(current, { vcpu, frame: frame.index });
  const common = { id, name: `${name}${note}`, instructionPointerReference: hex(frame.pc) };
  if (row && row.line > 0) {
    const path = paths.local(row);
    return {
      ...common,
      source: { name: basename(path), path },
      line: row.line - (features.linesStartAt1 ? 0 : 1),
      column: Math.max(row.column, 1) - (features.columnsStartAt1 ? 0 : 1),
    };
  }
  // VS Code gives no focus to a top frame without a source: its code as text stands in for it.
  const listing = listingOf(frame.pc, context);
  return {
    ...common,
    source: { name: `${symbols?.describe(frame.pc) ?? hex(frame.pc)}`, sourceReference: listing.reference },
    line: listing.line - (features.linesStartAt1 ? 0 : 1),
    column: features.columnsStartAt1 ? 1 : 0,
  };
}

export const scopes: Handler = (args, context) => {
  stopped(context);
  const { context: current, value } = context.frames.get(args.integer('frameId'));
  current.focus = value.vcpu;
  const scope = (name: string, group: 'general' | 'float' | 'system', more: object): object => ({
    name,
    variablesReference: context.variables.create(current, { kind: 'group', ...value, group }),
    ...more,
  });
  const groups = new Set(current.target.registers.map((register) => register.group));
  return {
    scopes: [
      scope('General', 'general', { presentationHint: 'registers', expensive: false }),
      ...(groups.has('float') && value.frame === 0 ? [scope('Floating point', 'float', { expensive: true })] : []),
      ...(groups.has('system') && value.frame === 0 ? [scope('System', 'system', { expensive: true })] : []),
    ],
  };
};

export const variables: Handler = async (args, context) => {
  stopped(context);
  const { context: current, value: handle } = context.variables.get(args.integer('variablesReference'));
  const all = await children(handle, current, context);
  const start = args.optionalInteger('start', { min: 0 }) ?? 0;
  const count = args.optionalInteger('count', { min: 0 }) || all.length;
  return { variables: all.slice(start, start + count) };
};

async function children(handle: VariableHandle, current: StopContext, context: RequestContext): Promise<object[]> {
  const { registers } = current.target;
  const { vcpu, frame } = handle;
  switch (handle.kind) {
    case 'group': {
      if (handle.group === 'system') {
        const topics = new Set(registers.filter(({ group }) => group === 'system').map(topicOf));
        return [...topics].map((topic) => ({
          name: topic,
          value: '',
          variablesReference: context.variables.create(current, { kind: 'topic', vcpu, frame, topic }),
        }));
      }
      const wanted = registers.filter(({ group }) => group === handle.group);
      return registerVariables(wanted, handle, current, context);
    }
    case 'topic': {
      const wanted = registers.filter((register) => register.group === 'system' && topicOf(register) === handle.topic);
      return registerVariables(wanted, handle, current, context);
    }
    case 'fields': {
      const register = registers.find(({ name }) => name === handle.register);
      const { value } = await frameScope(current, vcpu, frame).register(handle.register);
      return (register?.fields ?? []).map((field) => ({
        name: field.name,
        value: fieldText(field, value),
        type: field.high === field.low ? `bit ${field.low}` : `bits ${field.high}:${field.low}`,
        variablesReference: 0,
      }));
    }
  }
}

const topicOf = ({ topic }: RegisterDescription): string => topic ?? 'other';

async function registerVariables(
  wanted: readonly RegisterDescription[],
  { vcpu, frame }: { vcpu: Vcpu; frame: number },
  current: StopContext,
  context: RequestContext,
): Promise<object[]> {
  const known = (await current.frame(vcpu, frame)).registers;
  const missing = frame > 0 ? [] : wanted.filter(({ name }) => !known.has(name)).map(({ name }) => name);
  const read = missing.length > 0 ? await readAll(current, vcpu, missing) : new Map<string, bigint | string>();
  return wanted.map(({ name, bits, fields }) => {
    const value = known.get(name) ?? read.get(name) ?? '<not saved by the called functions>';
    const common = { name, type: `${bits} bits`, evaluateName: `$${name}` };
    if (typeof value === 'string') return { ...common, value, variablesReference: 0 };
    return {
      ...common,
      value: hex(value),
      variablesReference: fields
        ? context.variables.create(current, { kind: 'fields', vcpu, frame, register: name })
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

const fieldMask = ({ high, low }: BitField): bigint => (1n << BigInt(high - low + 1)) - 1n;

function fieldText(field: BitField, register: bigint): string {
  const value = (register >> BigInt(field.low)) & fieldMask(field);
  const name = field.values?.[Number(value)];
  return name === undefined ? hex(value) : `${hex(value)} (${name})`;
}

export const setVariable: Handler = async (args, context) => {
  stopped(context);
  const { context: current, value: handle } = context.variables.get(args.integer('variablesReference'));
  const name = args.string('name');
  const scope = frameScope(current, handle.vcpu, handle.frame);
  const { value } = await evaluate(args.string('value'), scope);
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
  const stored = (await scope.register(register.name)).value;
  changed(context);
  return { value: field ? fieldText(field, stored) : hex(stored), variablesReference: 0 };
};

export const setExpression: Handler = async (args, context) => {
  const frame = frameOf(args, context);
  const target = parseExpression(args.string('expression'));
  const value = parseExpression(args.string('value'));
  const result = await evaluateExpression(
    { kind: 'assign', target, value },
    frameScope(frame.context, frame.vcpu, frame.frame),
  );
  changed(context);
  return { value: text(result, context) };
};

export const evaluateRequest: Handler = async (args, context) => {
  const frame = frameOf(args, context);
  const expression = parseExpression(args.string('expression'));
  // Looking must not change anything: only what the user typed to be carried out may assign.
  const purpose = args.optionalString('context');
  if (expression.kind === 'assign' && (purpose === 'hover' || purpose === 'watch')) {
    throw new UserError('Assignments are carried out in the debug console only.');
  }
  const value = await evaluateExpression(expression, frameScope(frame.context, frame.vcpu, frame.frame));
  if (expression.kind === 'assign') changed(context);
  const register = value.place?.kind === 'register' ? value.place.name : undefined;
  const fields = frame.context.target.registers.find(({ name }) => name === register)?.fields;
  const address = value.place?.kind === 'memory' ? value.place.address : value.value;
  return {
    result: text(value, context),
    type: typeName(value.type),
    variablesReference:
      register !== undefined && fields
        ? context.variables.create(frame.context, { kind: 'fields', vcpu: frame.vcpu, frame: frame.frame, register })
        : 0,
    ...(address >= 0n && address < 1n << 64n ? { memoryReference: hex(Gva(address)) } : {}),
  };
};

function text(value: Value, context: RequestContext): string {
  return format(value, (address) => debuggerOf(context).symbols?.describe(address));
}

/** The client's views show what may have changed with a register or memory. */
function changed({ client }: RequestContext): void {
  if (client.features.invalidatedEvent) client.event('invalidated', { areas: ['stacks', 'variables'] });
}
