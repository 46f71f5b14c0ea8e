// Debugging information entries (DWARF 5, 2.1 and 7.5.3): one by its offset, its children, what it refers to.

import { Cursor } from '../../base/bytes.ts';
import { FormatError } from '../../base/errors.ts';
import type { Abbreviation } from './abbreviations.ts';
import { DW_AT, DW_UT } from './constants.ts';
import { type FormValue, readForm } from './forms.ts';
import type { Unit, UnitHeader } from './unit.ts';
import type { Units } from './units.ts';

export interface Die {
  /** In .debug_info. */
  readonly offset: number;
  readonly unit: Unit;
  readonly tag: number;
  readonly attributes: ReadonlyMap<number, FormValue>;
  readonly hasChildren: boolean;
  /** Offset of what follows the attributes: the first child, if there are children. */
  readonly behind: number;
}

/** Bytes of units that are kept: a struct, its members and their types are in one unit. */
const keptBytes = 16 << 20;
/** A chain of references (instance, definition, declaration) is three long; a longer one is a cycle. */
const referenceLimit = 16;
/** No compiler nests entries as deep. */
const depthLimit = 512;

export class Dies {
  readonly #bytes = new Map<number, Uint8Array>();
  #kept = 0;
  #signatures: ReadonlyMap<bigint, number> | undefined;

  constructor(readonly units: Units) {}

  /** The entry at an offset of .debug_info; FormatError where none begins. `near`: a unit it is likely to be in. */
  at(offset: number, near?: Unit): Die {
    const inside = near !== undefined && offset >= near.offset && offset < near.end;
    const unit = inside ? near : this.units.at(this.units.headerContaining(offset).offset);
    const die = this.#read(this.#cursor(unit, offset), unit);
    if (die === undefined) throw new FormatError(this.units.info.name, offset, 'no entry begins here');
    return die;
  }

  root(unit: Unit): Die {
    return this.at(unit.firstDie, unit);
  }

  /** The children of an entry, in order; their own children are passed over. */
  *children(die: Die): Generator<Die> {
    if (!die.hasChildren) return;
    for (let offset = die.behind; ; ) {
      const child = this.#read(this.#cursor(die.unit, offset), die.unit);
      if (child === undefined) return;
      yield child;
      offset = this.#next(child);
    }
  }

  /** The entry an attribute refers to. */
  referenced(die: Die, attribute: number): Die | undefined {
    const value = die.attributes.get(attribute);
    if (value?.kind === 'reference') return this.at(value.offset, die.unit);
    if (value?.kind === 'signature') {
      const offset = this.#typeBySignature(value.value);
      return offset === undefined ? undefined : this.at(offset);
    }
    return undefined;
  }

  /** The entry that completes this one: the abstract instance of a concrete one, the declaration of a definition
   *  (2.13.2, 3.3.8.1). */
  origin(die: Die): Die | undefined {
    return this.referenced(die, DW_AT.abstractOrigin) ?? this.referenced(die, DW_AT.specification);
  }

  /** The entry and those it completes or is an instance of, nearest first. */
  *lineage(die: Die): Generator<Die> {
    let current: Die | undefined = die;
    for (let count = 0; current !== undefined; count++, current = this.origin(current)) {
      if (count === referenceLimit) throw new FormatError(this.units.info.name, die.offset, 'a cycle of references');
      yield current;
    }
  }

  /** The entry of the lineage that has an attribute itself. */
  holder(die: Die, attribute: number): Die | undefined {
    for (const each of this.lineage(die)) if (each.attributes.has(attribute)) return each;
    return undefined;
  }

  /** An attribute, its own or one it has from its origin. */
  attribute(die: Die, attribute: number): FormValue | undefined {
    return this.holder(die, attribute)?.attributes.get(attribute);
  }

  name(die: Die): string | undefined {
    const holder = this.holder(die, DW_AT.name);
    return holder && this.units.string(holder.attributes.get(DW_AT.name), holder.unit);
  }

  /** What DW_AT_type refers to; undefined for void. */
  type(die: Die): Die | undefined {
    const holder = this.holder(die, DW_AT.type);
    return holder && this.referenced(holder, DW_AT.type);
  }

