// Places chosen by the user: to go on at, and to step into.
import { Gva, hex } from '../../base/address.ts';
import { UserError } from '../../base/errors.ts';
import { callsOnLine } from '../../debugger/stepping.ts';
import { debuggerOf, type Handler, stopped, vcpuOf } from '../context.ts';

/** The places of a line in the function that the vCPU in focus is in: elsewhere stack and registers mean something else. */
export const gotoTargets: Handler = async (args, context) => {
  const current = stopped(context);
  const { paths, symbols } = debuggerOf(context);
  const path = args.object('source').optionalString('path');
  const first = context.client.features.linesStartAt1 ? 0 : 1;
  const line = args.integer('line', { min: 1 - first }) + first;
  if (symbols === undefined || path === undefined) return { targets: [] };
  const own = symbols.at(await current.pc(current.focus))?.symbol.address;
  const locations = paths.locations(symbols, path, line);
  const targets = locations
    .filter(({ address }) => own !== undefined && symbols.at(address)?.symbol.address === own)
    .map((location) => ({
      id: context.places.create(current, Gva(location.address)),
      label: symbols.describe(location.address) ?? hex(location.address),
      line: location.line - first,
      instructionPointerReference: hex(location.address),
    }));
  return { targets };
};

export const goTo: Handler = async (args, context) => {
  const vcpu = vcpuOf(args, context);
  stopped(context);
  const { value: address } = context.places.get(args.integer('targetId'));
  context.afterResponse(await debuggerOf(context).jump(vcpu, address));
  return undefined;
};

export const stepInTargets: Handler = async (args, context) => {
  const { context: current, value } = context.frames.get(args.integer('frameId'));
  // A caller is in the middle of its call.
  if (value.frame > 0) return { targets: [] };
  const { symbols } = debuggerOf(context);
  const functions = await callsOnLine(current, value.vcpu);
  const targets = functions.map((address) => ({
    id: context.places.create(current, address),
    label: symbols?.describe(address) ?? hex(address),
  }));
  return { targets };
};

/** The function that a request's `targetId` names; undefined without one. */
export const chosenPlace: (...parameters: Parameters<Handler>) => Gva | undefined = (args, context) => {
  const id = args.optionalInteger('targetId');
  if (id === undefined) return undefined;
  if (id < 1) throw new UserError(`${args.where}: there is no target ${id}.`);
  return context.places.get(id).value;
};
