// Location lists: .debug_loclists (DWARF 5, 2.6.2 and 7.7.3), .debug_loc before (DWARF 4, 2.6.2).

import type { Cursor } from '../../base/bytes.ts';
import type { FormValue } from './forms.ts';
import { entryBytes, listOffset, type RangeBases, withList } from './ranges.ts';
import type { DwarfSections } from './sections.ts';
import { sectionOffsetOf, type Unit } from './unit.ts';

/** The expression that holds for the code in [start, end). Link-time addresses. */
export interface LocationEntry {
  readonly start: bigint;
  readonly end: bigint;
  readonly expression: Uint8Array;
}

// DW_LLE_* (7.7.3; 9 is GNU's, location views)
//   0 end_of_list    1 base_addressx   2 startx_endx    3 startx_length   4 offset_pair
//   5 default_location   6 base_address   7 start_end   8 start_length    9 GNU_view_pair
const DW_LLE = {
  endOfList: 0,
  baseAddressx: 1,
  startxEndx: 2,
  startxLength: 3,
  offsetPair: 4,
  defaultLocation: 5,
  baseAddress: 6,
  startEnd: 7,
  startLength: 8,
  gnuViewPair: 9,
} as const;

const everywhere = { start: 0n, end: (1n << 64n) - 1n } as const;

/** Every place a location attribute gives: of a list, or the one expression that holds everywhere. */
export function locationEntries(
  sections: DwarfSections,
  unit: Unit,
  value: FormValue | undefined,
): readonly LocationEntry[] {
  if (value === undefined) return [];
  if (value.kind === 'bytes') return [{ ...everywhere, expression: value.bytes }];
  const offset =
    value.kind === 'index' && value.of === 'loclist'
      ? listOffset(sections, '.debug_loclists', unit, unit.loclistsBase, value.index)
      : sectionOffsetOf(value);
  if (offset === undefined) return [];
  const bases = { address: unit.lowPc, addrBase: unit.addrBase };
  return unit.version >= 5 ? readLoclist(sections, unit, offset, bases) : readOldList(sections, unit, offset, bases);
}

/** The entry that holds at an address. A default location holds where no other does (2.6.2). */
export const entryAt = (entries: readonly LocationEntry[], pc: bigint): LocationEntry | undefined => {
  const holding = entries.filter(({ start, end }) => pc >= start && pc < end);
  return holding.find(({ end }) => end !== everywhere.end) ?? holding[0];
};

function readLoclist(sections: DwarfSections, unit: Unit, offset: number, bases: RangeBases): LocationEntry[] {
  const section = sections.get('.debug_loclists');
  const size = unit.addressSize;
  const indexed = (cursor: Cursor): bigint => sections.address(bases.addrBase, cursor.uleb(), unit);
  return withList(sections, section.name, offset, (cursor) => {
    const complete = cursor.base + cursor.bytes.length >= section.size;
    const entries: LocationEntry[] = [];
    let base = bases.address;
    for (;;) {
      if (!complete && cursor.remaining < entryBytes) return undefined;
      const at = cursor.position;
      let start = 0n;
      let end = 0n;
      const kind = cursor.u8();
      switch (kind) {
        case DW_LLE.endOfList:
          return entries;
        case DW_LLE.baseAddressx:
          base = indexed(cursor);
          continue;
        case DW_LLE.baseAddress:
          base = cursor.unsigned(size);
          continue;
        case DW_LLE.gnuViewPair:
          // Which of several places at one address is meant; an address is all a debugger has.
          cursor.skipLeb();
          cursor.skipLeb();
          continue;
        case DW_LLE.startxEndx:
          start = indexed(cursor);
          end = indexed(cursor);
          break;
        case DW_LLE.startxLength:
          start = indexed(cursor);
          end = start + cursor.ulebBig();
          break;
        case DW_LLE.offsetPair:
          start = base + cursor.ulebBig();
          end = base + cursor.ulebBig();
          break;
        case DW_LLE.defaultLocation:
          ({ start, end } = everywhere);
          break;
        case DW_LLE.startEnd:
          start = cursor.unsigned(size);
          end = cursor.unsigned(size);
          break;
        case DW_LLE.startLength:
          start = cursor.unsigned(size);
          end = start + cursor.ulebBig();
          break;
        default:
          cursor.fail(`the location list entry kind ${kind} is unknown`, at);
      }
      const length = cursor.uleb();
      if (!complete && cursor.remaining < length) return undefined;
      const expression = cursor.take(length);
      if (end > start) entries.push({ start, end, expression });
    }
  });
}

// Pairs of addresses; (0, 0) ends the list, a first address of all ones sets the base. Behind any other pair: the
// expression, with its length in two bytes.
function readOldList(sections: DwarfSections, unit: Unit, offset: number, bases: RangeBases): LocationEntry[] {
  const section = sections.get('.debug_loc');
  const size = unit.addressSize;
  const selectBase = (1n << BigInt(size * 8)) - 1n;
  return withList(sections, section.name, offset, (cursor) => {
    const complete = cursor.base + cursor.bytes.length >= section.size;
    const entries: LocationEntry[] = [];
    let base = bases.address;
    for (;;) {
      if (!complete && cursor.remaining < entryBytes) return undefined;
      const start = cursor.unsigned(size);
      const end = cursor.unsigned(size);
      if (start === 0n && end === 0n) return entries;
      if (start === selectBase) {
        base = end;
        continue;
      }
      const length = cursor.u16();
      if (!complete && cursor.remaining < length) return undefined;
      const expression = cursor.take(length);
      if (end > start) entries.push({ start: base + start, end: base + end, expression });
    }
  });
}
