import type { DebugProtocol } from '@vscode/debugprotocol';
import type { Gva } from '../base/address.ts';
import { UserError } from '../base/errors.ts';
import type { Debugger } from '../debugger/debugger.ts';
import type { FramePosition } from '../debugger/scope.ts';
import type { StopContext } from '../debugger/stopContext.ts';
import type { SymbolSource } from '../debugger/symbols.ts';
import type { Radix, ValueFormat } from '../symbols/format.ts';
import type { SymbolFile } from '../symbols/image.ts';
import type { Value } from '../symbols/value.ts';
import type { Connector } from '../target/connection.ts';
import type { Vcpu } from '../target/target.ts';
import type { Fields } from './fields.ts';
import type { Guest } from './guest.ts';
import type { Handles } from './handles.ts';

/** What sessions are given by the program. */
export interface Services {
  readonly connector: Connector;
  /** UserError when the file is no symbol file. `warn` is told what the user should know though all works. */
  openSymbols(path: string, warn: (text: string) => void): SessionSymbols;
  /** Path of the console relay program. */
  readonly consoleProgram: string;
  /** For what the user is not shown: bugs with their stacks. */
  log(text: string): void;
}

/** The symbols of a session, which closes them. */
export interface SessionSymbols extends SymbolSource, Pick<SymbolFile, 'indexNames' | 'close'> {}

/** What the client said of itself, and the ways to speak to it outside of a response. */
export interface Client {
  readonly features: ClientFeatures;
  event(name: string, body?: object): void;
  /** A reverse request; rejects with what the client answers, or when it does not answer in time. */
  request(command: string, args: object, timeoutMs: number): Promise<unknown>;
}

export interface ClientFeatures {
  linesStartAt1: boolean;
  columnsStartAt1: boolean;
  runInTerminal: boolean;
  invalidatedEvent: boolean;
  progressReporting: boolean;
  /** Undefined: integers in decimal, registers in hexadecimal. */
  radix: Radix | undefined;
}

/** What ids of variables stand for. */
export type VariableHandle = FramePosition &
  (
    | { readonly kind: 'group'; readonly group: 'general' | 'float' | 'system' }
    | { readonly kind: 'changes' }
    | { readonly kind: 'topic'; readonly topic: string }
    | { readonly kind: 'fields'; readonly register: string }
    | { readonly kind: 'variables'; readonly which: 'argument' | 'local' | 'static' | 'file' }
    /** Parts of a value; `expression` is what means it. */
    | {
        readonly kind: 'value';
        readonly value: Value;
        readonly expression: string;
        readonly format: ValueFormat | undefined;
      }
  );

export type RegisterHandle = Extract<VariableHandle, { kind: 'group' | 'changes' | 'topic' | 'fields' }>;
export const isRegisterHandle = (handle: VariableHandle): handle is RegisterHandle =>
  handle.kind !== 'variables' && handle.kind !== 'value';
export type FrameHandle = FramePosition;

/** What a handler may use. One for each request. */
export interface RequestContext {
  readonly services: Services;
  readonly client: Client;
  /** Aborted when the request is cancelled or the session ends. */
  readonly signal: AbortSignal;
  readonly frames: Handles<FrameHandle>;
  readonly variables: Handles<VariableHandle>;
  /** Places to jump to, and functions to step into. */
  readonly places: Handles<Gva>;
  /** The guest of this session; undefined before launch or attach. */
  guest: Guest | undefined;
  /** Runs once the response is sent: for what makes events that must come behind it. */
  afterResponse(action: () => void): void;
  cancel(requestId: number): void;
  /** Cancels the request itself. */
  abandon(): void;
  /** Ends everything else that is under way, then lets go of the guest. The connection closes after the response. */
  endSession(terminateDebuggee: boolean | undefined): Promise<void>;
}

export type Handler = (args: Fields, context: RequestContext) => Promise<object | undefined> | object | undefined;

/** UserError before launch or attach. */
export function guestOf({ guest }: RequestContext): Guest {
  if (!guest) throw new UserError('There is no guest yet; send a launch or attach request first.');
  return guest;
}

/** UserError before launch or attach. */
export const debuggerOf = (context: RequestContext): Debugger => guestOf(context).debugger;

/** The current stop; UserError while the guest runs. */
export const stopped = (context: RequestContext): StopContext => debuggerOf(context).stopped();

// Thread ids are vCPU indices plus one: 0 is no thread for some clients.
export const threadId = (vcpu: Vcpu): number => vcpu + 1;

export function vcpuOf(args: Fields, context: RequestContext): Vcpu {
  const id = args.integer('threadId');
  const { vcpus } = debuggerOf(context).target;
  const vcpu = vcpus.find((candidate) => threadId(candidate) === id);
  if (vcpu === undefined) {
    throw new UserError(
      `${args.where}: there is no thread ${id}; the guest has ${vcpus.length} vCPUs, threads 1 and up.`,
    );
  }
  return vcpu;
}

/** The frame that `frameId` names, or the innermost one of the vCPU in focus. */
export async function frameOf(
  args: Fields,
  context: RequestContext,
): Promise<FramePosition & { readonly context: StopContext }> {
  const current = stopped(context);
  const id = args.optionalInteger('frameId');
  if (id === undefined) {
    const vcpu = current.focus;
    return { context: current, vcpu, frame: 0, inline: await current.innermost(vcpu) };
  }
  const handle = context.frames.get(id);
  return { context: handle.context, ...handle.value };
}

/** The client's views show what may have changed with a register or memory. */
export function changed({ client }: RequestContext): void {
  if (client.features.invalidatedEvent) client.event('invalidated', { areas: ['stacks', 'variables'] });
}

/** Types the body of a handler: `satisfies` alone would widen it. */
export type Body<Response extends DebugProtocol.Response> = NonNullable<Response['body']>;
