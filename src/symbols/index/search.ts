// Finding names without an index: the units that may have one are found by the bytes of its reference, and only those
// are walked. A tenth of a second for a kernel, so breakpoints and the command do not wait for an index.

import { FormatError } from '../../base/errors.ts';
import type { UnitHeader } from '../dwarf/unit.ts';
import type { Units } from '../dwarf/units.ts';
import { stringOffsets } from '../elfSymbols.ts';
import type { EntryTable } from './layout.ts';
import type { NameReference, NameScan, NameSink } from './scan.ts';

export class NameSearch {
  readonly #units: Units;

  constructor(readonly scan: NameScan) {
    this.#units = scan.dies.units;
  }

  /** Offsets in .debug_info of what the units have under a name, in the order of the section, unit by unit. A damaged unit
   *  hides nothing of the others; its FormatError is thrown when they have nothing. */
  *find(table: EntryTable, name: string): Generator<number[]> {
    const sink = this.#sink(table, name);
    let any = false;
    let damage: FormatError | undefined;
    for (const header of this.#unitsNaming(name, sink.offsets)) {
      try {
        this.#in(header, sink);
      } catch (error) {
        if (!(error instanceof FormatError)) throw error;
        damage ??= error;
      }
      const { found } = sink; // in front of the damage, too
      any ||= found.length > 0;
      if (found.length > 0) yield found;
    }
    if (!any && sink.declared !== undefined) yield [sink.declared];
    else if (!any && damage !== undefined) throw damage;
  }

  /** The same of one unit. */
  inUnit(table: EntryTable, name: string, header: UnitHeader): number[] {
    return this.#in(header, this.#sink(table, name));
  }

  #in(header: UnitHeader, sink: OneName): number[] {
    sink.found = [];
    this.scan.unit(header, sink);
    return sink.found;
  }

  #sink(table: EntryTable, name: string): OneName {
    const { sections } = this.#units;
    const offsets = sections.has('.debug_str') ? stringOffsets(sections.whole('.debug_str'), name) : new Set<number>();
    return new OneName(this.scan, table, name, offsets);
  }

  *#unitsNaming(name: string, offsets: ReadonlySet<number>): Generator<UnitHeader> {
    const { info, sections } = this.#units;
    // Compilers put names into .debug_str unless they are shorter than a reference to it. The text of a long name is
    // therefore searched for only when it is not there.
    const isText = offsets.size === 0 || name.length < 8;
    const text = Buffer.from(`${name}\0`);
    // Names by index (clang's DW_FORM_strx) cannot be searched for as bytes.
    const isSearchable = !sections.has('.debug_str_offsets');
    let needles: readonly Needle[] | undefined;
    for (const header of this.#units.eachHeader()) {
      if (isSearchable) {
        const bytes = info.peek(header.firstDie, header.end - header.firstDie);
        const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
        needles ??= [...offsets].map((offset) => new Needle(offset, buffer));
        if (!needles.some((needle) => needle.isIn(buffer)) && !(isText && buffer.includes(text))) continue;
      }
      yield header;
    }
  }
}

/** A reference to .debug_str as the bytes of a unit have it. */
class Needle {
  readonly #tail: Buffer;
  readonly #head: Buffer;

  /** `sample`: what the bytes to be searched are like. A search stops at every place of its first byte, so it begins
   *  with the rarest. */
  constructor(offset: number, sample: Buffer) {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(offset);
    const counts = new Uint32Array(256);
    for (let at = 0; at < Math.min(sample.length, sampleBytes); at++) {
      const value = sample[at] ?? 0;
      counts[value] = (counts[value] ?? 0) + 1;
    }
    // Never the last two: with one byte more there would be too many places to look at.
    const countAt = (at: number): number => counts[bytes[at] ?? 0] ?? 0;
    const first = countAt(1) < countAt(0) ? 1 : 0;
    this.#head = bytes.subarray(0, first);
    this.#tail = bytes.subarray(first);
  }

  isIn(bytes: Buffer): boolean {
    const length = this.#head.length;
    for (let at = bytes.indexOf(this.#tail, length); at >= 0; at = bytes.indexOf(this.#tail, at + 1)) {
      if (bytes.subarray(at - length, at).equals(this.#head)) return true;
    }
    return false;
  }
}

const sampleBytes = 1 << 16;

/** Keeps what has one name. */
class OneName implements NameSink {
  found: number[] = [];
  /** The first declaration of a variable of that name. */
  declared: number | undefined;

  constructor(
    readonly scan: NameScan,
    readonly table: EntryTable,
    readonly text: string,
    /** Where the name is in .debug_str. */
    readonly offsets: ReadonlySet<number>,
  ) {}

  function(name: NameReference, die: number): void {
    if (this.table === 'functions' && this.#is(name)) this.found.push(die);
  }
  variable(name: NameReference, die: number): void {
    if (this.table === 'variables' && this.#is(name)) this.found.push(die);
  }
  declaredVariable(name: NameReference, die: number): void {
    if (this.table === 'variables' && this.#is(name)) this.declared ??= die;
  }
  type(name: NameReference, die: number): void {
    if (this.table === 'types' && this.#is(name)) this.found.push(die);
  }
  enumeration(name: NameReference | undefined, _first: NameReference, die: number): boolean {
    if (name !== undefined) this.type(name, die);
    return this.table === 'enumerators';
  }
  enumerator(name: NameReference, enumeration: number): void {
    if (this.table === 'enumerators' && this.#is(name)) this.found.push(enumeration);
  }

  #is(name: NameReference): boolean {
    return name >= 0 ? this.offsets.has(name) : this.scan.texts[-1 - name] === this.text;
  }
}
