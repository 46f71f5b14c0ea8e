// Where breakpoints go: from lines and function names to addresses, one for each function or inlined copy.

import { DW_AT, DW_FORM } from './dwarf/constants.ts';
import type { LineTable } from './dwarf/lineTable.ts';
import { innermost, readScopes, type Scope, type UnitScopes } from './dwarf/scopes.ts';
import type { Unit } from './dwarf/unit.ts';
import type { Units } from './dwarf/units.ts';
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
    for (const [unit, group] of this.#byUnit(statements)) {
      const around = group.map(({ address }) => address).sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
      const scopes = unit === undefined ? [] : readScopes(this.units, unit, { around });
      for (const statement of group) {
        const scope = innermost(scopes, statement.address);
        if (unit === undefined || scope === undefined) {
          // Assembly without function entries: one for each run of rows.
          if (!statement.continues) unscoped.set(statement.address, statement);
          continue;
        }
        const known = places.get(scope);
        if (known !== undefined && known.address <= statement.address) continue;
        places.set(scope, { ...statement, address: this.#afterPrologue(unit, scope, statement.address) });
      }
    }
    const all = new Map<bigint, Statement>();
    for (const statement of [...places.values(), ...unscoped.values()]) all.set(statement.address, statement);
    return [...all.values()].sort((a, b) => (a.address < b.address ? -1 : 1));
  }

  #byUnit(statements: readonly Statement[]): Iterable<readonly [Unit | undefined, readonly Statement[]]> {
    const groups = new Map<number | undefined, { readonly unit: Unit | undefined; readonly group: Statement[] }>();
    for (const statement of statements) {
      const unit = this.units.containing(statement.address);
      const known = groups.get(unit?.offset);
      if (known === undefined) groups.set(unit?.offset, { unit, group: [statement] });
      else known.group.push(statement);
    }
    return [...groups.values()].map(({ unit, group }) => [unit, group]);
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

  /** The places for functions that DWARF describes, out of line and inlined. `dies`: their definitions and abstract
   *  instances. Copies are looked for in the units of these, where compilers put them but for link-time optimisation. */
  ofFunctions(dies: readonly number[]): bigint[] {
    const places = new Set<bigint>();
    const wanted = new Set(dies);
    const units = new Set(dies.map((die) => this.units.headerContaining(die).offset));
    for (const offset of units) {
      const unit = this.units.at(offset);
      for (const scope of readScopes(this.units, unit, { wanted })) {
        places.add(scope.kind === 'inlined' ? scope.entry : this.#afterPrologue(unit, scope, scope.entry));
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
}

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
