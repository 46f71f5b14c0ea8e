import type { Handler } from './context.ts';
import * as breakpoints from './requests/breakpoints.ts';
import * as execution from './requests/execution.ts';
import * as inspection from './requests/inspection.ts';
import * as lifecycle from './requests/lifecycle.ts';
import * as memory from './requests/memory.ts';

/** Every request the adapter answers; any other is an error. */
export const handlers: Readonly<Record<string, Handler>> = {
  initialize: lifecycle.initialize,
  launch: lifecycle.launch,
  attach: lifecycle.attach,
  configurationDone: lifecycle.configurationDone,
  disconnect: lifecycle.disconnect,
  terminate: lifecycle.terminate,
  cancel: lifecycle.cancel,

  setBreakpoints: breakpoints.setBreakpoints,
  setFunctionBreakpoints: breakpoints.setFunctionBreakpoints,
  setInstructionBreakpoints: breakpoints.setInstructionBreakpoints,
  setDataBreakpoints: breakpoints.setDataBreakpoints,
  setExceptionBreakpoints: breakpoints.setExceptionBreakpoints,
  dataBreakpointInfo: breakpoints.dataBreakpointInfo,
  breakpointLocations: breakpoints.breakpointLocations,

  continue: execution.resume,
  pause: execution.pause,
  next: execution.next,
  stepIn: execution.stepIn,
  stepOut: execution.stepOut,
  threads: execution.threads,

  stackTrace: inspection.stackTrace,
  scopes: inspection.scopes,
  variables: inspection.variables,
  setVariable: inspection.setVariable,
  evaluate: inspection.evaluateRequest,
  setExpression: inspection.setExpression,

  source: memory.source,
  disassemble: memory.disassemble,
  readMemory: memory.readMemory,
  writeMemory: memory.writeMemory,
};

/** Requests that do not wait for the ones before them: they end or interrupt those. */
export const immediate: ReadonlySet<string> = new Set(['pause', 'cancel', 'disconnect', 'terminate']);