  /** A constant of the entry's own, or of its origin. */
  constant(die: Die, attribute: number): bigint | undefined {
    const value = this.attribute(die, attribute);
    if (value?.kind === 'constant') return value.value;
    return value?.kind === 'sectionOffset' ? BigInt(value.offset) : undefined;
  }

  flag(die: Die, attribute: number): boolean {
    const value = this.attribute(die, attribute);
    return value?.kind === 'flag' && value.value;
  }

  /** Where the entry behind this one and its children begins. */
  #next(die: Die): number {
    const sibling = die.attributes.get(DW_AT.sibling);
    if (sibling?.kind === 'reference' && sibling.offset >= die.behind && sibling.offset < die.unit.end) {
      return sibling.offset;
    }
    if (!die.hasChildren) return die.behind;
    const cursor = this.#cursor(die.unit, die.behind);
    for (let depth = 1; depth > 0; ) {
      const abbreviation = this.#abbreviation(cursor, die.unit);
      if (abbreviation === undefined) {
        depth--;
        continue;
      }
      const attributes = cursor.position;
      abbreviation.advance(cursor);
      if (!abbreviation.hasChildren) continue;
      if (abbreviation.siblingAt >= 0) {
        const behind = cursor.position;
        cursor.position = attributes + abbreviation.siblingAt;
        const to = die.unit.offset + cursor.u32() - cursor.base;
        if (to < behind) cursor.fail(`the sibling at ${to + cursor.base} is not behind the entry`, attributes);
        cursor.position = to;
      } else if (++depth > depthLimit) {
        cursor.fail(`entries nested deeper than ${depthLimit}`);
      }
    }
    return cursor.offset;
  }

  #read(cursor: Cursor, unit: Unit): Die | undefined {
    const { offset } = cursor;
    const abbreviation = this.#abbreviation(cursor, unit);
    if (abbreviation === undefined) return undefined;
    const attributes = new Map<number, FormValue>();
    for (const { name, form, implicit } of abbreviation.attributes) {
      attributes.set(name, readForm(cursor, form, unit, unit.offset, implicit));
    }
    const { tag, hasChildren } = abbreviation;
    return { offset, unit, tag, attributes, hasChildren, behind: cursor.offset };
  }

  /** The abbreviation of the entry at the cursor; undefined for the null entry that ends a list of children. */
  #abbreviation(cursor: Cursor, unit: Unit): Abbreviation | undefined {
    const start = cursor.position;
    const code = cursor.uleb();
    if (code === 0) return undefined;
    return unit.abbreviations.get(code) ?? cursor.fail(`the abbreviation ${code} is not declared`, start);
  }

  #cursor(unit: UnitHeader, offset: number): Cursor {
    if (offset < unit.firstDie || offset >= unit.end) {
      throw new FormatError(this.units.info.name, offset, `outside of the entries of the unit at ${unit.offset}`);
    }
    const cursor = new Cursor(this.#unitBytes(unit), this.units.info.name, unit.firstDie);
    cursor.position = offset - unit.firstDie;
    return cursor;
  }

  #unitBytes(unit: UnitHeader): Uint8Array {
    let bytes = this.#bytes.get(unit.offset);
    if (bytes === undefined) {
      bytes = this.units.info.read(unit.firstDie, unit.end - unit.firstDie);
      this.#kept += bytes.length;
    } else {
      this.#bytes.delete(unit.offset); // the latest used is the last
    }
    this.#bytes.set(unit.offset, bytes);
    for (const [offset, oldest] of this.#bytes) {
      if (this.#kept <= keptBytes || offset === unit.offset) break;
      this.#bytes.delete(offset);
      this.#kept -= oldest.length;
    }
    return bytes;
  }

  /** Types of units of their own (DW_UT_type, -fdebug-types-section): by signature (7.5.1.3). */
  #typeBySignature(signature: bigint): number | undefined {
    this.#signatures ??= new Map(
      this.units
        .headers()
        .filter(({ type }) => type === DW_UT.type || type === DW_UT.splitType)
        .map((header) => {
          const size = 8 + header.offsetSize;
          const at = header.firstDie - size;
          const cursor = new Cursor(this.units.info.read(at, size), this.units.info.name, at);
          const id = cursor.u64();
          return [id, header.offset + (header.offsetSize === 8 ? cursor.u64AsNumber() : cursor.u32())];
        }),
    );
    return this.#signatures.get(signature);
  }
}
