// The code of one unit by function and by inlined copy (DWARF 5, 3.3). Lexical blocks, variables and types are passed
// over: breakpoints do not need them.

import { Cursor } from '../../base/bytes.ts';
import { Recent } from '../../base/recent.ts';
import type { Abbreviation } from './abbreviations.ts';
import { DW_AT, DW_TAG } from './constants.ts';
import type { FormValue } from './forms.ts';
import { type AddressRange, rangeLimit } from './ranges.ts';
import type { Unit } from './unit.ts';
import type { Units } from './units.ts';

/** A function, or one copy of an inlined one. */
export interface Scope {
  readonly kind: 'function' | 'inlined';
  /** Offset of its DIE in .debug_info. */
  readonly die: number;
  /** The DIE it is an instance or the definition of, which has its name (3.3.8.1, 2.13). */
  readonly origin: number | undefined;
  readonly ranges: readonly AddressRange[];
  /** Where it is entered (2.18). */
  readonly entry: bigint;
  readonly depth: number;
}

const scopeAttributes: ReadonlySet<number> = new Set([
  DW_AT.lowPc,
  DW_AT.highPc,
  DW_AT.ranges,
  DW_AT.entryPc,
  DW_AT.abstractOrigin,
  DW_AT.specification,
]);

/** Children of these cannot be functions with code, nor contain any, in what C compilers, clang and rustc write. */
const opaqueTags: ReadonlySet<number> = new Set([
  DW_TAG.classType,
  DW_TAG.enumerationType,
  DW_TAG.structureType,
  DW_TAG.unionType,
]);

/** Walks the DIEs of a unit. `enter` is called with the cursor at the attributes, and has to read or skip them; what
 *  it returns says whether the children are wanted. The bytes are a peek: callbacks read, they do not peek. */
const walk = (
  units: Units,
  unit: Unit,
  enter: (cursor: Cursor, abbreviation: Abbreviation, die: number, depth: number) => boolean,
): void => {
  const { info } = units;
  const cursor = new Cursor(info.peek(unit.firstDie, unit.end - unit.firstDie), info.name, unit.firstDie);
  const { abbreviations } = unit;
  let depth = 0;
  while (!cursor.atEnd) {
    const die = cursor.offset;
    const code = cursor.uleb();
    if (code === 0) {
      depth--;
      if (depth <= 0) return;
      continue;
    }
    const abbreviation = abbreviations.get(code);
    if (abbreviation === undefined) throw cursor.failure(`the abbreviation ${code} is not declared`, die - cursor.base);
    const attributes = cursor.position;
    const wanted = enter(cursor, abbreviation, die, depth);
    if (!abbreviation.hasChildren) {
      if (depth === 0) return;
      continue;
    }
    if (wanted || abbreviation.siblingAt < 0) {
      depth++;
      continue;
    }
    const behind = cursor.position;
    cursor.position = attributes + abbreviation.siblingAt;
    const sibling = unit.offset + cursor.u32() - cursor.base;
    if (sibling < behind) cursor.fail(`the sibling at ${sibling + cursor.base} is not behind the entry`, attributes);
    cursor.position = sibling;
  }
};

const originOf = (values: ReadonlyMap<number, FormValue>): number | undefined => {
  const origin = values.get(DW_AT.abstractOrigin) ?? values.get(DW_AT.specification);
  return origin?.kind === 'reference' ? origin.offset : undefined;
};

/** Every function and inlined copy of a unit that has code; only some of them is much quicker. `wanted`: those that are,
 *  or are made of, one of these entries. `around`: those around one of these addresses, which ascend; what is in a
 *  function without such an address is passed over. */
export const readScopes = (
  units: Units,
  unit: Unit,
  { wanted, around }: { readonly wanted?: ReadonlySet<number>; readonly around?: readonly bigint[] } = {},
): Scope[] => {
  const scopes: Scope[] = [];
  let rangeCount = 0;
  walk(units, unit, (cursor, abbreviation, die, depth) => {
    const { tag } = abbreviation;
    const kind = tag === DW_TAG.subprogram ? 'function' : tag === DW_TAG.inlinedSubroutine ? 'inlined' : undefined;
    if (kind === undefined) {
      abbreviation.advance(cursor);
      return !opaqueTags.has(tag);
    }
    if (!abbreviation.has(DW_AT.lowPc) && !abbreviation.has(DW_AT.ranges)) {
      abbreviation.advance(cursor);
      return false;
    }
    if (wanted !== undefined && !wanted.has(die) && abbreviation.originAt >= 0) {
      const at = cursor.position;
      cursor.position += abbreviation.originAt;
      const origin = unit.offset + cursor.u32();
      cursor.position = at;
      if (!wanted.has(origin)) {
        abbreviation.advance(cursor);
        return true;
      }
    }
    const values = abbreviation.read(cursor, unit.offset, scopeAttributes);
    const origin = originOf(values);
    if (wanted !== undefined && !wanted.has(die) && (origin === undefined || !wanted.has(origin))) return true;
    const ranges = units.codeRanges(values, unit);
    rangeCount += ranges.length;
    if (rangeCount > rangeLimit) cursor.fail(`more than ${rangeLimit} ranges in the unit at ${unit.offset}`);
    const first = ranges[0];
    if (first === undefined) return false;
    if (around !== undefined && !ranges.some((range) => holdsOne(range, around))) return false;
    const entryPc = values.get(DW_AT.entryPc);
    // A constant is relative to the lowest address of the entity (2.18).
    const entryPoint = entryPc?.kind === 'constant' ? first.start + entryPc.value : units.address(entryPc, unit);
    // gcc also says one outside of the ranges, where none of the function's variables is known.
    const isInside =
      entryPoint !== undefined && ranges.some(({ start, end }) => entryPoint >= start && entryPoint < end);
    const entry = isInside ? entryPoint : first.start;
    scopes.push({ kind, die, origin, ranges, entry, depth });
    return true;
  });
  return scopes;
};

const holdsOne = ({ start, end }: AddressRange, ascending: readonly bigint[]): boolean => {
  let first = 0;
  let last = ascending.length;
  while (first < last) {
    const middle = (first + last) >>> 1;
    if ((ascending[middle] ?? 0n) < start) first = middle + 1;
    else last = middle;
  }
  const found = ascending[first];
  return found !== undefined && found < end;
};

/** Units whose scopes are kept. */
const keptUnits = 16;

/** The scopes of units, read once for several askers. */
export class UnitScopes {
  readonly #known = new Recent<number, readonly Scope[]>(keptUnits);

  constructor(readonly units: Units) {}

  of(unit: Unit): readonly Scope[] {
    return this.#known.of(unit.offset, () => readScopes(this.units, unit));
  }
}

/** The functions and inlined copies around an address, innermost first; the last is the function itself. */
export const around = (scopes: readonly Scope[], address: bigint): Scope[] =>
  scopes
    .filter(({ ranges }) => ranges.some(({ start, end }) => address >= start && address < end))
    .sort((a, b) => b.depth - a.depth);

/** The innermost function or inlined copy at an address. */
export const innermost = (scopes: readonly Scope[], address: bigint): Scope | undefined => {
  let best: Scope | undefined;
  for (const scope of scopes) {
    if (best !== undefined && scope.depth <= best.depth) continue;
    if (scope.ranges.some(({ start, end }) => address >= start && address < end)) best = scope;
  }
  return best;
};
