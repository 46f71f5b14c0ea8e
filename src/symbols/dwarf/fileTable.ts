// The directories and files of a line program (DWARF 5, 6.2.4, directory_entry_format to file_names; DWARF 4, 6.2.4,
// include_directories and file_names). All the tables of a kernel have close to a million entries, and are read whenever
// a source file is looked for, so what gcc and clang write has a path of its own.

import { Cursor, decodeText } from '../../base/bytes.ts';
import { DW_FORM } from './constants.ts';
import { type Encoding, fixedSize, readOffset, skipForm } from './forms.ts';
import type { LineHeader } from './line.ts';
import type { DwarfSections } from './sections.ts';

/** A string of a file table. Names repeat in thousands of tables, so they stay references until somebody asks.
 *  From 0 on an offset in .debug_line_str, below that -1 - an index into the texts of the table. */
export type StringReference = number;

/** Entries by the number that programs use. */
interface Entries {
  readonly names: Int32Array;
  /** Numbers of directories. */
  readonly directories: Int32Array;
}

/** A text that is in the header itself, or an offset in .debug_str. */
type Text = string | number;

/** DW_LNCT_* (6.2.4.1); 3 timestamp, 4 size and 5 MD5 are passed over. */
const DW_LNCT = { path: 1, directoryIndex: 2 } as const;

export class FileTable {
  static read(sections: DwarfSections, header: LineHeader): FileTable {
    const section = sections.get('.debug_line');
    const { tablesAt, start, version } = header;
    const cursor = new Cursor(section.peek(tablesAt, start - tablesAt), section.name, tablesAt);
    return version >= 5 ? readTables(sections, cursor, header) : readOldTables(sections, cursor);
  }

  /** DWARF 4 counts from 1, and then file number 0 has an empty name; directory 0 is the compilation directory. */
  constructor(
    readonly sections: DwarfSections,
    readonly directories: Int32Array,
    readonly files: Entries,
    readonly texts: readonly Text[],
  ) {}

  /** The name of a file joined with its directory; what is in the compilation directory stays relative to it. Empty when
   *  there is no such file. */
  path(number: number): string {
    const reference = this.files.names[number];
    if (reference === undefined) return '';
    const name = this.text(reference);
    const index = this.files.directories[number] ?? 0;
    const directory = this.directories[index];
    if (index === 0 || directory === undefined || name.startsWith('/')) return name;
    const prefix = this.text(directory);
    return prefix === '' ? name : `${prefix.endsWith('/') ? prefix : `${prefix}/`}${name}`;
  }

  /** Equal for equal paths, and cheaper than these; undefined where only the path tells. */
  key(number: number): string | undefined {
    const name = this.files.names[number] ?? 0;
    const index = this.files.directories[number] ?? 0;
    const directory = index === 0 ? -1 : (this.directories[index] ?? -1);
    return name >= 0 && (index === 0 || directory >= 0) ? `${directory},${name}` : undefined;
  }

  text(reference: StringReference): string {
    if (reference < 0) {
      const text = this.texts[-1 - reference] ?? '';
      return typeof text === 'number' ? this.sections.string('.debug_str', text) : text;
    }
    const bytes = this.sections.whole('.debug_line_str');
    const end = reference < bytes.length ? bytes.indexOf(0, reference) : -1;
    if (end < 0) new Cursor(bytes, '.debug_line_str').fail('a file name outside of the section', reference);
    return decodeText(bytes.subarray(reference, end));
  }
}

// Versions 2 to 4: include_directories are strings up to an empty one; file_names are (string, directory ULEB,
// modification time ULEB, length ULEB) up to an empty string. Both count from 1.
const readOldTables = (sections: DwarfSections, cursor: Cursor): FileTable => {
  const texts: string[] = [''];
  const empty = -1;
  const text = (): StringReference | undefined => {
    const string = cursor.string();
    return string === '' ? undefined : -texts.push(string);
  };
  const folders: StringReference[] = [empty];
  for (let name = text(); name !== undefined; name = text()) folders.push(name);
  const names: StringReference[] = [empty];
  const directories: number[] = [0];
  for (let name = text(); name !== undefined; name = text()) {
    names.push(name);
    directories.push(cursor.uleb());
    cursor.skipLeb();
    cursor.skipLeb();
  }
  const files = { names: Int32Array.from(names), directories: Int32Array.from(directories) };
  return new FileTable(sections, Int32Array.from(folders), files, texts);
};

