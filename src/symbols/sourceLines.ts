// From a source line to code. What matches are the file tables of the line programs, not the names of the units:
// headers have code in many units, and a .c file may be included by another. Only programs that match are decoded.

import { Recent } from '../base/recent.ts';
import { FileTable } from './dwarf/fileTable.ts';
import { lineHeaders, readLineHeader } from './dwarf/line.ts';
import type { DwarfSections } from './dwarf/sections.ts';
import { eachStatement } from './dwarf/statements.ts';
import { mayBeSpelledDifferently, PathPattern, wholePath } from './sourcePaths.ts';

/** A statement of one line, in the order of the programs. */
export interface Statement {
  readonly address: bigint;
  readonly column: number;
  /** The row before it, in the same program, is of the same line. */
  readonly continues: boolean;
  readonly file: string;
}

interface MatchingProgram {
  /** In .debug_line. Headers are read again: a thousand of them would take 10 MiB. */
  readonly offset: number;
  /** File number to path. */
  readonly files: ReadonlyMap<number, string>;
}

/** A file of a program's table whose path the user may mean. */
interface Match {
  /** Of the program in .debug_line. */
  readonly offset: number;
  readonly number: number;
  readonly path: string;
  readonly rank: number;
}

/** The statements of one file, in columns. */
interface FileStatements {
  readonly programs: readonly MatchingProgram[];
  /** Lines with code, ascending. */
  readonly lines: readonly number[];
  /** By line: indexes into the columns. */
  readonly byLine: ReadonlyMap<number, readonly number[]>;
  readonly addresses: readonly bigint[];
  readonly columns: readonly number[];
  readonly programOf: readonly number[];
  readonly fileOf: readonly number[];
  readonly continues: readonly boolean[];
}

/** Files whose statements are kept: an editor asks for one file many times over. */
const keptFiles = 8;

export class SourceLines {
  readonly #byFile = new Recent<string, FileStatements>(keptFiles);

  /** `programsNaming`: offsets of the line programs that may name a file, by the last component of its path; undefined
   *  when all have to be looked at. `directories`: compilation directories by the offset of the line program. */
  constructor(
    readonly sections: DwarfSections,
    readonly programsNaming: (baseName: string) => readonly number[] | undefined,
    readonly directories: () => ReadonlyMap<number, string>,
  ) {}

  /** The statements of the first line from `line` on that has code. */
  statementsFrom(file: string, line: number): { readonly line: number; readonly statements: Statement[] } | undefined {
    const found = this.#statementsOf(file);
    const actual = found.lines[firstAtLeast(found.lines, line)];
    if (actual === undefined) return undefined;
    const statements = (found.byLine.get(actual) ?? []).map((index): Statement => {
      const program = found.programs[found.programOf[index] ?? 0] as MatchingProgram;
      return {
        address: found.addresses[index] ?? 0n,
        column: found.columns[index] ?? 0,
        continues: found.continues[index] ?? false,
        file: program.files.get(found.fileOf[index] ?? 0) ?? file,
      };
    });
    return { line: actual, statements };
  }

  linesBetween(file: string, from: number, to: number): number[] {
    const { lines } = this.#statementsOf(file);
    return lines.slice(firstAtLeast(lines, from), firstAtLeast(lines, to + 1));
  }

  /** Every path in the file tables that contains `pattern`, sorted. */
  files(pattern: string): string[] {
    const paths = new Set<string>();
    // Tables repeat: a path is built once for each pair of a directory and a name.
    const seen = new Set<string>();
    for (const header of lineHeaders(this.sections)) {
      const table = FileTable.read(this.sections, header);
      for (let number = 0; number < table.files.names.length; number++) {
        const key = table.key(number);
        if (key !== undefined) {
          if (seen.has(key)) continue;
          seen.add(key);
        }
        const path = table.path(number);
        if (path !== '' && path.includes(pattern)) paths.add(path);
      }
    }
    return [...paths].sort();
  }

