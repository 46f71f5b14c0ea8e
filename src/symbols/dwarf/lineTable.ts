// The rows of one line program, in columns: a kernel unit has up to some ten thousand.

import { FileTable } from './fileTable.ts';
import { IS_STATEMENT, isDiscarded, type LineHeader, type LineSink, PROLOGUE_END, runLineProgram } from './line.ts';
import type { DwarfSections } from './sections.ts';

interface Sequence {
  readonly base: bigint;
  /** First byte after the code of the sequence, from `base`. */
  length: number;
  /** Its rows are [first, last). */
  readonly first: number;
  last: number;
}

export interface Place {
  readonly file: number;
  readonly line: number;
  readonly column: number;
}

/** The code around an address that belongs to one line. */
export interface LineRun extends Place {
  readonly start: bigint;
  readonly end: bigint;
  readonly isStatement: boolean;
}

/** Columns that grow together. */
class Rows {
  offsets = new Uint32Array(0);
  files = new Uint32Array(0);
  lines = new Uint32Array(0);
  columns = new Uint16Array(0);
  flags = new Uint8Array(0);
  count = 0;

  push(offset: number, file: number, line: number, column: number, flags: number): void {
    const at = this.count++;
    if (at >= this.offsets.length) this.#resize(Math.max(8192, at * 2));
    this.offsets[at] = offset;
    this.files[at] = file;
    this.lines[at] = line;
    this.columns[at] = Math.min(column, 0xffff);
    this.flags[at] = flags;
  }

  /** A copy without slack. */
  exact(): Rows {
    const copy = new Rows();
    copy.offsets = this.offsets.slice(0, this.count);
    copy.files = this.files.slice(0, this.count);
    copy.lines = this.lines.slice(0, this.count);
    copy.columns = this.columns.slice(0, this.count);
    copy.flags = this.flags.slice(0, this.count);
    copy.count = this.count;
    return copy;
  }

  #resize(size: number): void {
    const resized = <T extends Uint32Array | Uint16Array | Uint8Array>(column: T, copy: T): T => {
      copy.set(column);
      return copy;
    };
    this.offsets = resized(this.offsets, new Uint32Array(size));
    this.files = resized(this.files, new Uint32Array(size));
    this.lines = resized(this.lines, new Uint32Array(size));
    this.columns = resized(this.columns, new Uint16Array(size));
    this.flags = resized(this.flags, new Uint8Array(size));
  }
}

/** Rows are collected here and copied out: columns that grow would leave sets of columns for the collector, which notices
 *  memory outside of its heap late. */
const scratch = new Rows();

export class LineTable {
  readonly #rows: Rows;
  readonly #sequences: Sequence[] = [];
  #fileTable: FileTable | undefined;

  constructor(
    readonly header: LineHeader,
    readonly sections: DwarfSections,
  ) {
    const rows = scratch;
    rows.count = 0;
    const sequences = this.#sequences;
    let sequence: Sequence | undefined;
    const sink: LineSink = {
      begin: (base) => {
        if (isDiscarded(base)) return false;
        sequence = { base, length: 0, first: rows.count, last: rows.count };
        return true;
      },
      row: (offset, file, line, column, flags) => rows.push(offset, file, line, column, flags),
      end: (offset) => {
        if (sequence === undefined) return;
        sequence.length = offset;
        sequence.last = rows.count;
        if (sequence.last > sequence.first) sequences.push(sequence);
      },
    };
    runLineProgram(sections.get('.debug_line'), header, sink);
    this.#rows = rows.exact();
    sequences.sort((a, b) => (a.base < b.base ? -1 : a.base > b.base ? 1 : 0));
  }

  /** The path of a file number; undefined when the table has no such file. */
  file(number: number): string | undefined {
    return this.#files().path(number) || undefined;
  }

  /** The compilation directory, which the table has since DWARF 5. */
  get directory(): string | undefined {
    const files = this.#files();
    const [first] = files.directories;
    return first === undefined ? undefined : files.text(first);
  }

