import { Gva, hex } from '../../base/address.ts';
import { UserError } from '../../base/errors.ts';
import type { BreakpointRequest } from '../../debugger/breakpoints.ts';
import type { Conditions } from '../../debugger/conditions.ts';
import { evaluate } from '../../debugger/evaluate.ts';
import { filterNamed } from '../../debugger/exceptions.ts';
import type { BreakpointMode } from '../../debugger/placement.ts';
import { FrameScope } from '../../debugger/scope.ts';
import { sizeOf } from '../../symbols/types.ts';
import { addressOf, implicitPointerOf, integerOf } from '../../symbols/value.ts';
import { breakpointModes } from '../arguments.ts';
import { breakpointBody } from '../bodies.ts';
import { debuggerOf, frameOf, type Handler, type RequestContext, stopped, vcpuOf } from '../context.ts';
import type { Fields } from '../fields.ts';

function conditions(fields: Fields): Conditions & { mode?: BreakpointMode } {
  const texts = ['condition', 'hitCondition', 'logMessage'] as const;
  const given = texts.flatMap((name) => {
    const text = fields.optionalString(name);
    return text ? [[name, text] as const] : [];
  });
  const mode = fields.choice('mode', breakpointModes);
  return { ...Object.fromEntries(given), ...(mode === undefined ? {} : { mode }) };
}

async function replace(
  context: RequestContext,
  requests: readonly BreakpointRequest[],
  replaced: (request: BreakpointRequest) => boolean,
): Promise<object> {
  const statuses = await debuggerOf(context).setBreakpoints(requests, replaced);
  return { breakpoints: statuses.map((status) => breakpointBody(status, context.client.features)) };
}

export const setBreakpoints: Handler = (args, context) => {
  const source = args.object('source');
  const path = source.optionalString('path');
  const list = args.list('breakpoints');
  if (path === undefined) {
    const message = 'Set instruction breakpoints in the Disassembly View: this listing is no source file.';
    return { breakpoints: list.map(() => ({ verified: false, message })) };
  }
  const first = context.client.features.linesStartAt1 ? 0 : 1;
  const requests = list.map((fields) => {
    const line = fields.integer('line', { min: 1 - first }) + first;
    return { kind: 'source', path, line, ...conditions(fields) } as const;
  });
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
  return replace(context, requests, (request) => request.kind === 'instruction');
};

const accesses = ['read', 'write', 'readWrite'] as const;

// A data id is the address and the length: it can be made without looking anything up, and says what it watches.
const dataId = (address: bigint, length: number): string => `${hex(address)}/${length}`;

export const setDataBreakpoints: Handler = (args, context) => {
  const requests = args.list('breakpoints').map((fields) => {
    const id = fields.string('dataId');
    const match = /^(0x[0-9a-f]{1,16})\/([1-9]\d{0,9})$/.exec(id);
    if (!match) throw new UserError(`${fields.where}: there is no data \`${id.slice(0, 80)}\`.`);
    const access = fields.choice('accessType', accesses) ?? 'write';
    const address = Gva(BigInt(match[1] ?? 0));
    return { kind: 'data', address, length: Number(match[2]), access, ...conditions(fields) } as const;
  });
  return replace(context, requests, (request) => request.kind === 'data');
};

export const dataBreakpointInfo: Handler = async (args, context) => {
  const name = args.string('name');
  const bytes = args.optionalInteger('bytes', { min: 1 });
  const watchable = (address: Gva, length: number) => ({
    dataId: dataId(address, length),
    description: `${length} bytes at ${hex(address)}${name.startsWith('0x') ? '' : ` (${name})`}`,
    accessTypes: accesses,
    canPersist: false,
  });
  if (args.boolean('asAddress')) return watchable(args.address('name'), bytes ?? 8);
  if (args.has('variablesReference') && args.integer('variablesReference') > 0) {
    return { dataId: null, description: `${name} is a register; only memory can be watched.` };
  }
  const frame = frameOf(args, context);
  const scope = await FrameScope.of(frame.context, frame);
  const { value, register, symbol } = await evaluate(name, scope);
  if (register !== undefined || value.location.kind === 'register') {
    return { dataId: null, description: `${name} is in a register; only memory can be watched.` };
  }
  if (implicitPointerOf(value) !== undefined) {
    return { dataId: null, description: `${name} was optimised away; only memory can be watched.` };
  }
  if (symbol !== undefined) {
    const size = frame.context.symbols?.named(name.trim())[0]?.size ?? 0n;
    return watchable(symbol.address, bytes ?? (size > 0n && size <= 2n ** 31n ? Number(size) : 8));
  }
  const address = addressOf(value);
  if (address !== undefined) return watchable(Gva(address), bytes ?? Math.max(sizeOf(value.type), 1));
  // A number is taken for the address that is meant.
  return watchable(Gva(BigInt.asUintN(64, await integerOf(value, scope.access))), bytes ?? 8);
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