  #statementsOf(file: string): FileStatements {
    return this.#byFile.of(file, () => decode(this.sections, this.#programsOf(new PathPattern(file))));
  }

  #programsOf(pattern: PathPattern): MatchingProgram[] {
    const filesOf = new Map<number, Map<number, string>>();
    for (const { offset, number, path } of this.#best(this.#matches(pattern))) {
      const files = filesOf.get(offset);
      if (files === undefined) filesOf.set(offset, new Map([[number, path]]));
      else files.set(number, path);
    }
    return [...filesOf].map(([offset, files]) => ({ offset, files }));
  }

  #matches(pattern: PathPattern): Match[] {
    const matchesName = new NameMatcher(this.sections, pattern.baseName);
    const matches: Match[] = [];
    const candidates = this.programsNaming(pattern.baseName);
    const headers = candidates?.map((offset) => readLineHeader(this.sections, offset)) ?? lineHeaders(this.sections);
    for (const header of headers) {
      const table = FileTable.read(this.sections, header);
      const { names } = table.files;
      for (let number = 0; number < names.length; number++) {
        if (!matchesName.test(table, names[number] ?? 0)) continue;
        const path = table.path(number);
        const rank = pattern.rank(path);
        if (rank > 0) matches.push({ offset: header.offset, number, path, rank });
      }
    }
    return matches;
  }

  /** The matches of the highest rank, and what is the same file by another path: where one compiler was given a path from
   *  the root on and another one from its directory on, or assembly is built twice (`../lib/memset.S`). */
  #best(matches: readonly Match[]): readonly Match[] {
    const highest = matches.reduce((rank, match) => Math.max(rank, match.rank), 0);
    const best = matches.filter(({ rank }) => rank === highest);
    if (best.length === matches.length || !mayBeSpelledDifferently(pathsOf(matches))) return best;
    const directories = this.directories();
    const whole = ({ offset, path }: Match): string | undefined => wholePath(path, directories.get(offset));
    const meant = new Set(best.map(whole));
    meant.delete(undefined);
    return matches.filter((match) => match.rank === highest || meant.has(whole(match)));
  }
}

/** Tells whether the last component of a file table's name is the one wanted. Names in .debug_line_str are looked at
 *  once each, however many tables refer to them. */
class NameMatcher {
  readonly #verdicts: Uint8Array; // 0 not known, 1 no, 2 yes
  readonly #suffix: string;

  constructor(
    sections: DwarfSections,
    readonly baseName: string,
  ) {
    this.#suffix = `/${baseName}`;
    const strings = sections.find('.debug_line_str');
    this.#verdicts = new Uint8Array(strings?.size ?? 0);
  }

  test(table: FileTable, name: number): boolean {
    const known = name < 0 ? 0 : this.#verdicts[name];
    if (known === 1) return false;
    if (known === 2) return true;
    const matches = this.#matches(table.text(name));
    if (name < 0) return matches;
    this.#verdicts[name] = matches ? 2 : 1;
    return matches;
  }

  #matches(name: string): boolean {
    return name === this.baseName || name.endsWith(this.#suffix);
  }
}

const pathsOf = (matches: readonly Match[]): ReadonlySet<string> => new Set(matches.map(({ path }) => path));

const decode = (sections: DwarfSections, programs: readonly MatchingProgram[]): FileStatements => {
  const byLine = new Map<number, number[]>();
  const addresses: bigint[] = [];
  const columns: number[] = [];
  const programOf: number[] = [];
  const fileOf: number[] = [];
  const continues: boolean[] = [];
  programs.forEach(({ offset, files }, program) => {
    eachStatement(
      sections,
      readLineHeader(sections, offset),
      (file) => files.has(file),
      (statement) => {
        const index = addresses.push(statement.address) - 1;
        columns.push(statement.column);
        programOf.push(program);
        fileOf.push(statement.file);
        continues.push(statement.continues);
        const same = byLine.get(statement.line);
        if (same === undefined) byLine.set(statement.line, [index]);
        else same.push(index);
      },
    );
  });
  const lines = [...byLine.keys()].sort((a, b) => a - b);
  return { programs, lines, byLine, addresses, columns, programOf, fileOf, continues };
};

const firstAtLeast = (sorted: readonly number[], value: number): number => {
  let begin = 0;
  let end = sorted.length;
  while (begin < end) {
    const middle = (begin + end) >>> 1;
    if ((sorted[middle] ?? 0) < value) begin = middle + 1;
    else end = middle;
  }
  return begin;
};