  #files(): FileTable {
    this.#fileTable ??= FileTable.read(this.sections, this.header);
    return this.#fileTable;
  }

  /** The line of the code at an address, with all the code of that line around it. */
  at(address: bigint): LineRun | undefined {
    for (const sequence of this.#sequences) {
      const start = sequence.base;
      if (address < start || address >= start + BigInt(sequence.length)) continue;
      const found = this.#atOffset(sequence, Number(address - start));
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** The last row at or before an address, statement or not: what addr2line, llvm-symbolizer and eu-addr2line say. */
  lastRow(address: bigint): Place | undefined {
    const { files, lines, columns } = this.#rows;
    for (const sequence of this.#sequences) {
      const { base, length, first } = sequence;
      if (address < base || address >= base + BigInt(length)) continue;
      const row = this.#behind(sequence, Number(address - base)) - 1;
      if (row >= first) return { file: files[row] ?? 0, line: lines[row] ?? 0, column: columns[row] ?? 0 };
    }
    return undefined;
  }

  /** The places that have a statement which begins at an address. */
  statementsAt(address: bigint): readonly Place[] {
    const { offsets, files, lines, columns, flags } = this.#rows;
    const found: Place[] = [];
    for (const sequence of this.#sequences) {
      const { base, length, first } = sequence;
      if (address < base || address >= base + BigInt(length)) continue;
      const offset = Number(address - base);
      for (let row = this.#behind(sequence, offset) - 1; row >= first && offsets[row] === offset; row--) {
        if (((flags[row] ?? 0) & IS_STATEMENT) === 0) continue;
        found.push({ file: files[row] ?? 0, line: lines[row] ?? 0, column: columns[row] ?? 0 });
      }
    }
    return found;
  }

  /** The first row behind an offset. */
  #behind(sequence: Sequence, offset: number): number {
    const { offsets } = this.#rows;
    let begin = sequence.first;
    let end = sequence.last;
    while (begin < end) {
      const middle = (begin + end) >>> 1;
      if ((offsets[middle] ?? 0) <= offset) begin = middle + 1;
      else end = middle;
    }
    return begin;
  }

  #atOffset(sequence: Sequence, offset: number): LineRun | undefined {
    const { offsets, files, lines, columns, flags } = this.#rows;
    const begin = this.#behind(sequence, offset);
    const last = begin - 1;
    if (last < sequence.first) return undefined;
    const row = this.#effective(sequence, last);
    const same = (other: number): boolean => lines[other] === lines[row] && files[other] === files[row];
    let first = row;
    // Rows that share their address with a later one have no code (unless they are the statement of it).
    for (;;) {
      while (first > sequence.first && offsets[first - 1] === offsets[first]) first--;
      if (first === sequence.first) break;
      const before = this.#effective(sequence, first - 1);
      if (!same(before)) break;
      first = before;
    }
    let next = begin;
    while (next < sequence.last) {
      let group = next;
      while (group + 1 < sequence.last && offsets[group + 1] === offsets[group]) group++;
      if (!same(this.#effective(sequence, group))) break;
      next = group + 1;
    }
    return {
      start: sequence.base + BigInt(offsets[first] ?? 0),
      end: sequence.base + BigInt(next < sequence.last ? (offsets[next] ?? 0) : sequence.length),
      file: files[row] ?? 0,
      line: lines[row] ?? 0,
      column: columns[row] ?? 0,
      isStatement: ((flags[row] ?? 0) & IS_STATEMENT) !== 0,
    };
  }

  /** Of rows at one address, of which `last` is the last, the one that names the code: the last statement, as in gdb,
   *  so that a breakpoint for a line is shown at that line; the last row when none is a statement. */
  #effective(sequence: Sequence, last: number): number {
    const { offsets, flags, lines } = this.#rows;
    let row = last;
    while (
      ((flags[row] ?? 0) & IS_STATEMENT) === 0 &&
      row > sequence.first &&
      offsets[row - 1] === offsets[last] &&
      lines[row - 1] !== 0
    ) {
      row--;
    }
    return ((flags[row] ?? 0) & IS_STATEMENT) !== 0 ? row : last;
  }

  /** Where the body of the function [start, end) begins: at the first row that a compiler marked as the end of the
   *  prologue, else at the second line of the function, as gdb guesses; `start` when there is neither. */
  prologueEnd(start: bigint, end: bigint): bigint {
    const { offsets, lines, flags } = this.#rows;
    const sequence = this.#sequences.find(({ base, length }) => start >= base && start < base + BigInt(length));
    if (sequence === undefined) return start;
    const from = Number(start - sequence.base);
    const to = Number(end - sequence.base);
    let firstLine: number | undefined;
    let second: number | undefined;
    for (let row = sequence.first; row < sequence.last; row++) {
      const offset = offsets[row] ?? 0;
      if (offset < from || ((flags[row] ?? 0) & IS_STATEMENT) === 0) continue;
      if (offset >= to) break;
      if (((flags[row] ?? 0) & PROLOGUE_END) !== 0) return sequence.base + BigInt(offset);
      if (firstLine === undefined) firstLine = lines[row];
      // A repeated row of the same line also ends a prologue: gcc writes one for the body of a one-line function.
      else if (second === undefined && offset > from && lines[row] !== 0) second = offset;
    }
    return second === undefined ? start : sequence.base + BigInt(second);
  }
}
