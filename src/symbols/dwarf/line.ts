// Line number programs: headers and their file tables (DWARF 5, 6.2.4; DWARF 4, 6.2.4), and the state machine (6.2.5).

import { Cursor, decodeText } from '../../base/bytes.ts';
import type { ByteSource } from '../file.ts';
import { DW_FORM } from './constants.ts';
import { type Encoding, fixedSize, readOffset, skipForm } from './forms.ts';
import type { DwarfSections } from './sections.ts';

/** A string of a file table. Names repeat in thousands of tables, so they stay references until somebody asks. */
type StringReference = number; // ≥ 0: offset in .debug_line_str; < 0: -1 - index into `texts`

/** Files by the number that programs use. DWARF 4 counts from 1, and then number 0 has an empty name. In columns: all
 *  the tables of a kernel have close to a million entries. */
export interface FileTable {
  readonly names: readonly StringReference[];
  /** Numbers of directories. */
  readonly directories: readonly number[];
}

/** The header of one program. Offsets are in .debug_line. */
export interface LineHeader extends Encoding {
  readonly offset: number;
  /** The program proper is [start, end). */
  readonly start: number;
  readonly end: number;
  readonly minimumInstructionLength: number;
  readonly maximumOperations: number;
  readonly defaultIsStatement: boolean;
  readonly lineBase: number;
  readonly lineRange: number;
  readonly opcodeBase: number;
  readonly operandCounts: Uint8Array;
  /** By the number that programs use: 0 is the compilation directory, in DWARF 4 as well (there without a name). */
  readonly directories: readonly (StringReference | undefined)[];
  readonly files: FileTable;
  /** Strings that are in the header itself; numbers are offsets in .debug_str. */
  readonly texts: readonly (string | number)[];
}

/** DW_LNCT_* (6.2.4.1); 3 timestamp, 4 size and 5 MD5 are passed over. */
const DW_LNCT = { path: 1, directoryIndex: 2 } as const;

// Standard opcodes (6.2.5.2) and extended ones (6.2.5.3).
const DW_LNS = {
  copy: 1,
  advancePc: 2,
  advanceLine: 3,
  setFile: 4,
  setColumn: 5,
  negateStmt: 6,
  setBasicBlock: 7,
  constAddPc: 8,
  fixedAdvancePc: 9,
  setPrologueEnd: 10,
  setEpilogueBegin: 11,
  setIsa: 12,
} as const;
const DW_LNE = { endSequence: 1, setAddress: 2, defineFile: 3, setDiscriminator: 4 } as const;

/** Enough for the fixed fields: 12 + 2 + 2 + 8 + 6 and the operand counts. */
const fixedBytes = 320;

export const readLineHeader = (sections: DwarfSections, offset: number): LineHeader => {
  const section = sections.get('.debug_line');
  const cursor = new Cursor(
    section.peek(offset, Math.max(0, Math.min(fixedBytes, section.size - offset))),
    section.name,
    offset,
  );
  const first = cursor.u32();
  const offsetSize = first === 0xffff_ffff ? 8 : 4;
  if (first >= 0xffff_fff0 && offsetSize === 4) cursor.fail(`the reserved length 0x${first.toString(16)}`, 0);
  const length = offsetSize === 8 ? cursor.u64AsNumber() : first;
  const end = cursor.offset + length;
  if (end > section.size) cursor.fail(`a program of ${length} bytes, ${section.size - cursor.offset} left`, 0);
  const version = cursor.u16();
  if (version < 2 || version > 5) cursor.fail(`version ${version} is not supported`, cursor.position - 2);
  let addressSize = 8;
  if (version >= 5) {
    addressSize = cursor.u8();
    cursor.skip(1); // segment_selector_size
  }
  const encoding = { version, offsetSize, addressSize };
  const headerLength = readOffset(cursor, encoding);
  const start = cursor.offset + headerLength;
  if (start > end) cursor.fail(`a header of ${headerLength} bytes in a program of ${length}`);
  // The rest of the header, tables and all.
  const header = new Cursor(section.peek(cursor.offset, headerLength), section.name, cursor.offset);
  const minimumInstructionLength = header.u8();
  const maximumOperations = version >= 4 ? header.u8() : 1;
  const defaultIsStatement = header.u8() !== 0;
  const lineBase = header.i8();
  const lineRange = header.u8();
  const opcodeBase = header.u8();
  if (lineRange === 0) header.fail('a line range of 0', header.position - 2);
  if (opcodeBase === 0) header.fail('an opcode base of 0', header.position - 1);
  const operandCounts = header.take(opcodeBase - 1).slice();
  const tables = version >= 5 ? readTables(header, encoding) : readOldTables(header);
  return {
    ...encoding,
    offset,
    start,
    end,
    minimumInstructionLength,
    maximumOperations,
    defaultIsStatement,
    lineBase,
    lineRange,
    opcodeBase,
    operandCounts,
    ...tables,
  };
};

