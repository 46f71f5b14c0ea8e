// Units of .debug_info (DWARF 5, 7.5.1) and their root DIEs: where a unit's code, line program and strings are.

import { Cursor, decodeText } from '../../base/bytes.ts';
import { FormatError } from '../../base/errors.ts';
import type { ByteSource } from '../file.ts';
import { Abbreviations, type AbbreviationTable } from './abbreviations.ts';
import { DW_AT, DW_UT } from './constants.ts';
import { type Encoding, type FormValue, readOffset } from './forms.ts';
import { type AddressRange, listOffset, readRanges } from './ranges.ts';
import type { DwarfSections } from './sections.ts';

/** A unit's header. Offsets are in .debug_info. */
export interface UnitHeader extends Encoding {
  readonly offset: number;
  readonly end: number;
  /** Of the root DIE. */
  readonly firstDie: number;
  readonly abbreviationsAt: number;
  readonly type: number;
}

/** What the root DIE says. */
export interface Unit extends UnitHeader {
  readonly abbreviations: AbbreviationTable;
  readonly name: string | undefined;
  readonly compDir: string | undefined;
  readonly producer: string | undefined;
  readonly language: number | undefined;
  /** Of the line program in .debug_line. */
  readonly stmtList: number | undefined;
  readonly ranges: readonly AddressRange[];
  /** The base of range and location lists. */
  readonly lowPc: bigint;
  readonly strOffsetsBase: number;
  readonly addrBase: number;
  readonly rnglistsBase: number;
  readonly loclistsBase: number;
}

const rootAttributes: ReadonlySet<number> = new Set([
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

/** A unit header has at most 12 + 2 + 1 + 1 + 8 + 8 + 8 bytes. */
const headerBytes = 40;
/** The root DIE of a kernel unit takes about 40 bytes; one with inline strings may take more than this. */
const rootBytes = 512;

export class Units {
  readonly info: ByteSource;
  readonly abbreviations: Abbreviations;
  readonly #roots = new Map<number, Unit>();
  #headers: UnitHeader[] | undefined;
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

  /** The header of the unit that an offset of .debug_info is in. */
  headerContaining(offset: number): UnitHeader {
    const headers = this.headers();
    let begin = 0;
    let end = headers.length;
    while (begin < end) {
      const middle = (begin + end) >>> 1;
      if ((headers[middle]?.offset ?? 0) <= offset) begin = middle + 1;
      else end = middle;
    }
    const header = headers[begin - 1];
    if (header === undefined || offset >= header.end)
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
      if (type === DW_UT.skeleton || type === DW_UT.splitCompile) cursor.skip(8);
      if (type === DW_UT.type || type === DW_UT.splitType) cursor.skip(8 + offsetSize);
    } else {
      abbreviationsAt = readOffset(cursor, encoding);
      addressSize = cursor.u8();
      // DWARF 4, 7.5.1.2: the type units of .debug_types have type_signature and type_offset too.
      if (offset >= this.sections.typesAt) {
        type = DW_UT.type;
        cursor.skip(8 + offsetSize);
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
    this.#index ??= this.#readAranges();
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
    // DWARF 5, 7.26 to 7.28: without a base attribute (split units) the base is behind the section's first header.
    const first = header.offsetSize === 8 ? 16 : 8;
    const base = (attribute: number, otherwise: number): number => sectionOffsetOf(values.get(attribute)) ?? otherwise;
    const context = {
      ...header,
      strOffsetsBase: base(DW_AT.strOffsetsBase, first),
      addrBase: base(DW_AT.addrBase, first),
      rnglistsBase: base(DW_AT.rnglistsBase, first + 4),
      loclistsBase: base(DW_AT.loclistsBase, first + 4),
      lowPc: 0n,
    };
    const lowPc = this.address(values.get(DW_AT.lowPc), context) ?? 0n;
    const unit = { ...context, lowPc };
    const language = values.get(DW_AT.language);
    return {
      ...unit,
      abbreviations,
      name: this.string(values.get(DW_AT.name), unit),
      compDir: this.string(values.get(DW_AT.compDir), unit),
      producer: this.string(values.get(DW_AT.producer), unit),
      language: language?.kind === 'constant' ? Number(language.value) : undefined,
      stmtList: sectionOffsetOf(values.get(DW_AT.stmtList)),
      ranges: this.codeRanges(values, unit),
    };
  }

  // .debug_aranges (6.1.2): unit_length, version 2, debug_info_offset, address_size, segment_selector_size; then tuples
  // (address, length) aligned to twice the address size, ended by (0, 0).
  #readAranges(): UnitRange[] {
    const section = this.sections.find('.debug_aranges');
    if (section === undefined) return [];
    const cursor = new Cursor(section.read(0, section.size), section.name);
    const ranges: UnitRange[] = [];
    while (!cursor.atEnd) {
      const start = cursor.position;
      const first = cursor.u32();
      const offsetSize = first === 0xffff_ffff ? 8 : 4;
      const length = offsetSize === 8 ? cursor.u64AsNumber() : first;
      const end = cursor.position + length;
      if (end > section.size) cursor.fail(`a set of ${length} bytes, ${cursor.remaining} left`, start);
      const version = cursor.u16();
      if (version !== 2) cursor.fail(`version ${version} is not supported`, cursor.position - 2);
      const unit = offsetSize === 8 ? cursor.u64AsNumber() : cursor.u32();
      const addressSize = cursor.u8();
      const segmentSize = cursor.u8();
      if (segmentSize !== 0) cursor.fail('segmented addresses are not supported');
      if (![2, 4, 8].includes(addressSize)) cursor.fail(`addresses of ${addressSize} bytes are not supported`);
      const tuple = 2 * addressSize;
      cursor.position = start + Math.ceil((cursor.position - start) / tuple) * tuple;
      while (cursor.position + tuple <= end) {
        const address = cursor.unsigned(addressSize);
        const size = cursor.unsigned(addressSize);
        if (address === 0n && size === 0n) break;
        if (size !== 0n) ranges.push({ start: address, end: address + size, unit });
      }
      cursor.position = end;
    }
    return sortRanges(ranges);
  }
}

export type RangeContext = UnitHeader & {
  readonly lowPc: bigint;
  readonly addrBase: number;
  readonly rnglistsBase: number;
};

/** A section offset, in the forms of DWARF 2 and 3 as well (data4, data8). */
export const sectionOffsetOf = (value: FormValue | undefined): number | undefined => {
  if (value?.kind === 'sectionOffset') return value.offset;
  return value?.kind === 'constant' ? Number(value.value) : undefined;
};

interface UnitRange extends AddressRange {
  /** Offset of its header. */
  readonly unit: number;
}

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
