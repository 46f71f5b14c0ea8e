// Non-contiguous address ranges: .debug_rnglists (DWARF 5, 2.17.3 and 7.25), .debug_ranges before (DWARF 4, 2.17.3).

import { Cursor } from '../../base/bytes.ts';
import type { Encoding } from './forms.ts';
import type { DwarfSections } from './sections.ts';

/** [start, end). */
export interface AddressRange {
  readonly start: bigint;
  readonly end: bigint;
}

export interface RangeBases {
  /** DW_AT_low_pc of the unit: what base-relative entries start from. */
  readonly address: bigint;
  /** DW_AT_addr_base. */
  readonly addrBase: number;
}

// DW_RLE_* (7.25):
//   0 end_of_list     1 base_addressx   2 startx_endx   3 startx_length
//   4 offset_pair     5 base_address    6 start_end     7 start_length
const DW_RLE = {
  endOfList: 0,
  baseAddressx: 1,
  startxEndx: 2,
  startxLength: 3,
  offsetPair: 4,
  baseAddress: 5,
  startEnd: 6,
  startLength: 7,
} as const;

export const readRanges = (
  sections: DwarfSections,
  encoding: Encoding,
  offset: number,
  bases: RangeBases,
): AddressRange[] =>
  encoding.version >= 5
    ? readRnglist(sections, encoding, offset, bases)
    : readOldRanges(sections, encoding, offset, bases.address);

/** The offset in .debug_rnglists of a DW_FORM_rnglistx, in .debug_loclists of a DW_FORM_loclistx: the offset table is at
 *  `base`, and its entries count from it. */
export const listOffset = (
  sections: DwarfSections,
  name: '.debug_rnglists' | '.debug_loclists',
  encoding: Encoding,
  base: number,
  index: number,
): number => {
  const at = base + index * encoding.offsetSize;
  const cursor = new Cursor(sections.get(name).read(at, encoding.offsetSize), name, at);
  return base + (encoding.offsetSize === 8 ? cursor.u64AsNumber() : cursor.u32());
};

// A list says where it ends, not how long it is: read a likely length, and again with more if the list goes on.
const listBytes = 256;

/** Reads a list with `read`, which returns undefined when the bytes it was given are too few. */
export const withList = <T>(
  sections: DwarfSections,
  name: string,
  offset: number,
  read: (cursor: Cursor) => T | undefined,
): T => {
  const section = sections.get(name);
  const available = section.size - offset;
  for (let length = listBytes; ; length *= 16) {
    const cursor = new Cursor(section.read(offset, Math.max(0, Math.min(length, available))), name, offset);
    const result = read(cursor);
    if (result !== undefined) return result;
    if (length >= available) cursor.fail('a list without an end', 0);
  }
};

/** Ranges of one list, and of all scopes of one unit: a list is a few bytes to refer to, and millions to read. */
export const rangeLimit = 1 << 20;

/** No entry is longer, but for the expression of a location. */
export const entryBytes = 32;

const readRnglist = (
  sections: DwarfSections,
  encoding: Encoding,
  offset: number,
  bases: RangeBases,
): AddressRange[] => {
  const size = encoding.addressSize;
  const indexed = (cursor: Cursor): bigint => sections.address(bases.addrBase, cursor.uleb(), encoding);
  const section = sections.get('.debug_rnglists');
  return withList(sections, section.name, offset, (cursor) => {
    const complete = cursor.base + cursor.bytes.length >= section.size;
    const ranges: AddressRange[] = [];
    let base = bases.address;
    const add = (start: bigint, end: bigint): void => {
      if (end > start) ranges.push({ start, end });
      if (ranges.length > rangeLimit) cursor.fail(`a list of more than ${rangeLimit} ranges`);
    };
    for (;;) {
      if (!complete && cursor.remaining < entryBytes) return undefined;
      const at = cursor.position;
      const kind = cursor.u8();
      switch (kind) {
        case DW_RLE.endOfList:
          return ranges;
        case DW_RLE.baseAddressx:
          base = indexed(cursor);
          break;
        case DW_RLE.startxEndx: {
          const start = indexed(cursor);
          add(start, indexed(cursor));
          break;
        }
        case DW_RLE.startxLength: {
          const start = indexed(cursor);
          add(start, start + cursor.ulebBig());
          break;
        }
        case DW_RLE.offsetPair: {
          const start = base + cursor.ulebBig();
          add(start, base + cursor.ulebBig());
          break;
        }
        case DW_RLE.baseAddress:
          base = cursor.unsigned(size);
          break;
        case DW_RLE.startEnd: {
          const start = cursor.unsigned(size);
          add(start, cursor.unsigned(size));
          break;
        }
        case DW_RLE.startLength: {
          const start = cursor.unsigned(size);
          add(start, start + cursor.ulebBig());
          break;
        }
        default:
          cursor.fail(`the range list entry kind ${kind} is unknown`, at);
      }
    }
  });
};

const readOldRanges = (
  sections: DwarfSections,
  encoding: Encoding,
  offset: number,
  unitBase: bigint,
): AddressRange[] => {
  const size = encoding.addressSize;
  const selectBase = (1n << BigInt(size * 8)) - 1n;
  const section = sections.get('.debug_ranges');
  return withList(sections, section.name, offset, (cursor) => {
    const complete = cursor.base + cursor.bytes.length >= section.size;
    const ranges: AddressRange[] = [];
    let base = unitBase;
    for (;;) {
      if (!complete && cursor.remaining < entryBytes) return undefined;
      const start = cursor.unsigned(size);
      const end = cursor.unsigned(size);
      if (start === 0n && end === 0n) return ranges;
      if (start === selectBase) base = end;
      else if (end > start) ranges.push({ start: base + start, end: base + end });
      if (ranges.length > rangeLimit) cursor.fail(`a list of more than ${rangeLimit} ranges`);
    }
  });
};
