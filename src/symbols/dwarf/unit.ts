// One unit of .debug_info: its header (DWARF 5, 7.5.1) and what its root DIE says (3.1.1).

import type { AbbreviationTable } from './abbreviations.ts';
import { DW_AT } from './constants.ts';
import type { Encoding, FormValue } from './forms.ts';
import type { AddressRange } from './ranges.ts';
import type { Units } from './units.ts';

/** A unit's header. Offsets are in .debug_info. */
export interface UnitHeader extends Encoding {
  readonly offset: number;
  readonly end: number;
  /** Of the root DIE. */
  readonly firstDie: number;
  readonly abbreviationsAt: number;
  readonly type: number;
}

/** The attributes of a root DIE that are read. */
export const rootAttributes: ReadonlySet<number> = new Set([
  DW_AT.name,
  DW_AT.stmtList,
  DW_AT.lowPc,
  DW_AT.highPc,
  DW_AT.language,
  DW_AT.compDir,
  DW_AT.producer,
  DW_AT.ranges,
  DW_AT.strOffsetsBase,
  DW_AT.addrBase,
  DW_AT.rnglistsBase,
  DW_AT.loclistsBase,
]);

/** Texts and ranges are read when they are asked for: most askers want to know where the unit's entries begin. */
export class Unit implements UnitHeader {
  readonly version: number;
  readonly offsetSize: number;
  readonly addressSize: number;
  readonly offset: number;
  readonly end: number;
  readonly firstDie: number;
  readonly abbreviationsAt: number;
  readonly type: number;
  readonly strOffsetsBase: number;
  readonly addrBase: number;
  readonly rnglistsBase: number;
  readonly loclistsBase: number;
  /** The base of range and location lists. */
  readonly lowPc: bigint;
  readonly language: number | undefined;
  /** Of the line program in .debug_line. */
  readonly stmtList: number | undefined;
  readonly #units: Units;
  readonly #values: ReadonlyMap<number, FormValue>;
  readonly #texts = new Map<number, string | undefined>();
  #ranges: readonly AddressRange[] | undefined;

  /** `values`: of `rootAttributes`. */
  constructor(
    units: Units,
    header: UnitHeader,
    readonly abbreviations: AbbreviationTable,
    values: ReadonlyMap<number, FormValue>,
  ) {
    this.#units = units;
    this.#values = values;
    this.version = header.version;
    this.offsetSize = header.offsetSize;
    this.addressSize = header.addressSize;
    this.offset = header.offset;
    this.end = header.end;
    this.firstDie = header.firstDie;
    this.abbreviationsAt = header.abbreviationsAt;
    this.type = header.type;
    const base = (attribute: number, otherwise: number): number => sectionOffsetOf(values.get(attribute)) ?? otherwise;
    // DWARF 5, 7.26 to 7.28: without a base attribute (split units) the base is behind the section's first header.
    const first = header.offsetSize === 8 ? 16 : 8;
    this.strOffsetsBase = base(DW_AT.strOffsetsBase, first);
    this.addrBase = base(DW_AT.addrBase, first);
    this.rnglistsBase = base(DW_AT.rnglistsBase, first + 4);
    this.loclistsBase = base(DW_AT.loclistsBase, first + 4);
    this.lowPc = units.address(values.get(DW_AT.lowPc), this) ?? 0n;
    const language = values.get(DW_AT.language);
    this.language = language?.kind === 'constant' ? Number(language.value) : undefined;
    this.stmtList = sectionOffsetOf(values.get(DW_AT.stmtList));
  }

  get name(): string | undefined {
    return this.#text(DW_AT.name);
  }
  get compDir(): string | undefined {
    return this.#text(DW_AT.compDir);
  }
  get producer(): string | undefined {
    return this.#text(DW_AT.producer);
  }
  get ranges(): readonly AddressRange[] {
    this.#ranges ??= this.#units.codeRanges(this.#values, this);
    return this.#ranges;
  }

  #text(attribute: number): string | undefined {
    if (!this.#texts.has(attribute)) this.#texts.set(attribute, this.#units.string(this.#values.get(attribute), this));
    return this.#texts.get(attribute);
  }
}

/** A section offset, in the forms of DWARF 2 and 3 as well (data4, data8). */
export const sectionOffsetOf = (value: FormValue | undefined): number | undefined => {
  if (value?.kind === 'sectionOffset') return value.offset;
  return value?.kind === 'constant' ? Number(value.value) : undefined;
};
