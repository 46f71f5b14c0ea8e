import type { Handler } from './context.ts';
import * as breakpoints from './requests/breakpoints.ts';
import { completions } from './requests/completions.ts';
import * as dataBreakpoints from './requests/dataBreakpoints.ts';
import * as evaluation from './requests/evaluation.ts';
import * as execution from './requests/execution.ts';
import * as jumps from './requests/jumps.ts';
import { kernelLog } from './requests/kernelLog.ts';
import * as lifecycle from './requests/lifecycle.ts';
import * as memory from './requests/memory.ts';
import { numberFormat } from './requests/numberFormat.ts';
import { pageWalk } from './requests/pageWalk.ts';
import * as stack from './requests/stack.ts';
import { status } from './requests/status.ts';
import * as variables from './requests/variables.ts';

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
  setDataBreakpoints: dataBreakpoints.setDataBreakpoints,
  setExceptionBreakpoints: breakpoints.setExceptionBreakpoints,
  exceptionInfo: breakpoints.exceptionInfo,
  dataBreakpointInfo: dataBreakpoints.dataBreakpointInfo,
  breakpointLocations: breakpoints.breakpointLocations,

  continue: execution.resume,
  pause: execution.pause,
  next: execution.next,
  stepIn: execution.stepIn,
  stepOut: execution.stepOut,
  stepInTargets: jumps.stepInTargets,
  gotoTargets: jumps.gotoTargets,
  goto: jumps.goTo,
  threads: execution.threads,

  stackTrace: stack.stackTrace,
  scopes: stack.scopes,
  variables: variables.variables,
  setVariable: variables.setVariable,
  evaluate: evaluation.evaluateRequest,
  setExpression: evaluation.setExpression,
  completions,

  source: memory.source,
  disassemble: memory.disassemble,
  readMemory: memory.readMemory,
  writeMemory: memory.writeMemory,

  // Beyond the protocol; CONTRIBUTING.md describes them.
  'kvm/kernelLog': kernelLog,
  'kvm/numberFormat': numberFormat,
  'kvm/pageWalk': pageWalk,
  'kvm/status': status,
};

/** Requests that do not wait for the ones before them: they end or interrupt those. */
export const immediate: ReadonlySet<string> = new Set(['pause', 'cancel', 'disconnect', 'terminate']);
