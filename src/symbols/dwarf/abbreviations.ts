// .debug_abbrev (DWARF 5, 7.5.3): what a DIE of each code consists of.

import { Cursor } from '../../base/bytes.ts';
import type { ByteSource } from '../file.ts';
import { DW_AT, DW_FORM } from './constants.ts';
import { type Encoding, type FormValue, fixedSize, readForm, skipForm } from './forms.ts';

export interface AttributeSpec {
  readonly name: number;
  readonly form: number;
  /** The value of DW_FORM_implicit_const. */
  readonly implicit: bigint;
}

/** One declaration, prepared for one encoding. */
export class Abbreviation {
  /** Bytes of the attributes of every DIE of this code, or -1. Three quarters of a kernel's have a fixed size. */
  readonly size: number;
  /** Where DW_AT_sibling is when everything before it has a fixed size and it is a DW_FORM_ref4; else -1. */
  readonly siblingAt: number;
  /** The same of DW_AT_abstract_origin. */
  readonly originAt: number;
  /** Positive: that many bytes to skip. Negative: minus a form whose size depends on its value. */
  readonly #skips: readonly number[];

  constructor(
    readonly tag: number,
    readonly hasChildren: boolean,
    readonly attributes: readonly AttributeSpec[],
    readonly encoding: Encoding,
    /** Counts up over those of one file: what is known of each is best kept in an array. */
    readonly ordinal: number,
  ) {
    const skips: number[] = [];
    let run = 0;
    let siblingAt = -1;
    let originAt = -1;
    for (const { name, form } of attributes) {
      if (name === DW_AT.sibling && form === DW_FORM.ref4 && skips.length === 0) siblingAt = run;
      if (name === DW_AT.abstractOrigin && form === DW_FORM.ref4 && skips.length === 0) originAt = run;
      const size = fixedSize(form, encoding);
      if (size >= 0) {
        run += size;
      } else {
        if (run > 0) skips.push(run);
        skips.push(-form);
        run = 0;
      }
    }
    this.size = skips.length === 0 ? run : -1;
    if (run > 0) skips.push(run);
    this.#skips = skips;
    this.siblingAt = siblingAt;
    this.originAt = originAt;
  }

  has(name: number): boolean {
    return this.attributes.some((attribute) => attribute.name === name);
  }

  /** Passes over the attributes of a DIE. */
  advance(cursor: Cursor): void {
    if (this.size >= 0) {
      cursor.advance(this.size);
      return;
    }
    for (const step of this.#skips) {
      if (step > 0) cursor.advance(step);
      else skipForm(cursor, -step, this.encoding);
    }
  }

  /** Reads the attributes named; passes over the others. */
  read(cursor: Cursor, unitOffset: number, wanted: ReadonlySet<number>): Map<number, FormValue> {
    const values = new Map<number, FormValue>();
    for (const { name, form, implicit } of this.attributes) {
      if (wanted.has(name)) values.set(name, readForm(cursor, form, this.encoding, unitOffset, implicit));
      else skipForm(cursor, form, this.encoding);
    }
    return values;
  }
}

/** Codes are small and dense in practice; whatever a file says, no array is made larger than this. */
const denseCodes = 1 << 16;

export class AbbreviationTable {
  readonly #dense: (Abbreviation | undefined)[] = [];
  readonly #sparse = new Map<number, Abbreviation>();
  readonly all: readonly Abbreviation[];

  constructor(cursor: Cursor, encoding: Encoding, intern: AbbreviationInterner) {
    const all: Abbreviation[] = [];
    for (let code = cursor.uleb(); code !== 0; code = cursor.uleb()) {
      const abbreviation = intern.read(cursor, encoding);
      all.push(abbreviation);
      // The first declaration counts, as in binutils. Dense arrays stay dense: codes count up from 1.
      if (code === this.#dense.length + 1 && code < denseCodes) this.#dense.push(abbreviation);
      else if (this.get(code) === undefined) this.#sparse.set(code, abbreviation);
    }
    this.all = all;
  }

  get(code: number): Abbreviation | undefined {
    return this.#dense[code - 1] ?? this.#sparse.get(code);
  }
}

/** A kernel declares 320,000 abbreviations of which 8,000 differ: each content is kept once. */
export class AbbreviationInterner {
  /** By a hash of the content. */
  readonly #known = new Map<number, Declaration[]>();
  #count = 0;

