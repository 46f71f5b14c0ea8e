import type { DebugProtocol } from '@vscode/debugprotocol';
import { type Completion, complete } from '../../debugger/completion.ts';
import { FrameScope } from '../../debugger/scope.ts';
import { type Body, debuggerOf, frameOf, type Handler } from '../context.ts';

const types = {
  register: 'value',
  argument: 'variable',
  variable: 'variable',
  member: 'field',
  function: 'function',
  symbol: 'reference',
} as const satisfies Record<Completion['kind'], DebugProtocol.CompletionItemType>;

/** While the guest runs there is nothing to complete, which is no mistake: the client asks at every key. */
export const completions: Handler = async (args, context) => {
  const { features } = context.client;
  const lines = args.string('text').split('\n');
  const line = args.optionalInteger('line', { min: 0 });
  const text = lines[line === undefined ? 0 : line - (features.linesStartAt1 ? 1 : 0)] ?? '';
  const typed = text.slice(0, args.integer('column', { min: 0 }) - (features.columnsStartAt1 ? 1 : 0));
  if (debuggerOf(context).state !== 'stopped') return { targets: [] };
  const frame = await frameOf(args, context);
  const { choices, replaced } = await complete(typed, await FrameScope.of(frame.context, frame));
  return {
    targets: choices.map(({ name, kind, detail }) => ({
      label: name,
      type: types[kind],
      ...(detail === undefined ? {} : { detail }),
      start: typed.length - replaced,
      length: replaced,
    })),
  } satisfies Body<DebugProtocol.CompletionsResponse>;
};
