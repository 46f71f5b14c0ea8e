// .debug_aranges (DWARF 5, 6.1.2): which unit has the code at an address.

import { Cursor } from '../../base/bytes.ts';
import type { AddressRange } from './ranges.ts';
import type { DwarfSections } from './sections.ts';

/** Code of one unit. */
export interface UnitRange extends AddressRange {
  /** Offset of its header in .debug_info. */
  readonly unit: number;
}

/** The ranges of all sets, in the order of the section. Sets: unit_length, version 2, debug_info_offset, address_size,
 *  segment_selector_size; then tuples (address, length) aligned to twice the address size, ended by (0, 0). */
export const readAranges = (sections: DwarfSections): UnitRange[] => {
  const section = sections.find('.debug_aranges');
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
  return ranges;
};
