// Line number programs: their headers (DWARF 5, 6.2.4; DWARF 4, 6.2.4), and the state machine (6.2.5).

import { Cursor } from '../../base/bytes.ts';
import type { ByteSource } from '../file.ts';
import { type Encoding, readOffset } from './forms.ts';
import type { DwarfSections } from './sections.ts';

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
  /** The tables of directories and files are [tablesAt, start): see fileTable.ts. */
  readonly tablesAt: number;
}

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

/** Enough for the fields in front of the tables: 12 + 2 + 2 + 8 + 6 and at most 254 operand counts. */
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
    cursor.advance(1); // segment_selector_size
  }
  const encoding = { version, offsetSize, addressSize };
  const headerLength = readOffset(cursor, encoding);
  const start = cursor.offset + headerLength;
  if (start > end) cursor.fail(`a header of ${headerLength} bytes in a program of ${length}`);
  const rest = cursor.bytes.subarray(cursor.position, Math.min(cursor.bytes.length, cursor.position + headerLength));
  const header = new Cursor(rest, section.name, cursor.offset);
  const minimumInstructionLength = header.u8();
  const maximumOperations = version >= 4 ? header.u8() : 1;
  const defaultIsStatement = header.u8() !== 0;
  const lineBase = header.i8();
  const lineRange = header.u8();
  const opcodeBase = header.u8();
  if (lineRange === 0) header.fail('a line range of 0', header.position - 2);
  if (opcodeBase === 0) header.fail('an opcode base of 0', header.position - 1);
  const operandCounts = header.take(opcodeBase - 1).slice();
  // Spreading `encoding` took more time than all the reading.
  return {
    version,
    offsetSize,
    addressSize,
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
    tablesAt: header.offset,
  };
};

/** All program headers, in the order of the section. */
export function* lineHeaders(sections: DwarfSections): Generator<LineHeader> {
  const section = sections.find('.debug_line');
  if (section === undefined) return;
  for (let offset = 0; offset < section.size; ) {
    const header = readLineHeader(sections, offset);
    yield header;
    offset = header.end;
  }
}

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

/** Linkers set the address of discarded code to 0, 1 or -1 and less (-2 in lists). */
export const isDiscarded = (address: bigint): boolean => address <= 1n || address >= 0xffff_ffff_ffff_fffen;

/** Code of one sequence beyond 4 GiB does not exist; offsets stay exact and fit typed arrays. */
const offsetLimit = 0xffff_ffff;

/** Runs a program (6.2.5). Operation indexes of VLIW machines (6.2.2 op_index) are taken to be 0. A source line of a header
 *  makes thousands of programs run, so the state is in local variables that no closure captures: three quarters of the
 *  time. */
export const runLineProgram = (section: ByteSource, header: LineHeader, sink: LineSink): void => {
  const cursor = new Cursor(section.peek(header.start, header.end - header.start), section.name, header.start);
  const { bytes } = cursor;
  const { lineBase, lineRange, opcodeBase, minimumInstructionLength: unit } = header;
  const constAdvance = Math.floor((255 - opcodeBase) / lineRange) * unit;
  const initialFlags = header.defaultIsStatement ? IS_STATEMENT : 0;
  let base = 0n;
  let offset = 0;
  let file = 1;
  let line = 1;
  let column = 0;
  let flags = initialFlags;
  /** A sequence has rows. */
  let open = false;
  let wanted = false;

  for (let at = 0; at < bytes.length; ) {
    const opcode = bytes[at++] ?? 0;
    if (opcode < opcodeBase && opcode !== DW_LNS.copy) {
      cursor.position = at;
      switch (opcode) {
        case 0: {
          const length = cursor.uleb();
          const next = cursor.position + length;
          if (length > cursor.remaining) cursor.fail(`an extended opcode of ${length} bytes`);
          // DW_LNE_define_file (DWARF 4, 6.2.5.3) has never been produced for C; discriminators and vendors' opcodes have
          // no effect.
          const extended = length === 0 ? 0 : cursor.u8();
          if (extended === DW_LNE.endSequence) {
            if (offset > offsetLimit) cursor.fail(`an address advance of ${offset} bytes`);
            if (open && wanted) sink.end(offset);
            open = false;
            base = 0n;
            offset = 0;
            file = 1;
            line = 1;
            column = 0;
            flags = initialFlags;
          } else if (extended === DW_LNE.setAddress) {
            const address = cursor.unsigned(length - 1);
            const distance = address - base;
            if (open && distance >= BigInt(offset) && distance <= offsetLimit) {
              offset = Number(distance);
            } else {
              // Backwards or far away: rows have to ascend, so this is where another sequence begins.
              if (offset > offsetLimit) cursor.fail(`an address advance of ${offset} bytes`);
              if (open && wanted) sink.end(offset);
              open = false;
              base = address;
              offset = 0;
            }
          }
          cursor.position = next;
          break;
        }
        case DW_LNS.advancePc:
          offset += cursor.uleb() * unit;
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
          offset += constAdvance;
          break;
        case DW_LNS.fixedAdvancePc:
          offset += cursor.u16();
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
      at = cursor.position;
      continue;
    }
    if (opcode >= opcodeBase) {
      const adjusted = opcode - opcodeBase;
      offset += ((adjusted / lineRange) | 0) * unit;
      line += lineBase + (adjusted % lineRange);
    }
    if (!open) {
      wanted = sink.begin(base);
      open = true;
    }
    if (offset > offsetLimit) cursor.fail(`an address advance of ${offset} bytes`, at);
    if (wanted) sink.row(offset, file, line, column, flags);
    flags &= ~PROLOGUE_END;
  }
};