  /** Reads a declaration behind its code. */
  read(cursor: Cursor, encoding: Encoding): Abbreviation {
    const start = cursor.position;
    const end = endOfDeclaration(cursor);
    const { bytes } = cursor;
    let hash = encoding.version ^ (encoding.addressSize << 8) ^ (encoding.offsetSize << 16);
    for (let at = start; at < end; at++) hash = Math.imul(hash ^ (bytes[at] ?? 0), 0x0100_0193); // FNV-1a
    let declarations = this.#known.get(hash);
    if (declarations === undefined) {
      declarations = [];
      this.#known.set(hash, declarations);
    }
    for (const { content, abbreviation } of declarations) {
      if (isSame(content, bytes, start, end) && isSameEncoding(abbreviation.encoding, encoding)) return abbreviation;
    }
    cursor.position = start;
    const abbreviation = parse(cursor, encoding, this.#count++);
    cursor.position = end;
    // A file made for it could give all its declarations one hash: beyond a few they are not shared.
    if (declarations.length < 8) declarations.push({ content: bytes.slice(start, end), abbreviation });
    return abbreviation;
  }
}

interface Declaration {
  readonly content: Uint8Array;
  readonly abbreviation: Abbreviation;
}

/** Passes over a declaration behind its code; returns where it ends. */
const endOfDeclaration = (cursor: Cursor): number => {
  cursor.skipLeb(); // tag
  cursor.advance(1); // DW_CHILDREN_no, DW_CHILDREN_yes
  for (;;) {
    const name = cursor.uleb();
    const form = cursor.uleb();
    if (form === DW_FORM.implicitConst) cursor.skipLeb();
    if (name === 0 && form === 0) return cursor.position;
  }
};

const isSame = (content: Uint8Array, bytes: Uint8Array, start: number, end: number): boolean => {
  if (content.length !== end - start) return false;
  for (let at = 0; at < content.length; at++) if (content[at] !== bytes[start + at]) return false;
  return true;
};

const isSameEncoding = (a: Encoding, b: Encoding): boolean =>
  a.version === b.version && a.addressSize === b.addressSize && a.offsetSize === b.offsetSize;

const parse = (cursor: Cursor, encoding: Encoding, ordinal: number): Abbreviation => {
  const tag = cursor.uleb();
  const hasChildren = cursor.u8() !== 0;
  const attributes: AttributeSpec[] = [];
  for (;;) {
    const name = cursor.uleb();
    const form = cursor.uleb();
    const implicit = form === DW_FORM.implicitConst ? cursor.slebBig() : 0n;
    if (name === 0 && form === 0) return new Abbreviation(tag, hasChildren, attributes, encoding, ordinal);
    attributes.push({ name, form, implicit });
  }
};

/** The tables of .debug_abbrev by offset, the latest ones kept. */
export class Abbreviations {
  readonly #interner = new AbbreviationInterner();
  readonly #tables = new Map<string, AbbreviationTable>();
  #bytes: Uint8Array | undefined;

  constructor(readonly section: ByteSource) {}

  tableAt(offset: number, encoding: Encoding): AbbreviationTable {
    const key = `${offset},${encoding.version},${encoding.addressSize},${encoding.offsetSize}`;
    let table = this.#tables.get(key);
    if (table === undefined) {
      table = this.#read(offset, encoding);
      if (this.#tables.size >= 32) this.#tables.clear();
      this.#tables.set(key, table);
    }
    return table;
  }

  #read(offset: number, encoding: Encoding): AbbreviationTable {
    // Where a table ends is known only by reading it, and the section is a few MiB at most: it is kept whole.
    this.#bytes ??= this.section.read(0, this.section.size);
    const cursor = new Cursor(this.#bytes, this.section.name);
    cursor.position = offset;
    return new AbbreviationTable(cursor, encoding, this.#interner);
  }
}
