// Rows that begin a statement, without a table of all rows.

import { IS_STATEMENT, isDiscarded, type LineHeader, runLineProgram } from './line.ts';
import type { DwarfSections } from './sections.ts';

export interface StatementRow {
  readonly address: bigint;
  readonly file: number;
  readonly line: number;
  readonly column: number;
  /** The row before it is of the same line. */
  readonly continues: boolean;
}

/** Calls back for every row of a statement in one of the files, ascending within a sequence. */
export const eachStatement = (
  sections: DwarfSections,
  header: LineHeader,
  isWanted: (file: number) => boolean,
  visit: (statement: StatementRow) => void,
): void => {
  let base = 0n;
  let previousFile = 0;
  let previousLine = 0;
  // Programs stay in one file for many rows.
  let wantedFile = -1;
  let unwantedFile = -1;
  runLineProgram(sections.get('.debug_line'), header, {
    begin: (address) => {
      base = address;
      previousLine = 0;
      return !isDiscarded(address);
    },
    row: (offset, file, line, column, flags) => {
      const continues = line === previousLine && file === previousFile;
      previousFile = file;
      previousLine = line;
      if ((flags & IS_STATEMENT) === 0 || line === 0 || file === unwantedFile) return;
      if (file !== wantedFile) {
        if (!isWanted(file)) {
          unwantedFile = file;
          return;
        }
        wantedFile = file;
      }
      visit({ address: base + BigInt(offset), file, line, column, continues });
    },
    end: () => {},
  });
};
