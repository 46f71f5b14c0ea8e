import { Gva, hex } from '../base/address.ts';
import { UserError } from '../base/errors.ts';
import type { Row } from '../debugger/disassembler.ts';
import type { StopContext } from '../debugger/stopContext.ts';
import { debuggerOf, type RequestContext } from './context.ts';

/** Instructions of a listing whose function has no known size. */
const usualLength = 400;

interface Listing {
  /** The function's name; the first address where there is none. */
  readonly name: string;
  readonly start: Gva;
  readonly count: number;
  /** Of the lines; undefined until somebody has read it. */
  addresses?: readonly Gva[];
}

/** By debugger, in the order of their references, which count from 1. */
const listings = new WeakMap<object, Listing[]>();

/** A text that stands for code without source: one for each function, and the line of `pc` in it, from 1. */
export function listingOf(
  pc: Gva,
  context: RequestContext,
): { readonly reference: number; readonly name: string; readonly line: number } {
  const instance = debuggerOf(context);
  const unit = BigInt(instance.target.architecture.instructionAlignment);
  const known = listings.get(instance) ?? [];
  listings.set(instance, known);
  let index = known.findIndex(({ start, count }) => pc >= start && pc < start + BigInt(count) * unit);
  if (index < 0) {
    const found = instance.symbols?.at(pc);
    const start = Gva(pc - (found && found.offset < BigInt(usualLength) * unit ? found.offset : pc % unit));
    const size = found && found.symbol.size > 0n ? Number(found.symbol.size / unit) : usualLength;
    const count = Math.min(Math.max(size, 1), 4 * usualLength);
    index = known.push({ name: found?.symbol.name ?? hex(start), start, count }) - 1;
  }
  const { start, name } = known[index] ?? { start: pc, name: hex(pc) };
  return { reference: index + 1, name, line: Number((pc - start) / unit) + 1 };
}

/** The instructions of a listing, one for each of its lines. UserError when `reference` is none. */
export async function listingRows(
  reference: number,
  current: StopContext,
  context: RequestContext,
): Promise<readonly Row[]> {
  const instance = debuggerOf(context);
  const listing = listings.get(instance)?.[reference - 1];
  if (!listing) throw new UserError(`There is no source ${reference}.`);
  const rows = await instance.disassembler.rows(current.memory(current.focus), listing.start, 0, listing.count);
  listing.addresses = rows.map((row) => row.address);
  return rows;
}

/** The address of a line, from 1, of a listing that has been read, also while the guest runs. UserError when there is none. */
export function addressInListing(reference: number, line: number, context: RequestContext): Gva {
  const addresses = listings.get(debuggerOf(context))?.[reference - 1]?.addresses;
  if (!addresses) throw new UserError(`There is no source ${reference}.`);
  const address = addresses[line - 1];
  if (address === undefined)
    throw new UserError(`The listing has ${addresses.length} lines; there is no line ${line}.`);
  return address;
}

/** What a listing says: `address <symbol+offset>:  instruction`, aligned. */
export function listingText(rows: readonly Row[], context: RequestContext): string {
  const { symbols } = debuggerOf(context);
  const places = rows.map(({ address }) => {
    const symbol = symbols?.describe(address);
    return `${hex(address)}${symbol === undefined ? '' : ` <${symbol}>`}:`;
  });
  const width = Math.max(0, ...places.map((place) => place.length));
  return `${rows.map(({ text }, index) => `${(places[index] ?? '').padEnd(width)}  ${text}`).join('\n')}\n`;
}
