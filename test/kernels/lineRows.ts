/** Line number programs: the rows that readelf decodes, and those that this reader does. */
import { basename } from 'node:path';
import { FileTable } from '../../src/symbols/dwarf/fileTable.ts';
import { IS_STATEMENT, type LineHeader, runLineProgram } from '../../src/symbols/dwarf/line.ts';
import type { DwarfSections } from '../../src/symbols/dwarf/sections.ts';
import { linesOf } from './kernel.ts';

/** The programs as readelf shows them: a heading `CU: NAME:`, then rows. */
export async function* programsOf(path: string): AsyncGenerator<readonly string[]> {
  let program: string[] | undefined;
  for await (const line of linesOf('readelf', ['-W', '--debug-dump=decodedline', path])) {
    if (line.startsWith('CU: ')) {
      if (program !== undefined) yield program;
      program = [];
    } else if (line !== '' && !line.startsWith('File name')) program?.push(line);
  }
  if (program !== undefined) yield program;
}

export interface Row {
  /** `undefined` where readelf gives the last component only: in front of the first change of files. */
  readonly path: string | undefined;
  readonly file: string;
  /** `-` ends a sequence. */
  readonly line: string;
  readonly address: string;
  readonly isStatement: boolean;
}

/** A row, or, before it, a heading with the path of the rows that follow. */
export function* rowsOf(lines: Iterable<string>, isWanted = (_file: string): boolean => true): Generator<Row> {
  let path: string | undefined;
  for (const text of lines) {
    // Kernels have millions of rows: those of other files are not looked at.
    if (!text.endsWith(':') && !text.includes(' - ') && !isWanted(text.slice(0, text.indexOf(' ')))) continue;
    const [, file = '', line = '', address = '', statement] =
      /^(\S.*?) +(\d+|-) +(?:0x)?([0-9a-f]+)(?: +\d+)?(?: +(x))? *$/.exec(text) ?? [];
    if (address === '') {
      path = text.replace(/:$/, '');
      continue;
    }
    yield { path, file, line, address: BigInt(`0x${address}`).toString(16), isStatement: statement === 'x' };
    if (line === '-') path = undefined;
  }
}

/** The rows of one program as this reader decodes them. */
export function decoded(sections: DwarfSections, header: LineHeader): Row[] {
  const table = FileTable.read(sections, header);
  const rows: Row[] = [];
  let base = 0n;
  let path = '';
  runLineProgram(sections.get('.debug_line'), header, {
    begin(address) {
      base = address;
      return true;
    },
    row(offset, file, line, _column, flags) {
      path = table.path(file);
      rows.push({
        path,
        file: basename(path),
        line: String(line),
        address: (base + BigInt(offset)).toString(16),
        isStatement: (flags & IS_STATEMENT) !== 0,
      });
    },
    end(offset) {
      const address = (base + BigInt(offset)).toString(16);
      rows.push({ path, file: basename(path), line: '-', address, isStatement: false });
    },
  });
  return rows;
}
