// Entries of a symbol table in one form, whatever the class and type of the file (gABI, "Symbol Table").

import { Cursor } from '../base/bytes.ts';
import { FormatError } from '../base/errors.ts';
import type { SectionHeader } from './elfHeaders.ts';
import type { ByteSource } from './file.ts';

/** Elf64_Sym: st_name u32, st_info u8 (bind << 4 | type), st_other u8, st_shndx u16, st_value u64, st_size u64. */
export const symbolEntryBytes = 24;
// Elf32_Sym: st_name u32, st_value u32, st_size u32, st_info u8, st_other u8, st_shndx u16.
const entryBytes32 = 16;

const SHN_UNDEF = 0;
/** And above: SHN_ABS, SHN_COMMON, … */
export const SHN_LORESERVE = 0xff00;

/** The entries as Elf64_Sym, a copy. `sections`: those of a relocatable file, from whose addresses values count; in other
 *  files values are addresses as they stand. */
export const symbolEntries = (
  table: ByteSource,
  addressSize: 4 | 8,
  sections?: readonly SectionHeader[],
): Uint8Array => {
  const bytes = table.read(0, table.size);
  const entries = addressSize === 8 ? bytes : widened(bytes, table.name);
  if (sections !== undefined) addSectionAddresses(table.name, sections, entries);
  return entries;
};

const widened = (bytes: Uint8Array, name: string): Uint8Array => {
  const count = Math.floor(bytes.length / entryBytes32);
  const entries = new Uint8Array(count * symbolEntryBytes);
  const view = new DataView(entries.buffer);
  const cursor = new Cursor(bytes, name);
  for (let index = 0; index < count; index++) {
    const at = index * symbolEntryBytes;
    view.setUint32(at, cursor.u32(), true);
    view.setUint32(at + 8, cursor.u32(), true);
    view.setUint32(at + 16, cursor.u32(), true);
    entries.set(cursor.take(4), at + 4);
  }
  return entries;
};

const addSectionAddresses = (table: string, sections: readonly SectionHeader[], entries: Uint8Array): void => {
  const view = new DataView(entries.buffer, entries.byteOffset, entries.byteLength);
  for (let at = 0; at + symbolEntryBytes <= entries.length; at += symbolEntryBytes) {
    const index = view.getUint16(at + 6, true);
    if (index === SHN_UNDEF || index >= SHN_LORESERVE) continue;
    const section = sections[index];
    if (section === undefined) throw new FormatError(table, at, `its section ${index} does not exist`);
    view.setBigUint64(at + 8, view.getBigUint64(at + 8, true) + section.address, true);
  }
};
