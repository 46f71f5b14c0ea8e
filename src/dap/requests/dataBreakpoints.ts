// Breakpoints on data: what of an expression or a variable can be watched, and the ones that were chosen.
import { Gva, hex } from '../../base/address.ts';
import { UserError } from '../../base/errors.ts';
import { evaluate, type Result } from '../../debugger/evaluate.ts';
import { type FramePosition, FrameScope } from '../../debugger/scope.ts';
import type { StopContext } from '../../debugger/stopContext.ts';
import { sizeOf } from '../../symbols/types.ts';
import { addressOf, implicitPointerOf, integerOf } from '../../symbols/value.ts';
import { frameOf, type Handler, isRegisterHandle, type RequestContext } from '../context.ts';
import type { Fields } from '../fields.ts';
import { conditions, replace } from './breakpoints.ts';
import { itemNamed } from './variables.ts';

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
  const bytes = args.optionalInteger('bytes', { min: 1, max: 2 ** 31 });
  const watchable = (address: Gva, length: number) => ({
    dataId: dataId(address, length),
    // It begins with what the user chose: a view cuts off the rest.
    description: name.startsWith('0x') ? place(address, length) : `${name} (${place(address, length)})`,
    accessTypes: accesses,
    canPersist: false,
  });
  const not = (why: string) => ({ dataId: null, description: `${name} ${why}; only memory can be watched.` });
  const isAddress = args.boolean('asAddress');
  if (isAddress && /^\s*(0x[\da-f]+|\d+)\s*$/i.test(name)) return watchable(args.address('name'), bytes ?? 8);
  const found = await meant(args, name, context);
  if (found === undefined) return not('is a register');
  const { scope, position, result } = found;
  const { value, register, symbol } = result;
  if (register !== undefined || value.location.kind === 'register') {
    // What is in a register may be the address that is meant.
    if (!isAddress) return not('is in a register');
    return watchable(Gva(BigInt.asUintN(64, await integerOf(value, scope.access))), bytes ?? 8);
  }
  if (implicitPointerOf(value) !== undefined) return not('was optimised away');
  if (symbol !== undefined) {
    const size = position.context.symbols?.named(name.trim())[0]?.size ?? 0n;
    return watchable(symbol.address, bytes ?? (size > 0n && size <= 2n ** 31n ? Number(size) : 8));
  }
  const address = isAddress ? undefined : addressOf(value);
  if (address !== undefined) return watchable(Gva(address), bytes ?? Math.max(sizeOf(value.type), 1));
  if (value.bits !== undefined) return not('is a bit field');
  // A number is taken for the address that is meant.
  return watchable(Gva(BigInt.asUintN(64, await integerOf(value, scope.access))), bytes ?? 8);
};

interface Meant {
  readonly scope: FrameScope;
  readonly position: FramePosition & { readonly context: StopContext };
  readonly result: Result;
}

/** An expression in a frame, or with `variablesReference` what is shown there by that name; undefined when that is a
 *  register. */
async function meant(args: Fields, name: string, context: RequestContext): Promise<Meant | undefined> {
  const reference = args.optionalInteger('variablesReference') ?? 0;
  if (reference === 0) {
    const position = await frameOf(args, context);
    const scope = await FrameScope.of(position.context, position);
    return { scope, position, result: await evaluate(name, scope) };
  }
  const { context: current, value: handle } = context.variables.get(reference);
  if (isRegisterHandle(handle)) return undefined;
  const scope = await FrameScope.of(current, handle);
  const { value } = await itemNamed(handle, name, scope);
  return { scope, position: { ...handle, context: current }, result: { value } };
}

const place = (address: Gva, length: number): string =>
  `${length} ${length === 1 ? 'byte' : 'bytes'} at ${hex(address)}`;
