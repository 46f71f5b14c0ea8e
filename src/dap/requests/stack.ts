import { basename } from 'node:path';
import { hex } from '../../base/address.ts';
import { type FramePosition, FrameScope } from '../../debugger/scope.ts';
import type { StopContext } from '../../debugger/stopContext.ts';
import type { KernelSymbols } from '../../debugger/symbols.ts';
import type { Frame } from '../../debugger/unwinder.ts';
import type { SourceLocation } from '../../symbols/image.ts';
import type { Vcpu } from '../../target/target.ts';
import { debuggerOf, type Handler, type RequestContext, stopped, vcpuOf } from '../context.ts';
import { listingOf } from '../listings.ts';
import { shownFile } from '../sourceFiles.ts';

// Ends that need no explanation.
const ordinaryEnds = new Set(['outermost frame', 'entered from user mode']);

/** A frame as it is shown: of a function, or of one inlined into it. */
interface ShownFrame {
  readonly frame: Frame;
  readonly inline: number;
}

export const stackTrace: Handler = async (args, context) => {
  const current = stopped(context);
  const vcpu = vcpuOf(args, context);
  const first = args.optionalInteger('startFrame', { min: 0 }) ?? 0;
  const levels = args.optionalInteger('levels', { min: 0 }) || Number.MAX_SAFE_INTEGER;
  const stack = current.stack(vcpu);
  // Unwinding is cheap beside its alternatives: a total that is not known makes VS Code ask page by page.
  const frames = await stack.frames(Number.MAX_SAFE_INTEGER);
  const { symbols } = debuggerOf(context);
  const innermost = await current.innermost(vcpu);
  const shown: readonly ShownFrame[] = frames
    .flatMap((frame) =>
      Array.from({ length: symbols?.inlinesAt(frame.lookup).length || 1 }, (_, inline) => ({ frame, inline })),
    )
    .slice(innermost);
  const stackFrames = shown.slice(first, first + levels).map((each, index) => {
    const last = first + index === shown.length - 1;
    const note = last && stack.end !== undefined && !ordinaryEnds.has(stack.end) ? ` (stack ends: ${stack.end})` : '';
    return frameBody(each, note, vcpu, current, context);
  });
  return { stackFrames, totalFrames: shown.length };
};

/** What function a frame is of, and where it is in it. */
function describeFrame(
  { frame, inline }: ShownFrame,
  symbols: KernelSymbols | undefined,
): { readonly name: string; readonly place: SourceLocation | undefined } {
  const chain = symbols?.inlinesAt(frame.lookup) ?? [];
  const own = chain[inline];
  const name = own?.kind === 'inlined' ? own.name : (symbols?.at(frame.lookup)?.symbol.name ?? hex(frame.pc));
  const here = symbols?.lineAt(frame.lookup);
  if (inline === 0) return { name, place: here };
  // Each but the innermost is at the call of the one it contains, or is about to contain.
  const call = chain[inline - 1]?.call;
  return { name, place: call && { ...call, directory: here?.directory ?? '' } };
}

function frameBody(shown: ShownFrame, note: string, vcpu: Vcpu, current: StopContext, context: RequestContext): object {
  const { paths, symbols } = debuggerOf(context);
  const { features } = context.client;
  const { frame, inline } = shown;
  const { name, place } = describeFrame(shown, symbols);
  const id = context.frames.create(current, { vcpu, frame: frame.index, inline });
  const common = { id, name: `${name}${note}`, instructionPointerReference: hex(frame.pc) };
  const path = place && place.line > 0 ? shownFile(place, context) : undefined;
  if (place && path !== undefined) {
    return {
      ...common,
      source: { name: basename(path), path },
      line: place.line - (features.linesStartAt1 ? 0 : 1),
      column: Math.max(place.column, 1) - (features.columnsStartAt1 ? 0 : 1),
    };
  }
  // VS Code gives no focus to a top frame without a source, and an error page to one whose file is not there: its code as text
  // stands in for it.
  const listing = listingOf(frame.lookup, context);
  const origin = place && place.line > 0 ? { origin: `${paths.local(place)}:${place.line}, which is not here` } : {};
  return {
    ...common,
    source: {
      // The same wherever in the function: VS Code opens an editor for each name.
      name: `${listing.name} (disassembly)`,
      sourceReference: listing.reference,
      ...origin,
    },
    line: listing.line - (features.linesStartAt1 ? 0 : 1),
    column: features.columnsStartAt1 ? 1 : 0,
  };
}

export const scopes: Handler = async (args, context) => {
  stopped(context);
  const { context: current, value } = context.frames.get(args.integer('frameId'));
  current.focus = value.vcpu;
  const registers = (name: string, group: 'general' | 'float' | 'system', more: object): object => ({
    name,
    variablesReference: context.variables.create(current, { kind: 'group', ...value, group }),
    ...more,
  });
  const groups = new Set(current.target.registers.map((register) => register.group));
  return {
    scopes: [
      ...(await variableScopes(value, current, context)),
      registers('General', 'general', { presentationHint: 'registers', expensive: false }),
      ...(groups.has('float') && value.frame === 0 ? [registers('Floating point', 'float', { expensive: true })] : []),
      ...(groups.has('system') && value.frame === 0 ? [registers('System', 'system', { expensive: true })] : []),
    ],
  };
};

/** A scope for each kind of variable that the function has. */
async function variableScopes(
  position: FramePosition,
  current: StopContext,
  context: RequestContext,
): Promise<readonly object[]> {
  const { variables } = await FrameScope.of(current, position);
  const scope = (name: string, which: 'argument' | 'local' | 'static' | 'file', more: object): object => ({
    name,
    variablesReference: context.variables.create(current, { kind: 'variables', ...position, which }),
    ...more,
  });
  const has = (kind: 'argument' | 'local' | 'static'): boolean => variables.some((each) => each.kind === kind);
  const file = debuggerOf(context).symbols?.lineAt((await current.frame(position.vcpu, position.frame)).lookup);
  return [
    ...(has('argument') ? [scope('Arguments', 'argument', { presentationHint: 'arguments', expensive: false })] : []),
    ...(has('local') ? [scope('Locals', 'local', { presentationHint: 'locals', expensive: false })] : []),
    ...(has('static') ? [scope('Statics', 'static', { expensive: false })] : []),
    ...(variables.length > 0 && file
      ? [scope(`Variables of ${basename(file.file)}`, 'file', { expensive: true })]
      : []),
  ];
}