type Tables = Pick<LineHeader, 'directories' | 'files' | 'texts'>;

// Versions 2 to 4: include_directories are strings up to an empty one; file_names are (string, directory ULEB,
// modification time ULEB, length ULEB) up to an empty string. Both count from 1.
const readOldTables = (cursor: Cursor): Tables => {
  const texts: string[] = [];
  const text = (): StringReference | undefined => {
    const string = cursor.string();
    return string === '' ? undefined : -texts.push(string);
  };
  const directories: (StringReference | undefined)[] = [undefined];
  for (let name = text(); name !== undefined; name = text()) directories.push(name);
  const names: StringReference[] = [-texts.push('')];
  const directoryOf: number[] = [0];
  for (let name = text(); name !== undefined; name = text()) {
    names.push(name);
    directoryOf.push(cursor.uleb());
    cursor.skipLeb();
    cursor.skipLeb();
  }
  return { directories, files: { names, directories: directoryOf }, texts };
};

// Version 5: each table is a description of its entries, (content type ULEB, form ULEB) pairs, a count, the entries.
const readTables = (cursor: Cursor, encoding: Encoding): Tables => {
  const texts: (string | number)[] = [];
  const table = (): FileTable => {
    const kinds: number[] = [];
    const forms: number[] = [];
    for (let pairs = cursor.u8(); pairs > 0; pairs--) {
      kinds.push(cursor.uleb());
      forms.push(cursor.uleb());
    }
    const count = cursor.uleb();
    // Entries of no bytes would let a count run wild.
    if (count > cursor.remaining) cursor.fail(`a table of ${count} entries, ${cursor.remaining} bytes left`);
    const names: StringReference[] = [];
    const directories: number[] = [];
    for (let index = 0; index < count; index++) {
      let name: StringReference = 0;
      let directory = 0;
      for (let i = 0; i < kinds.length; i++) {
        const form = forms[i] ?? 0;
        if (kinds[i] === DW_LNCT.path) name = readString(cursor, form, encoding, texts);
        else if (kinds[i] === DW_LNCT.directoryIndex) directory = readIndex(cursor, form);
        else skipForm(cursor, form, encoding);
      }
      names.push(name);
      directories.push(directory);
    }
    return { names, directories };
  };
  const { names } = table();
  return { directories: names, files: table(), texts };
};

