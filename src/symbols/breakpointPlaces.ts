// Where breakpoints go: from lines and function names to addresses, one for each function or inlined copy.

import { DW_AT, DW_FORM } from './dwarf/constants.ts';
import type { LineTable } from './dwarf/lineTable.ts';
import { innermost, readSubprograms, type Scope, type UnitScopes } from './dwarf/scopes.ts';
import type { Unit, Units } from './dwarf/units.ts';
import { stringOffsets } from './elfSymbols.ts';
import type { Statement } from './sourceLines.ts';

/** DW_LANG_Mips_Assembler (DWARF 5, 7.12), which is what all assemblers say. */
const assembler = 0x8001;

export class BreakpointPlaces {
  /** `lineTableOf` gives the line table of a unit. */
  constructor(
    readonly units: Units,
    readonly scopes: UnitScopes,
    readonly lineTableOf: (unit: Unit) => LineTable | undefined,
  ) {}

  /** Of the statements of one line, the first of each function or inlined copy. Loops and conditions spread a line over
   *  several places of one function, and all but the first would stop again in the middle of it. */
  ofStatements(statements: readonly Statement[]): Statement[] {
    const places = new Map<Scope, Statement>();
    const unscoped = new Map<bigint, Statement>();
    for (const statement of statements) {
      const unit = this.units.containing(statement.address);
      const scope = unit === undefined ? undefined : innermost(this.scopes.of(unit), statement.address);
      if (unit === undefined || scope === undefined) {
        // Assembly without function entries: one for each run of rows.
        if (!statement.continues) unscoped.set(statement.address, statement);
        continue;
      }
      const known = places.get(scope);
      if (known !== undefined && known.address <= statement.address) continue;
      places.set(scope, { ...statement, address: this.#afterPrologue(unit, scope, statement.address) });
    }
    const all = new Map<bigint, Statement>();
    for (const statement of [...places.values(), ...unscoped.values()]) all.set(statement.address, statement);
    return [...all.values()].sort((a, b) => (a.address < b.address ? -1 : 1));
  }

  /** The place for a function known by its symbol. A patchable function's DWARF may begin behind its symbol, after the
   *  instructions that ftrace rewrites; up to `limit` the function there is taken to be the symbol's. */
  ofSymbol(address: bigint, limit: bigint): bigint {
    const unit = this.units.containing(address) ?? this.units.containing(limit);
    if (unit === undefined) return address;
    const scope = this.scopes
      .of(unit)
      .find(({ kind, entry }) => kind === 'function' && entry >= address && entry <= limit);
    return scope === undefined ? address : this.#afterPrologue(unit, scope, scope.entry);
  }

  /** The places for every function of that name which DWARF describes: out of line and inlined. */
  ofFunction(name: string): bigint[] {
    const places = new Set<bigint>();
    const matching = this.#unitsNaming(name);
    const dies = new Set<number>();
    for (const unit of matching) for (const die of this.#diesNamed(name, unit)) dies.add(die);
    if (dies.size === 0) return [];
    for (const unit of matching) {
      for (const scope of this.scopes.of(unit)) {
        const isOne = scope.origin === undefined ? dies.has(scope.die) : dies.has(scope.origin) || dies.has(scope.die);
        if (isOne) places.add(scope.kind === 'inlined' ? scope.entry : this.#afterPrologue(unit, scope, scope.entry));
      }
    }
    return [...places].sort((a, b) => (a < b ? -1 : 1));
  }

  // gdb (symtab.c, skip_prologue_sal and COMPUNIT_LOCATIONS_VALID): code of an optimising gcc has location lists that
  // are right from the first instruction on, so nothing is skipped. gcc also records its options, which tells for units
  // too small to need a location list. Assembly has no prologue.
  #afterPrologue(unit: Unit, scope: Scope, address: bigint): bigint {
    if (scope.kind !== 'function' || address !== scope.entry || unit.language === assembler) return address;
    if (unit.producer?.startsWith('GNU ') === true && (isOptimised(unit.producer) || hasLocationLists(unit))) {
      return address;
    }
    const range = scope.ranges.find(({ start, end }) => address >= start && address < end);
    const table = this.lineTableOf(unit);
    return range === undefined || table === undefined ? address : table.prologueEnd(address, range.end);
  }

  /** Units that may have a function of that name. */
  #unitsNaming(name: string): Unit[] {
    const { info, sections } = this.units;
    const needles: Buffer[] = [];
    if (sections.find('.debug_str') !== undefined) {
      for (const offset of stringOffsets(sections.whole('.debug_str'), name)) needles.push(needleOf(offset));
    }
    // Compilers put names into .debug_str unless they are shorter than a reference to it. The text of a long name is
    // therefore searched for only when it is not there.
    if (needles.length === 0 || name.length < 8) needles.push(Buffer.from(`${name}\0`));
    // Names by index (clang's DW_FORM_strx) cannot be searched for as bytes.
    const searchable = sections.find('.debug_str_offsets') === undefined;
    const matching: Unit[] = [];
    for (const header of this.units.headers()) {
      const bytes = info.peek(header.firstDie, header.end - header.firstDie);
      const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      if (searchable && !needles.some((needle) => buffer.includes(needle))) continue;
      matching.push(this.units.at(header.offset));
    }
    return matching;
  }

  /** The DIEs of a unit that have the name, or get it from one that has (2.13, 3.3.8). */
  #diesNamed(name: string, unit: Unit): Set<number> {
    const dies = readSubprograms(this.units, unit);
    const found = new Set<number>();
    for (const { die, name: value } of dies) if (this.units.string(value, unit) === name) found.add(die);
    // An instance refers to a definition, which may refer to a declaration.
    for (let round = 0; round < 2 && found.size > 0; round++) {
      for (const { die, origin } of dies) if (origin !== undefined && found.has(origin)) found.add(die);
    }
    return found;
  }
}

/** An offset as it is in .debug_info, without the zero bytes in front: a search stops at every first byte. */
const needleOf = (offset: number): Buffer => {
  const needle = Buffer.alloc(4);
  needle.writeUInt32LE(offset);
  const first = needle.findIndex((byte) => byte !== 0);
  return needle.subarray(Math.max(first, 0));
};

/** The last -O option counts. */
const isOptimised = (producer: string): boolean => {
  const level = producer.match(/ -O\S*/g)?.at(-1);
  return level !== undefined && level !== ' -O0';
};

const hasLocationLists = (unit: Unit): boolean =>
  unit.abbreviations.all.some(({ attributes }) =>
    attributes.some(
      ({ name, form }) => name === DW_AT.location && (form === DW_FORM.secOffset || form === DW_FORM.loclistx),
    ),
  );
