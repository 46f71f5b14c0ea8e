import { hex } from '../../base/address.ts';
import { UserError } from '../../base/errors.ts';
import { assign, evaluate, numberOf } from '../../debugger/evaluate.ts';
import { parseExpression } from '../../debugger/expression/parser.ts';
import { type Appearance, memoryReference, parts, unfolding, valueText } from '../../debugger/presentation.ts';
import { type FramePosition, FrameScope } from '../../debugger/scope.ts';
import type { StopContext } from '../../debugger/stopContext.ts';
import { declaration } from '../../symbols/types.ts';
import { isScalar, type Value } from '../../symbols/value.ts';
import {
  changed,
  type Handler,
  isRegisterHandle,
  type RequestContext,
  stopped,
  type VariableHandle,
} from '../context.ts';
import { radixOf } from './numberFormat.ts';
import { registerChildren, setRegister } from './registerVariables.ts';

/** Something with a name in the Variables view. */
interface Item {
  readonly name: string;
  readonly value: Value;
  readonly expression: string;
}

export const variables: Handler = async (args, context) => {
  stopped(context);
  const { context: current, value: handle } = context.variables.get(args.integer('variablesReference'));
  const start = args.optionalInteger('start', { min: 0 }) ?? 0;
  const count = args.optionalInteger('count', { min: 0 }) || Number.MAX_SAFE_INTEGER;
  const radix = radixOf(args, context);
  if (isRegisterHandle(handle)) {
    const all = await registerChildren(handle, current, context, radix);
    return { variables: all.slice(start, start + count) };
  }
  const scope = await FrameScope.of(current, handle);
  const format = handle.kind === 'value' ? handle.format : undefined;
  const list: object[] = [];
  for (const item of await items(handle, scope, start, count)) {
    const body = await valueBody(item.value, item.expression, { format, radix }, handle, scope, current, context);
    list.push({ name: item.name, ...body });
  }
  return { variables: list };
};

type ItemHandle = Extract<VariableHandle, { kind: 'variables' | 'value' }>;

/** A client that pages nothing is not sent more. */
const mostItems = 10_000;

async function items(handle: ItemHandle, scope: FrameScope, start: number, count: number): Promise<readonly Item[]> {
  if (handle.kind === 'value') {
    return parts(handle.value, handle.expression, scope, start, Math.min(count, mostItems));
  }
  const { which } = handle;
  const all = which === 'file' ? scope.fileVariables : scope.variables.filter(({ kind }) => kind === which);
  const shown: Item[] = [];
  for (const variable of all.slice(start, start + Math.min(count, mostItems))) {
    shown.push({ name: variable.name, value: await scope.valueOf(variable), expression: variable.name });
  }
  return shown;
}

/** What is shown by that name; UserError when nothing is. */
export async function itemNamed(handle: ItemHandle, name: string, scope: FrameScope): Promise<Item> {
  const item = (await items(handle, scope, 0, mostItems)).find((each) => each.name === name);
  if (item === undefined) throw new UserError(`There is no \`${name}\` here.`);
  return item;
}

/** What the protocol wants of a value, but for its name. */
export async function valueBody(
  value: Value,
  expression: string,
  appearance: Appearance,
  position: FramePosition,
  scope: FrameScope,
  current: StopContext,
  context: RequestContext,
): Promise<object> {
  const { vcpu, frame, inline } = position;
  const { format } = appearance;
  const inner = unfolding(value);
  const reference = await memoryReference(value, scope);
  return {
    value: await valueText(value, scope, appearance),
    type: declaration(value.type),
    evaluateName: expression,
    variablesReference:
      inner === undefined
        ? 0
        : context.variables.create(current, { kind: 'value', vcpu, frame, inline, value, expression, format }),
    ...(inner !== undefined && inner.indexed > 0 ? { indexedVariables: inner.indexed } : {}),
    ...(reference === undefined || reference < 0n ? {} : { memoryReference: hex(reference) }),
    ...(isScalar(value.type) ? {} : { presentationHint: { attributes: ['readOnly'] } }),
  };
}

export const setVariable: Handler = async (args, context) => {
  stopped(context);
  const { context: current, value: handle } = context.variables.get(args.integer('variablesReference'));
  const name = args.string('name');
  const scope = await FrameScope.of(current, handle);
  const number = await numberOf(
    parseExpression(args.string('value'), (each) => scope.isType(each)),
    scope,
  );
  const radix = radixOf(args, context);
  if (isRegisterHandle(handle)) {
    const text = await setRegister(handle, name, number, current, radix);
    changed(context);
    return { value: text, variablesReference: 0 };
  }
  const item = await itemNamed(handle, name, scope);
  await assign({ value: item.value }, number, scope);
  changed(context);
  const { value } = await evaluate(item.expression, await FrameScope.of(current, handle));
  const now = await FrameScope.of(current, handle);
  return valueBody(value, item.expression, { radix }, handle, now, current, context);
};
