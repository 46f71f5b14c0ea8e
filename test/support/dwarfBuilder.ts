// Builds the DWARF sections of small images for tests of the symbol reader: what compilers write, spelled out.

import { Bytes, type SectionInput, StringTable } from './elfBuilder.ts';

/** One opcode of a line program. */
export type LineOp =
  | { readonly op: 'address'; readonly value: bigint }
  | { readonly op: 'end' | 'copy' | 'negate' | 'prologueEnd' | 'constAddPc' }
  | {
      readonly op: 'advancePc' | 'line' | 'file' | 'column' | 'discriminator' | 'fixedAdvancePc';
      readonly value: number;
    }
  /** Special opcode. */
  | { readonly op: 'row'; readonly pc: number; readonly line: number };

export interface LineInput {
  readonly version: 2 | 3 | 4 | 5;
  readonly directories: readonly string[];
  readonly files: readonly { readonly name: string; readonly directory: number }[];
  readonly ops: readonly LineOp[];
  /** How version 5 refers to names. */
  readonly strings?: 'lineStr' | 'str' | 'inline';
  /** Version 5: an MD5 sum for each file. */
  readonly md5?: boolean;
  readonly minimumInstructionLength?: number;
}

const lineBase = -5;
const lineRange = 14;
const opcodeBase = 13;

const writeOp = (program: Bytes, op: LineOp, unit: number): void => {
  switch (op.op) {
    case 'address':
      program.u8(0).uleb(9).u8(2).u64(op.value);
      break;
    case 'end':
      program.u8(0, 1, 1);
      break;
    case 'discriminator':
      program.u8(0, 1 + new Bytes().uleb(op.value).length, 4).uleb(op.value);
      break;
    case 'copy':
      program.u8(1);
      break;
    case 'advancePc':
      program.u8(2).uleb(op.value / unit);
      break;
    case 'line':
      program.u8(3).sleb(op.value);
      break;
    case 'file':
      program.u8(4).uleb(op.value);
      break;
    case 'column':
      program.u8(5).uleb(op.value);
      break;
    case 'negate':
      program.u8(6);
      break;
    case 'constAddPc':
      program.u8(8);
      break;
    case 'fixedAdvancePc':
      program.u8(9).u16(op.value);
      break;
    case 'prologueEnd':
      program.u8(10);
      break;
    case 'row':
      program.u8((op.pc / unit) * lineRange + (op.line - lineBase) + opcodeBase);
  }
};

/** The sections of debug information, filled piece by piece. */
export class DwarfBuilder {
  readonly line = new Bytes();
  readonly info = new Bytes();
  readonly abbrev = new Bytes();
  readonly str = new StringTable();
  readonly lineStr = new StringTable();
  readonly rnglists = new Bytes();
  readonly aranges = new Bytes();
  readonly extra: SectionInput[] = [];

  /** Appends a line program; returns its offset. */
  program(input: LineInput): number {
    const offset = this.line.length;
    const unit = input.minimumInstructionLength ?? 4;
    this.line.counted((body) => {
      body.u16(input.version);
      if (input.version >= 5) body.u8(8, 0);
      body.counted((header) => {
        header.u8(unit);
        if (input.version >= 4) header.u8(1);
        header.u8(1, lineBase, lineRange, opcodeBase, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1);
        if (input.version >= 5) this.#tables(header, input);
        else {
          for (const directory of input.directories) header.string(directory);
          header.u8(0);
          for (const { name, directory } of input.files) header.string(name).uleb(directory).uleb(0).uleb(0);
          header.u8(0);
        }
      });
      for (const op of input.ops) writeOp(body, op, unit);
    });
    return offset;
  }

  #tables(header: Bytes, { directories, files, strings = 'lineStr', md5 = false }: LineInput): void {
    const form = { lineStr: 0x1f, str: 0x0e, inline: 0x08 }[strings];
    const name = (text: string): void => {
      if (strings === 'inline') header.string(text);
      else header.u32((strings === 'str' ? this.str : this.lineStr).add(text));
    };
    header.u8(1).uleb(1).uleb(form).uleb(directories.length);
    for (const directory of directories) name(directory);
    header
      .u8(md5 ? 3 : 2)
      .uleb(1)
      .uleb(form)
      .uleb(2)
      .uleb(0x0b);
    if (md5) header.uleb(5).uleb(0x1e);
    header.uleb(files.length);
    for (const file of files) {
      name(file.name);
      header.u8(file.directory);
      if (md5) header.bytes(new Uint8Array(16).fill(0xee));
    }
  }

  /** Appends abbreviations: [code, tag, children, [attribute, form] …]; returns their offset. */
  abbreviations(...declarations: readonly (readonly [number, number, boolean, ...[number, number][]])[]): number {
    const offset = this.abbrev.length;
    for (const [code, tag, children, ...attributes] of declarations) {
      this.abbrev
        .uleb(code)
        .uleb(tag)
        .u8(children ? 1 : 0);
      for (const [attribute, form] of attributes) this.abbrev.uleb(attribute).uleb(form);
      this.abbrev.u8(0, 0);
    }
    this.abbrev.u8(0);
    return offset;
  }

  /** Appends a unit; `body` writes its DIEs, and is told at which offset of the unit it begins. Returns the offset. */
  unit(version: 4 | 5, abbreviations: number, body: (dies: Bytes, start: number) => void): number {
    const offset = this.info.length;
    this.info.counted((unit) => {
      unit.u16(version);
      if (version === 5) unit.u8(1, 8).u32(abbreviations);
      else unit.u32(abbreviations).u8(8);
      body(unit, 4);
    });
    return offset;
  }

  /** Appends a set to .debug_aranges. */
  arange(unit: number, ranges: readonly (readonly [bigint, bigint])[]): void {
    this.aranges.counted((set) => {
      set.u16(2).u32(unit).u8(8, 0).u32(0); // 4 bytes of padding: tuples are aligned to 16 from the set's start
      for (const [start, end] of ranges) set.u64(start).u64(end - start);
      set.u64(0).u64(0);
    });
  }

  sections(): SectionInput[] {
    const all: SectionInput[] = [
      { name: '.debug_line', bytes: this.line.done() },
      { name: '.debug_info', bytes: this.info.done() },
      { name: '.debug_abbrev', bytes: this.abbrev.done() },
      { name: '.debug_str', bytes: this.str.done() },
      { name: '.debug_line_str', bytes: this.lineStr.done() },
    ];
    if (this.rnglists.length > 0) all.push({ name: '.debug_rnglists', bytes: this.rnglists.done() });
    if (this.aranges.length > 0) all.push({ name: '.debug_aranges', bytes: this.aranges.done() });
    return [...all, ...this.extra];
  }
}
