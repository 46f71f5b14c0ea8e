// What several places send: bodies of events and parts of responses.
import { hex } from '../base/address.ts';
import type { Breakpoint, BreakpointStatus } from '../debugger/breakpoints.ts';
import type { Stop } from '../debugger/debugger.ts';
import { type ClientFeatures, threadId } from './context.ts';

/** A breakpoint as DAP shows it. */
export function breakpointBody(status: BreakpointStatus, features: ClientFeatures): object {
  const { id, kind, verified, message, location } = status;
  const address = kind === 'data' ? undefined : status.address;
  return {
    id,
    verified,
    ...(message === undefined ? {} : { message }),
    ...(location && {
      source: { name: location.path.split('/').at(-1), path: location.path },
      line: location.line - (features.linesStartAt1 ? 0 : 1),
    }),
    ...(address === undefined ? {} : { instructionReference: hex(address) }),
  };
}

export function stoppedBody(stop: Stop): object {
  return {
    reason: stop.reason,
    description: stop.description,
    text: stop.description,
    threadId: threadId(stop.vcpu),
    allThreadsStopped: true,
    ...(stop.breakpointIds.length > 0 ? { hitBreakpointIds: stop.breakpointIds } : {}),
  };
}

export function logBody(text: string, breakpoint: Breakpoint | undefined): object {
  const location = breakpoint?.location;
  const source = location && { source: { path: location.path }, line: location.line };
  return { category: 'console', output: `${text}\n`, ...source };
}
