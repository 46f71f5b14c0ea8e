import type { DebugProtocol } from '@vscode/debugprotocol';
import { exceptionFilters } from '../debugger/exceptions.ts';

/** What the adapter tells the client it can do. Each `supports…Request` has its handler (tested). */
export const capabilities = {
  supportsConfigurationDoneRequest: true,
  supportsFunctionBreakpoints: true,
  supportsConditionalBreakpoints: true,
  supportsHitConditionalBreakpoints: true,
  supportsLogPoints: true,
  supportsInstructionBreakpoints: true,
  supportsDataBreakpoints: true,
  supportsDataBreakpointBytes: true,
  supportsBreakpointLocationsRequest: true,
  supportsEvaluateForHovers: true,
  supportsCompletionsRequest: true,
  completionTriggerCharacters: ['.', '>', '$'],
  supportsSetVariable: true,
  supportsSetExpression: true,
  supportsValueFormattingOptions: true,
  supportsSteppingGranularity: true,
  supportsStepInTargetsRequest: true,
  supportsGotoTargetsRequest: true,
  supportsDisassembleRequest: true,
  supportsReadMemoryRequest: true,
  supportsWriteMemoryRequest: true,
  supportsTerminateRequest: true,
  supportTerminateDebuggee: true,
  supportsCancelRequest: true,
  supportsExceptionFilterOptions: true,
  supportsExceptionInfoRequest: true,
  exceptionBreakpointFilters: exceptionFilters.map(({ id, label, description, isDefault }) => ({
    filter: id,
    label,
    description,
    default: isDefault,
    supportsCondition: true,
    conditionDescription: 'An expression, such as $x0 == 1; stops where it is not 0',
  })),
  breakpointModes: [
    { mode: 'auto', label: 'Automatic', description: 'Software where possible', appliesTo: ['source', 'instruction'] },
    { mode: 'software', label: 'Software', appliesTo: ['source', 'instruction'] },
    { mode: 'hardware', label: 'Hardware', appliesTo: ['source', 'instruction'] },
  ],
} as const satisfies Readonly<Capabilities>;

type Capabilities = {
  readonly [Name in keyof DebugProtocol.Capabilities]: DebugProtocol.Capabilities[Name] extends
    | (infer Item)[]
    | undefined
    ? readonly DeepReadonly<Item>[]
    : DebugProtocol.Capabilities[Name];
};
type DeepReadonly<T> = T extends (infer Item)[]
  ? readonly DeepReadonly<Item>[]
  : T extends object
    ? { readonly [Key in keyof T]: DeepReadonly<T[Key]> }
    : T;
