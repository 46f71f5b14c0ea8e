import { Gva } from '../../base/address.ts';
import { UserError } from '../../base/errors.ts';
import type { BreakpointRequest } from '../../debugger/breakpoints.ts';
import type { Conditions } from '../../debugger/conditions.ts';
import { filterNamed } from '../../debugger/exceptions.ts';
import type { BreakpointMode } from '../../debugger/placement.ts';
import { breakpointModes } from '../arguments.ts';
import { breakpointBody } from '../bodies.ts';
import { debuggerOf, guestOf, type Handler, type RequestContext, stopped, vcpuOf } from '../context.ts';
import type { Fields } from '../fields.ts';
import { addressInListing } from '../listings.ts';

/** What decides beside the place, of one breakpoint of a request. */
export function conditions(fields: Fields): Conditions & { mode?: BreakpointMode } {
  const texts = ['condition', 'hitCondition', 'logMessage'] as const;
  const given = texts.flatMap((name) => {
    const text = fields.optionalString(name);
    return text ? [[name, text] as const] : [];
  });
  const mode = fields.choice('mode', breakpointModes);
  return { ...Object.fromEntries(given), ...(mode === undefined ? {} : { mode }) };
}

/** Has the breakpoints that `replaced` selects replaced, and answers with what became of the requests. */
export async function replace(
  context: RequestContext,
  requests: readonly BreakpointRequest[],
  replaced: (request: BreakpointRequest) => boolean,
): Promise<object> {
  const { debugger: instance, status } = guestOf(context);
  const statuses = await instance.setBreakpoints(requests, replaced);
  context.afterResponse(() => status.changed());
  return { breakpoints: statuses.map((status) => breakpointBody(status, context.client.features)) };
}

export const setBreakpoints: Handler = (args, context) => {
  const source = args.object('source');
  const list = args.list('breakpoints');
  const first = context.client.features.linesStartAt1 ? 0 : 1;
  const lines = list.map((fields) => ({ fields, line: fields.integer('line', { min: 1 - first }) + first }));
  const listing = source.optionalInteger('sourceReference');
  if (listing) {
    // A line of a listing is an instruction.
    const requests = lines.map(({ fields, line }) => {
      const address = addressInListing(listing, line, context);
      return { kind: 'instruction', address, listing, ...conditions(fields) } as const;
    });
    return replace(context, requests, (request) => request.kind === 'instruction' && request.listing === listing);
  }
  const path = source.string('path');
  const requests = lines.map(({ fields, line }) => ({ kind: 'source', path, line, ...conditions(fields) }) as const);
  return replace(context, requests, (request) => request.kind === 'source' && request.path === path);
};

export const setFunctionBreakpoints: Handler = (args, context) => {
  const requests = args.list('breakpoints').map((fields) => {
    return { kind: 'function', name: fields.string('name').trim(), ...conditions(fields) } as const;
  });
  return replace(context, requests, (request) => request.kind === 'function');
};

export const setInstructionBreakpoints: Handler = (args, context) => {
  const requests = args.list('breakpoints').map((fields) => {
    const offset = BigInt(fields.optionalInteger('offset') ?? 0);
    const address = Gva(fields.address('instructionReference') + offset);
    return { kind: 'instruction', address, ...conditions(fields) } as const;
  });
  return replace(context, requests, (request) => request.kind === 'instruction' && request.listing === undefined);
};

export const breakpointLocations: Handler = (args, context) => {
  const path = args.object('source').optionalString('path');
  const { symbols, paths } = debuggerOf(context);
  if (path === undefined || !symbols) return { breakpoints: [] };
  const first = context.client.features.linesStartAt1 ? 0 : 1;
  const from = args.integer('line', { min: 0 }) + first;
  const to = (args.optionalInteger('endLine', { min: 0 }) ?? from - first) + first;
  const lines = paths.linesWithCode(symbols, path, from, to);
  return { breakpoints: lines.map((line) => ({ line: line - first })) };
};

export const setExceptionBreakpoints: Handler = (args, context) => {
  const chosen = [
    ...args.strings('filters').map((filter) => ({ filter })),
    ...(args.has('filterOptions') ? args.list('filterOptions') : []).map((fields) => {
      return { filter: fields.string('filterId'), ...conditions(fields) };
    }),
  ];
  const requests = chosen.map((each) => {
    if (filterNamed(each.filter) === undefined) {
      throw new UserError(`setExceptionBreakpoints: there is no filter "${each.filter}".`);
    }
    return { kind: 'exception', ...each } as const;
  });
  return replace(context, requests, (request) => request.kind === 'exception');
};

export const exceptionInfo: Handler = (args, context) => {
  const vcpu = vcpuOf(args, context);
  stopped(context);
  const cause = debuggerOf(context).exceptionOf(vcpu);
  if (cause?.exception === undefined) throw new UserError(`vCPU ${vcpu} did not stop at an exception.`);
  const { id, description } = cause.exception;
  return { exceptionId: id, description, breakMode: 'always', details: { message: cause.description } };
};
