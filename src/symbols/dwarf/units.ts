// The units of .debug_info (DWARF 5, 7.5.1): which there are, which has the code at an address, and how their strings,
// addresses and ranges are read.

import { Cursor, decodeText } from '../../base/bytes.ts';
import { FormatError } from '../../base/errors.ts';
import type { ByteSource } from '../file.ts';
import { Abbreviations } from './abbreviations.ts';
import { readAranges, type UnitRange } from './aranges.ts';
import { DW_AT, DW_UT } from './constants.ts';
import { type FormValue, readOffset } from './forms.ts';
import { type AddressRange, listOffset, readRanges } from './ranges.ts';
import type { DwarfSections } from './sections.ts';
import { rootAttributes, sectionOffsetOf, Unit, type UnitHeader } from './unit.ts';

/** A unit header has at most 12 + 2 + 1 + 1 + 8 + 8 + 8 bytes. */
const headerBytes = 40;
/** The root DIE of a kernel unit takes about 40 bytes; one with inline strings may take more than this. */
const rootBytes = 512;

export class Units {
  readonly info: ByteSource;
  readonly abbreviations: Abbreviations;
  readonly #roots = new Map<number, Unit>();
  #headers: UnitHeader[] | undefined;
  #starts: Uint32Array | Float64Array | undefined;
  #index: UnitRange[] | undefined;
  #indexIsComplete = false;

  constructor(readonly sections: DwarfSections) {
    this.info = sections.get('.debug_info');
    this.abbreviations = new Abbreviations(sections.get('.debug_abbrev'));
  }

  /** The headers of all units, in the order of the section. */
  headers(): readonly UnitHeader[] {
    return this.#headers ?? [...this.eachHeader()];
  }

  /** The same one by one: who peeks at each unit has the next header for nothing. */
  *eachHeader(): Generator<UnitHeader> {
    if (this.#headers !== undefined) {
      yield* this.#headers;
      return;
    }
    const headers: UnitHeader[] = [];
    for (let offset = 0; offset < this.info.size; ) {
      const header = this.headerAt(offset);
      headers.push(header);
      yield header;
      offset = header.end;
    }
    this.#headers = headers;
  }

  /** Offsets of headers that an earlier session found, ascending: a unit is then found without reading them all. */
  expect(starts: Uint32Array): void {
    this.#starts = starts;
  }

