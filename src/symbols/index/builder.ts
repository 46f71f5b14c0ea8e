// Collects the names of an image and writes them as an index.
//
// Headers repeat their types in every unit that includes them: a kernel has five million complete types, of which some
// ten thousand differ. Of those of one name, tag, size and line of declaration the first is kept; a unit's own are found
// in the unit (UnitNames). Functions and variables are all kept: each is code or storage of its own.

import type { Dies } from '../dwarf/dies.ts';
import { FileTable } from '../dwarf/fileTable.ts';
import { lineHeaders } from '../dwarf/line.ts';
import type { DwarfSections } from '../dwarf/sections.ts';
import { sortedOrder } from '../sortedOrder.ts';
import { baseNameOf } from '../sourcePaths.ts';
import { type EntryTable, entryTables, type IndexTable, writeIndex } from './layout.ts';
import { hashOf } from './nameHash.ts';
import { type NameReference, NameScan, type NameSink, type TypeIdentity } from './scan.ts';

/** Units read and units in all. */
export type Progress = (done: number, total: number) => void;

/** Units between two calls of Progress. */
const progressStep = 64;

/** The bytes of the index of an image, for layout.ts to read. Offsets of 4 GiB and more are left out: nobody's
 *  .debug_info is as large. */
export const buildIndex = (dies: Dies, key: string, progress: Progress = () => undefined): Uint8Array => {
  const scan = new NameScan(dies);
  const collector = new Collector();
  const headers = dies.units.headers();
  const indexed = headers.filter(({ end }) => end <= 0xffff_ffff);
  indexed.forEach((header, index) => {
    scan.unit(header, collector);
    if ((index + 1) % progressStep === 0) progress(index + 1, indexed.length);
  });
  progress(indexed.length, indexed.length);
  return writeIndex(key, {
    tables: { ...collector.tables(scan), files: filesOf(dies.units.sections) },
    units: indexed.length < headers.length ? new Uint32Array(0) : Uint32Array.from(headers, ({ offset }) => offset),
  });
};

/** Pairs of a name and an entry, in the order of the section. */
class Pairs {
  names = new Int32Array(1024);
  entries = new Uint32Array(1024);
  count = 0;

  push(name: number, entry: number): void {
    if (this.count === this.names.length) {
      const { names, entries } = this;
      this.names = new Int32Array(this.count * 2);
      this.names.set(names);
      this.entries = new Uint32Array(this.count * 2);
      this.entries.set(entries);
    }
    this.names[this.count] = name;
    this.entries[this.count++] = entry;
  }
}

class Collector implements NameSink {
  readonly #pairs = {
    functions: new Pairs(),
    variables: new Pairs(),
    types: new Pairs(),
    enumerators: new Pairs(),
  };
  readonly #seen = new SeenTypes();
  /** The first declaration of each variable. */
  readonly #declared = new Map<NameReference, number>();

  function(name: NameReference, die: number): void {
    this.#pairs.functions.push(name, die);
  }
  variable(name: NameReference, die: number): void {
    this.#pairs.variables.push(name, die);
  }
  declaredVariable(name: NameReference, die: number): void {
    if (!this.#declared.has(name)) this.#declared.set(name, die);
  }
  type(name: NameReference, die: number, identity: TypeIdentity): void {
    if (this.#seen.add(name, identity)) this.#pairs.types.push(name, die);
  }
  enumeration(name: NameReference | undefined, first: NameReference, die: number, identity: TypeIdentity): boolean {
    // Of two enumerations without a tag the first enumerators differ.
    if (!this.#seen.add(name ?? first, identity)) return false;
    if (name !== undefined) this.#pairs.types.push(name, die);
    return true;
  }
  enumerator(name: NameReference, enumeration: number): void {
    this.#pairs.enumerators.push(name, enumeration);
  }

  tables(scan: NameScan): Readonly<Record<EntryTable, IndexTable>> {
    // Names of several kinds, and of several units where .debug_str is not merged, are hashed once for each reference.
    const hashes = new Map<NameReference, number>();
    const hash = (name: NameReference): number => {
      let known = hashes.get(name);
      if (known === undefined) {
        known = scan.hash(name);
        hashes.set(name, known);
      }
      return known;
    };
    const { variables } = this.#pairs;
    const defined = new Set(variables.names.subarray(0, variables.count));
    for (const [name, die] of this.#declared) if (!defined.has(name)) variables.push(name, die);
    const tables = entryTables.map((table) => {
      const { names, entries, count } = this.#pairs[table];
      return [table, tableOf(Uint32Array.from(names.subarray(0, count), hash), entries)];
    });
    return Object.fromEntries(tables) as Record<EntryTable, IndexTable>;
  }
}

const tableOf = (hashes: Uint32Array, entries: Uint32Array): IndexTable => {
  const order = sortedOrder(hashes);
  return { hashes: order.map((at) => hashes[at] ?? 0), entries: order.map((at) => entries[at] ?? 0) };
};

/** The last components of all source files, each once for a line program. */
const filesOf = (sections: DwarfSections): IndexTable => {
  const pairs = new Pairs();
  // Most names are in .debug_line_str, and in a thousand tables.
  const known = new Map<number, number>();
  for (const header of lineHeaders(sections)) {
    if (header.offset > 0xffff_ffff) break;
    const table = FileTable.read(sections, header);
    const hashOfName = (name: number): number => {
      let hash = name < 0 ? undefined : known.get(name);
      if (hash === undefined) {
        hash = hashOf(baseNameOf(table.text(name)));
        if (name >= 0) known.set(name, hash);
      }
      return hash;
    };
    for (const hash of new Set(Array.from(table.files.names, hashOfName))) pairs.push(hash, header.offset);
  }
  return tableOf(Uint32Array.from(pairs.names.subarray(0, pairs.count)), pairs.entries);
};

/** A set of (name, identity). Millions are asked for, so it is no Set of strings or objects. */
class SeenTypes {
  #names = new Int32Array(1 << 16);
  #marks = new Uint32Array(1 << 16); // 0: free
  #count = 0;

  /** false: it was there. The identity counts as a hash of 32 bits: two definitions of one name with the same would be
   *  taken for one, and only outside of their own units. */
  add(name: NameReference, { tag, size, line }: TypeIdentity): boolean {
    let mark = Math.imul(tag ^ 0x9e37_79b9, 0x85eb_ca6b) ^ size;
    mark = Math.imul(mark ^ (mark >>> 15), 0xc2b2_ae35) ^ line;
    mark = Math.imul(mark ^ (mark >>> 13), 0x27d4_eb2f) >>> 0 || 1;
    if (!this.#insert(name, mark)) return false;
    if (++this.#count * 2 > this.#marks.length) this.#grow();
    return true;
  }

  #insert(name: number, mark: number): boolean {
    const mask = this.#marks.length - 1;
    const hash = Math.imul(name, 0x9e37_79b1) ^ mark;
    for (let at = (hash ^ (hash >>> 15)) & mask; ; at = (at + 1) & mask) {
      const known = this.#marks[at];
      if (known === 0) {
        this.#names[at] = name;
        this.#marks[at] = mark;
        return true;
      }
      if (known === mark && this.#names[at] === name) return false;
    }
  }

  #grow(): void {
    const names = this.#names;
    const marks = this.#marks;
    this.#names = new Int32Array(names.length * 2);
    this.#marks = new Uint32Array(names.length * 2);
    marks.forEach((mark, at) => {
      if (mark !== 0) this.#insert(names[at] ?? 0, mark);
    });
  }
}
