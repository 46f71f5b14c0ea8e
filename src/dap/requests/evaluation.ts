import { UserError } from '../../base/errors.ts';
import { evaluateExpression, type Result } from '../../debugger/evaluate.ts';
import { parseInput } from '../../debugger/expression/parser.ts';
import { assigns } from '../../debugger/expression/syntax.ts';
import { type Appearance, requireFormat, resultText } from '../../debugger/presentation.ts';
import { registerRadix } from '../../debugger/registerText.ts';
import { type FramePosition, FrameScope } from '../../debugger/scope.ts';
import type { StopContext } from '../../debugger/stopContext.ts';
import { changed, frameOf, type Handler, type RequestContext } from '../context.ts';
import { radixOf } from './numberFormat.ts';
import { valueBody } from './variables.ts';

export const evaluateRequest: Handler = async (args, context) => {
  const frame = await frameOf(args, context);
  const scope = await FrameScope.of(frame.context, frame);
  const text = args.string('expression');
  const input = parseInput(text, (name) => scope.isType(name));
  const appearance = { format: requireFormat(input.format), radix: radixOf(args, context) };
  // Looking must not change anything: only what the user typed to be carried out may assign.
  const purpose = args.optionalString('context');
  const isWriting = assigns(input.expression);
  if (isWriting && (purpose === 'hover' || purpose === 'watch')) {
    throw new UserError('Assignments are carried out in the debug console only.');
  }
  const result = await evaluateExpression(input.expression, scope);
  if (isWriting) changed(context);
  const expression = input.format === undefined ? text.trim() : text.slice(0, text.lastIndexOf(',')).trim();
  return resultBody(result, expression, appearance, frame, frame.context, context);
};

async function resultBody(
  result: Result,
  expression: string,
  { format, radix }: Appearance,
  position: FramePosition,
  current: StopContext,
  context: RequestContext,
): Promise<object> {
  const scope = await FrameScope.of(current, position);
  const body = await valueBody(result.value, expression, { format, radix }, position, scope, current, context);
  const { value: _, evaluateName: __, ...rest } = body as { value: string; evaluateName: string };
  const register = result.register?.name;
  const description = current.target.registers.find(({ name }) => name === register);
  const fields = description?.fields;
  const { vcpu, frame, inline } = position;
  const own = description === undefined ? radix : registerRadix(description, current.target.architecture, radix);
  return {
    result: await resultText(result, scope, { format, radix: own }),
    ...rest,
    ...(register !== undefined && fields
      ? { variablesReference: context.variables.create(current, { kind: 'fields', vcpu, frame, inline, register }) }
      : {}),
  };
}

export const setExpression: Handler = async (args, context) => {
  const frame = await frameOf(args, context);
  const scope = await FrameScope.of(frame.context, frame);
  const isType = (name: string): boolean => scope.isType(name);
  const target = parseInput(args.string('expression'), isType);
  const { expression: value } = parseInput(args.string('value'), isType);
  const assignment = { kind: 'assign', target: target.expression, value, operator: undefined } as const;
  const result = await evaluateExpression(assignment, scope);
  changed(context);
  const appearance = { format: requireFormat(target.format), radix: radixOf(args, context) };
  return { value: await resultText(result, await FrameScope.of(frame.context, frame), appearance) };
};