// Version 5: each table is a description of its entries, (content type ULEB, form ULEB) pairs, a count, the entries.
const readTables = (sections: DwarfSections, cursor: Cursor, encoding: Encoding): FileTable => {
  const texts: Text[] = [];
  const { names } = readEntries(cursor, encoding, texts);
  return new FileTable(sections, names, readEntries(cursor, encoding, texts), texts);
};

const readEntries = (cursor: Cursor, encoding: Encoding, texts: Text[]): Entries => {
  const kinds: number[] = [];
  const forms: number[] = [];
  for (let pairs = cursor.u8(); pairs > 0; pairs--) {
    kinds.push(cursor.uleb());
    forms.push(cursor.uleb());
  }
  const count = cursor.uleb();
  // Entries of no bytes would let a count run wild.
  if (count > cursor.remaining) cursor.fail(`a table of ${count} entries, ${cursor.remaining} bytes left`);
  const names = new Int32Array(count);
  const directories = new Int32Array(count);
  const behind = usualTail(kinds, forms, encoding);
  if (behind !== undefined) {
    readUsualEntries(cursor, names, directories, behind);
    return { names, directories };
  }
  for (let index = 0; index < count; index++) {
    for (let i = 0; i < kinds.length; i++) {
      const form = forms[i] ?? 0;
      if (kinds[i] === DW_LNCT.path) names[index] = readString(cursor, form, encoding, texts);
      else if (kinds[i] === DW_LNCT.directoryIndex) directories[index] = readIndex(cursor, form);
      else skipForm(cursor, form, encoding);
    }
  }
  return { names, directories };
};

/** What follows the name in the entries that gcc and clang write: (path, line_strp), and for files (directory_index,
 *  udata), then perhaps an MD5. undefined for other entries. */
interface Tail {
  readonly hasDirectory: boolean;
  readonly bytes: number;
}

const usualTail = (kinds: readonly number[], forms: readonly number[], encoding: Encoding): Tail | undefined => {
  if (kinds[0] !== DW_LNCT.path || forms[0] !== DW_FORM.lineStrp || encoding.offsetSize !== 4) return undefined;
  const hasDirectory = kinds[1] === DW_LNCT.directoryIndex && forms[1] === DW_FORM.udata;
  let bytes = 0;
  for (let i = hasDirectory ? 2 : 1; i < kinds.length; i++) {
    const size = fixedSize(forms[i] ?? 0, encoding);
    if (size < 0 || kinds[i] === DW_LNCT.path || kinds[i] === DW_LNCT.directoryIndex) return undefined;
    bytes += size;
  }
  return { hasDirectory, bytes };
};

const readUsualEntries = (cursor: Cursor, names: Int32Array, directories: Int32Array, tail: Tail): void => {
  const { bytes } = cursor;
  const { hasDirectory, bytes: passed } = tail;
  let at = cursor.position;
  for (let index = 0; index < names.length; index++) {
    // Beyond the end these are zeros, and the position tells below.
    const name =
      (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16) | ((bytes[at + 3] ?? 0) << 24);
    if (name < 0) cursor.fail('a file name outside of .debug_line_str', at);
    names[index] = name;
    at += 4;
    if (hasDirectory) {
      const directory = bytes[at] ?? 0;
      if (directory < 0x80) {
        directories[index] = directory;
        at++;
      } else {
        cursor.position = at;
        directories[index] = cursor.uleb();
        at = cursor.position;
      }
    }
    at += passed;
    if (at > bytes.length) cursor.fail(`${at - bytes.length} bytes missing at the end of a table`, bytes.length);
  }
  cursor.position = at;
};

const readString = (cursor: Cursor, form: number, encoding: Encoding, texts: Text[]): StringReference => {
  switch (form) {
    case DW_FORM.lineStrp: {
      const at = cursor.position;
      const offset = readOffset(cursor, encoding);
      return offset > 0x7fff_ffff ? cursor.fail('a file name outside of .debug_line_str', at) : offset;
    }
    case DW_FORM.string:
      return -texts.push(cursor.string());
    case DW_FORM.strp:
      return -texts.push(readOffset(cursor, encoding));
    default:
      return cursor.fail(`a file name of the form 0x${form.toString(16)} is not supported`);
  }
};

const readIndex = (cursor: Cursor, form: number): number => {
  if (form === DW_FORM.udata) return cursor.uleb();
  const size = fixedSize(form, { version: 5, addressSize: 8, offsetSize: 4 });
  return Number(cursor.unsigned(size));
};