const readString = (cursor: Cursor, form: number, encoding: Encoding, texts: (string | number)[]): StringReference => {
  switch (form) {
    case DW_FORM.lineStrp:
      return readOffset(cursor, encoding);
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

/** All program headers, in the order of the section. A header is only good until the next one. */
export function* lineHeaders(sections: DwarfSections): Generator<LineHeader> {
  const section = sections.find('.debug_line');
  if (section === undefined) return;
  for (let offset = 0; offset < section.size; ) {
    const header = readLineHeader(sections, offset);
    yield header;
    offset = header.end;
  }
}

/** Strings of file tables. */
export const textOf = (header: LineHeader, sections: DwarfSections, reference: StringReference): string => {
  if (reference < 0) {
    const text = header.texts[-1 - reference] ?? '';
    return typeof text === 'number' ? sections.string('.debug_str', text) : text;
  }
  const bytes = sections.whole('.debug_line_str');
  const end = reference < bytes.length ? bytes.indexOf(0, reference) : -1;
  if (end < 0) new Cursor(bytes, '.debug_line_str').fail('a file name outside of the section', reference);
  return decodeText(bytes.subarray(reference, end));
};

/** The name of a file joined with its directory; what is in the compilation directory stays relative to it. Empty when
 *  the table has no such file. */
export const filePath = (header: LineHeader, sections: DwarfSections, number: number): string => {
  const reference = header.files.names[number];
  if (reference === undefined) return '';
  const name = textOf(header, sections, reference);
  const index = header.files.directories[number] ?? 0;
  const directory = header.directories[index];
  if (index === 0 || directory === undefined || name.startsWith('/')) return name;
  const prefix = textOf(header, sections, directory);
  return prefix === '' ? name : `${prefix.endsWith('/') ? prefix : `${prefix}/`}${name}`;
};

/** Row flags. */
export const IS_STATEMENT = 1;
export const PROLOGUE_END = 2;

/** Receives what a program produces. Addresses are `base` + `offset`; within a sequence `offset` never falls. */
export interface LineSink {
  /** A sequence begins. false: its rows are not wanted. */
  begin(base: bigint): boolean;
  row(offset: number, file: number, line: number, column: number, flags: number): void;
  /** It ends before base + offset. */
  end(offset: number): void;
}

/** Runs a program (6.2.5). Operation indexes of VLIW machines (6.2.2 op_index) are taken to be 0. */
export const runLineProgram = (section: ByteSource, header: LineHeader, sink: LineSink): void => {
  const cursor = new Cursor(section.peek(header.start, header.end - header.start), section.name, header.start);
  const { lineBase, lineRange, opcodeBase, minimumInstructionLength: unit } = header;
  const constAdvance = Math.floor((255 - opcodeBase) / lineRange) * unit;
  const initialFlags = header.defaultIsStatement ? IS_STATEMENT : 0;
  let base = 0n;
  let offset = 0;
  let file = 1;
  let line = 1;
  let column = 0;
  let flags = initialFlags;
  let open = false;
  let wanted = false;

  const row = (): void => {
    if (!open) {
      wanted = sink.begin(base);
      open = true;
    }
    if (wanted) sink.row(offset, file, line, column, flags);
    flags &= ~PROLOGUE_END;
  };
  const advance = (bytes: number): void => {
    offset += bytes;
    // Code of one sequence beyond 4 GiB does not exist; offsets stay exact and fit typed arrays.
    if (offset > 0xffff_ffff) cursor.fail(`an address advance of ${bytes} bytes`);
  };
  const endSequence = (): void => {
    if (open && wanted) sink.end(offset);
    base = 0n;
    offset = 0;
    file = 1;
    line = 1;
    column = 0;
    flags = initialFlags;
    open = false;
  };
  const setAddress = (address: bigint): void => {
    if (!open) {
      base = address;
      offset = 0;
      return;
    }
    const distance = address - base;
    if (distance >= BigInt(offset) && distance <= 0xffff_ffffn) {
      offset = Number(distance);
      return;
    }
    // Backwards or far away: rows have to ascend, so this is where another sequence begins.
    if (wanted) sink.end(offset);
    open = false;
    base = address;
    offset = 0;
  };
  const extended = (): void => {
    const length = cursor.uleb();
    if (length === 0) return;
    const next = cursor.position + length;
    if (length > cursor.remaining) cursor.fail(`an extended opcode of ${length} bytes`);
    const opcode = cursor.u8();
    if (opcode === DW_LNE.endSequence) endSequence();
    else if (opcode === DW_LNE.setAddress) setAddress(cursor.unsigned(length - 1));
    // DW_LNE_define_file (DWARF 4, 6.2.5.3) has never been produced for C; discriminators, vendor opcodes: no effect.
    cursor.position = next;
  };

  while (!cursor.atEnd) {
    const opcode = cursor.u8();
    if (opcode >= opcodeBase) {
      const adjusted = opcode - opcodeBase;
      advance(Math.floor(adjusted / lineRange) * unit);
      line += lineBase + (adjusted % lineRange);
      row();
      continue;
    }
    switch (opcode) {
      case 0:
        extended();
        break;
      case DW_LNS.copy:
        row();
        break;
      case DW_LNS.advancePc:
        advance(cursor.uleb() * unit);
        break;
      case DW_LNS.advanceLine:
        line += cursor.sleb();
        break;
      case DW_LNS.setFile:
        file = cursor.uleb();
        break;
      case DW_LNS.setColumn:
        column = cursor.uleb();
        break;
      case DW_LNS.negateStmt:
        flags ^= IS_STATEMENT;
        break;
      case DW_LNS.setBasicBlock:
      case DW_LNS.setEpilogueBegin:
        break;
      case DW_LNS.constAddPc:
        advance(constAdvance);
        break;
      case DW_LNS.fixedAdvancePc:
        advance(cursor.u16());
        break;
      case DW_LNS.setPrologueEnd:
        flags |= PROLOGUE_END;
        break;
      case DW_LNS.setIsa:
        cursor.skipLeb();
        break;
      default:
        for (let count = header.operandCounts[opcode - 1] ?? 0; count > 0; count--) cursor.skipLeb();
    }
  }
};