  /** The header of the unit that an offset of .debug_info is in. */
  headerContaining(offset: number): UnitHeader {
    const starts = this.#starts ?? Float64Array.from(this.headers(), (header) => header.offset);
    this.#starts = starts;
    let begin = 0;
    let end = starts.length;
    while (begin < end) {
      const middle = (begin + end) >>> 1;
      if ((starts[middle] ?? 0) <= offset) begin = middle + 1;
      else end = middle;
    }
    const start = starts[begin - 1];
    const header = start === undefined ? undefined : (this.#headers?.[begin - 1] ?? this.headerAt(start));
    if (header === undefined || offset < header.offset || offset >= header.end)
      throw new FormatError(this.info.name, offset, 'outside of all units');
    return header;
  }

  headerAt(offset: number): UnitHeader {
    const available = this.info.size - offset;
    const cursor = new Cursor(this.info.read(offset, Math.min(headerBytes, available)), this.info.name, offset);
    const first = cursor.u32();
    // 7.4: 0xffffffff announces the 64-bit format, 0xfffffff0 and above are reserved.
    const offsetSize = first === 0xffff_ffff ? 8 : 4;
    if (first >= 0xffff_fff0 && offsetSize === 4) cursor.fail(`the reserved length 0x${first.toString(16)}`, 0);
    const length = offsetSize === 8 ? cursor.u64AsNumber() : first;
    const end = cursor.offset + length;
    if (end > this.info.size) cursor.fail(`a unit of ${length} bytes, ${this.info.size - cursor.offset} left`, 0);
    const version = cursor.u16();
    if (version < 2 || version > 5) cursor.fail(`the DWARF version ${version} is not supported`, cursor.position - 2);
    let type: number = DW_UT.compile;
    let addressSize: number;
    let abbreviationsAt: number;
    const encoding = { version, offsetSize, addressSize: 8 };
    if (version >= 5) {
      type = cursor.u8();
      addressSize = cursor.u8();
      abbreviationsAt = readOffset(cursor, encoding);
      // 7.5.1.2: dwo_id; 7.5.1.3: type_signature and type_offset.
      if (type === DW_UT.skeleton || type === DW_UT.splitCompile) cursor.advance(8);
      if (type === DW_UT.type || type === DW_UT.splitType) cursor.advance(8 + offsetSize);
    } else {
      abbreviationsAt = readOffset(cursor, encoding);
      addressSize = cursor.u8();
      // DWARF 4, 7.5.1.2: the type units of .debug_types have type_signature and type_offset too.
      if (offset >= this.sections.typesAt) {
        type = DW_UT.type;
        cursor.advance(8 + offsetSize);
      }
    }
    if (![2, 4, 8].includes(addressSize)) cursor.fail(`addresses of ${addressSize} bytes are not supported`);
    if (cursor.offset > end) cursor.fail(`a unit of ${length} bytes, less than its header`, 0);
    return { offset, end, firstDie: cursor.offset, abbreviationsAt, type, version, offsetSize, addressSize };
  }

  /** The unit whose header is at an offset. */
  at(offset: number): Unit {
    let unit = this.#roots.get(offset);
    if (unit === undefined) {
      unit = this.#readRoot(this.headerAt(offset));
      // An abbreviation table hangs on each: some, not all, are kept.
      if (this.#roots.size >= 64) this.#roots.clear();
      this.#roots.set(offset, unit);
    }
    return unit;
  }

  /** The unit that holds the code at an address. */
  containing(address: bigint): Unit | undefined {
    this.#index ??= sortRanges(readAranges(this.sections));
    let found = lookUp(this.#index, address);
    if (found === undefined && !this.#indexIsComplete) {
      // Clang writes no .debug_aranges, and a linker may keep those of some objects only: ask the units themselves.
      const known = new Set(this.#index.map((range) => range.unit));
      const extra: UnitRange[] = [];
      for (const header of this.headers()) {
        if (known.has(header.offset) || header.type === DW_UT.type) continue;
        for (const { start, end } of this.#readRoot(header).ranges) extra.push({ start, end, unit: header.offset });
      }
      this.#index = sortRanges([...this.#index, ...extra]);
      this.#indexIsComplete = true;
      found = lookUp(this.#index, address);
    }
    return found === undefined ? undefined : this.at(found);
  }

  /** Compilation directories by the offset of the unit's line program. Reads the root of every unit; a damaged one has none. */
  directories(): ReadonlyMap<number, string> {
    const directories = new Map<number, string>();
    for (const header of this.headers()) {
      if (header.type === DW_UT.type) continue;
      try {
        const { stmtList, compDir } = this.#readRoot(header);
        if (stmtList !== undefined && compDir !== undefined) directories.set(stmtList, compDir);
      } catch (error) {
        if (!(error instanceof FormatError)) throw error;
      }
    }
    return directories;
  }

  /** A string attribute's value; undefined for one of a supplementary file, which is not read. */
  string(value: FormValue | undefined, unit: UnitHeader & { readonly strOffsetsBase: number }): string | undefined {
    switch (value?.kind) {
      case 'text':
        return decodeText(value.bytes);
      case 'stringOffset':
        if (value.section === 'supplementary') return undefined;
        return this.sections.string(value.section === 'str' ? '.debug_str' : '.debug_line_str', value.offset);
      case 'index':
        if (value.of !== 'string') return undefined;
        return this.sections.string('.debug_str', this.sections.stringOffset(unit.strOffsetsBase, value.index, unit));
      default:
        return undefined;
    }
  }

  /** An address attribute's value. */
  address(value: FormValue | undefined, unit: UnitHeader & { readonly addrBase: number }): bigint | undefined {
    if (value?.kind === 'address') return value.value;
    if (value?.kind === 'index' && value.of === 'address') {
      return this.sections.address(unit.addrBase, value.index, unit);
    }
    return undefined;
  }

  /** The code of a DIE, from DW_AT_ranges or DW_AT_low_pc and DW_AT_high_pc (2.17). Empty when it has none. */
  codeRanges(values: ReadonlyMap<number, FormValue>, unit: RangeContext): AddressRange[] {
    const ranges = values.get(DW_AT.ranges);
    if (ranges !== undefined) {
      const offset =
        ranges.kind === 'index'
          ? listOffset(this.sections, '.debug_rnglists', unit, unit.rnglistsBase, ranges.index)
          : sectionOffsetOf(ranges);
      if (offset === undefined) return [];
      return readRanges(this.sections, unit, offset, { address: unit.lowPc, addrBase: unit.addrBase });
    }
    const start = this.address(values.get(DW_AT.lowPc), unit);
    const high = values.get(DW_AT.highPc);
    if (start === undefined || high === undefined) return [];
    // Since DWARF 4 a constant is the size (2.17.2).
    const end = high.kind === 'constant' ? start + high.value : this.address(high, unit);
    return end !== undefined && end > start ? [{ start, end }] : [];
  }

  #readRoot(header: UnitHeader): Unit {
    const abbreviations = this.abbreviations.tableAt(header.abbreviationsAt, header);
    const length = header.end - header.firstDie;
    const start = new Cursor(this.info.read(header.firstDie, Math.min(length, 10)), this.info.name, header.firstDie);
    const code = start.uleb();
    const abbreviation = abbreviations.get(code);
    if (abbreviation === undefined) return start.fail(`the abbreviation ${code} is not declared`, 0);
    const available = length - start.position;
    const size = abbreviation.size >= 0 ? abbreviation.size : rootBytes;
    const read = (bytes: number): Map<number, FormValue> =>
      abbreviation.read(
        new Cursor(this.info.read(start.offset, Math.min(bytes, available)), this.info.name, start.offset),
        header.offset,
        rootAttributes,
      );
    let values: Map<number, FormValue>;
    try {
      values = read(size);
    } catch (error) {
      if (size >= available || abbreviation.size >= 0) throw error;
      values = read(available); // a root DIE with long inline strings
    }
    return new Unit(this, header, abbreviations, values);
  }
}

export type RangeContext = UnitHeader & {
  readonly lowPc: bigint;
  readonly addrBase: number;
  readonly rnglistsBase: number;
};

const sortRanges = (ranges: UnitRange[]): UnitRange[] =>
  ranges.sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0));

const lookUp = (ranges: readonly UnitRange[], address: bigint): number | undefined => {
  let begin = 0;
  let end = ranges.length;
  while (begin < end) {
    const middle = (begin + end) >>> 1;
    if ((ranges[middle]?.start ?? 0n) <= address) begin = middle + 1;
    else end = middle;
  }
  const range = ranges[begin - 1];
  return range !== undefined && address < range.end ? range.unit : undefined;
};
