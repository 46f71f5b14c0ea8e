/** What this reader says of a compiled file, against binutils, elfutils, LLVM and gdb. Each difference belongs to a class that
 *  is named here. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { printSubcommand } from '../../src/command/print.ts';
import { lineHeaders } from '../../src/symbols/dwarf/line.ts';
import { DwarfSections } from '../../src/symbols/dwarf/sections.ts';
import { ElfFile } from '../../src/symbols/elf.ts';
import { SymbolFile } from '../../src/symbols/image.ts';
import type { Contents, FunctionSymbol } from './functionSymbols.ts';
import { breakOn, placesOf } from './gdbBreakpoints.ts';
import { layout, layoutOfGdb } from './gdbLayout.ts';
import { gdbPrints, inCommon } from './gdbPrint.ts';
import { type Architecture, linesOf, outputOf } from './kernel.ts';
import { decoded, programsOf, type Row, rowsOf } from './lineRows.ts';
import { binutils, chainOf, elfutils, type Frame, type Frames, framesOf, llvm, majority } from './symbolizers.ts';

export const composites = [
  'struct point',
  'struct pair',
  'struct mixed_pair',
  'struct narrow',
  'struct bits',
  'struct packed_bits',
  'struct anonymous',
  'struct flexible',
  'struct node',
  'struct aligned',
  'union overlay',
  'struct empty',
];
/** Functions that have copies in others; at -O2 some have nothing else. */
const inlineFunctions = ['clamp', 'spread', 'mix', 'mix_all', 'push', 'counter', 'raise_level'];

export const hex = (address: bigint): string => `0x${address.toString(16)}`;
export const ascending = (list: Iterable<bigint>): bigint[] => [...new Set(list)].sort((a, b) => (a < b ? -1 : 1));

/** A compiled file, and where this reader has what its symbols say. */
export class Compiled {
  readonly image: SymbolFile;
  readonly #bases: ReadonlyMap<number, bigint>;

  constructor(
    readonly path: string,
    /** The same, and .debug_aranges, without which elfutils finds no unit. clang writes none unless it is asked to. */
    readonly withRanges: string,
    readonly architecture: Architecture,
    readonly contents: Contents,
  ) {
    this.image = SymbolFile.open(path);
    this.image.names?.build();
    const address = new Map(this.image.sections.map((section) => [section.name, section.address]));
    const bases = [...contents.sections].map(([name, number]) => [number, address.get(name) ?? 0n] as const);
    this.#bases = new Map(this.image.isRelocatable ? bases : []);
  }

  /** This reader's address of the start of a section; of 0 in a file whose symbols are addresses. */
  base(section: number): bigint {
    return this.#bases.get(section) ?? 0n;
  }

  get functions(): readonly FunctionSymbol[] {
    return this.contents.functions;
  }

  /** Sections with functions. */
  get codeSections(): readonly string[] {
    const used = new Set(this.functions.map(({ section }) => section));
    return [...this.contents.sections].filter(([, number]) => used.has(number)).map(([name]) => name);
  }
}

/** A path as both have it: readelf leaves the compilation directory out of some, and marks them with `[++]`. */
const relative = (path: string): string =>
  posix.relative(import.meta.dirname, posix.resolve(import.meta.dirname, path.replace(/:\[\+\+\]$/, '')));

const chain = (frames: readonly Frame[]): string =>
  chainOf(frames.map((frame) => ({ ...frame, file: relative(frame.file) })));

/** The rows of each unit. */
async function readelfRows(path: string): Promise<readonly (readonly Row[])[]> {
  const programs: (readonly Row[])[] = [];
  for await (const program of programsOf(path)) programs.push([...rowsOf(program)]);
  return programs;
}

/** Compares all rows; returns how many there are. */
export async function compareRows({ path, image }: Compiled): Promise<number> {
  const programs = await readelfRows(path);
  const elf = new ElfFile(path);
  try {
    const sections = new DwarfSections(elf);
    const headers = [...lineHeaders(sections)];
    assert.equal(headers.length, programs.length);
    for (const [number, header] of headers.entries()) {
      const wanted = programs[number] ?? [];
      const ours = decoded(sections, header);
      assert.equal(ours.length, wanted.length);
      for (const [index, row] of wanted.entries()) {
        const mine = ours[index] as Row;
        const address = BigInt(`0x${mine.address}`);
        // Of a relocatable file readelf shows offsets in sections. What is behind the end is the end's.
        const section = image.sections.find(({ address: start, size }) => address >= start && address <= start + size);
        const shift = image.isRelocatable ? (section?.address ?? 0n) : 0n;
        assert.deepEqual(
          {
            ...mine,
            path: row.path === undefined ? undefined : relative(mine.path ?? ''),
            address: (address - shift).toString(16),
          },
          { ...row, path: row.path === undefined ? undefined : relative(row.path) },
          `row ${index} of unit ${number}`,
        );
      }
    }
    return programs.flat().length;
  } finally {
    elf.close();
  }
}

/** The symbolizers' answers for each address of the section's functions, of which x86-64 has one in each byte. */
export async function compareAddresses(compiled: Compiled, section: string): Promise<Record<string, number>> {
  const { path, withRanges, architecture, image } = compiled;
  const number = compiled.contents.sections.get(section) ?? -1;
  const step = architecture === 'arm64' ? 4 : 1;
  const values = compiled.functions
    .filter((each) => each.section === number)
    .flatMap(({ value, size }) => Array.from({ length: size / step }, (_, index) => value + BigInt(index * step)));
  const addresses = ascending(values).map(hex);
  const question = { path, architecture, addresses, ...(image.isRelocatable ? { section } : {}) };
  // LLVM 14 has no way to say which section is meant: of a relocatable file what the other two agree on is right.
  const theirs: Frames[] = await Promise.all([
    binutils(question),
    elfutils({ ...question, path: withRanges }),
    ...(image.isRelocatable ? [] : [llvm(question)]),
  ]);
  const asked = addresses.map((address) => hex(BigInt(address) + compiled.base(number)));
  const ours = await framesOf(image, asked);
  const other = SymbolFile.open(withRanges);
  assert.deepEqual(await framesOf(other, asked), ours);
  other.close();
  const classes = { equal: 0, ranges: 0 };
  const unexplained: string[] = [];
  for (const [index, [, frames]] of [...ours].entries()) {
    const mine = chain(frames);
    const said = theirs.map((each) => chain(each.get(addresses[index] ?? '') ?? []));
    const decided = majority(said);
    if (decided === mine) classes.equal++;
    // binutils 2.40 leaves out inlined calls whose copy is in several ranges (DW_FORM_rnglistx) in a relocatable file.
    else if (image.isRelocatable && said[1] === mine && isLeavingOut(said[0] ?? '', mine)) classes.ranges++;
    else unexplained.push([addresses[index], mine, ...said].join('\n  '));
  }
  assert.deepEqual(unexplained, []);
  return classes;
}

/** Whether a chain is of the same line and the same function out of line as a longer one. */
const isLeavingOut = (shorter: string, longer: string): boolean => {
  const [short, long] = [shorter, longer].map((text) => text.split(', from ').map((frame) => frame.split(' '))) as [
    string[][],
    string[][],
  ];
  return short.length < long.length && short[0]?.[1] === long[0]?.[1] && short.at(-1)?.[0] === long.at(-1)?.[0];
};

/** Compares all members; returns how many lines gdb shows. */
export async function compareLayouts({ path, image }: Compiled, types: readonly string[]): Promise<number> {
  const commands = types.flatMap((name) => ['-ex', `echo @${name}\\n`, '-ex', `ptype /o ${name}`]);
  const text = await outputOf('gdb-multiarch', ['-nx', '-batch', '-ex', 'set width 0', ...commands, path]);
  const answers = text.split(/^@/m).slice(1);
  assert.equal(answers.length, types.length);
  let lines = 0;
  for (const answer of answers) {
    const [, tag = '', name = ''] = /^(\w+) (\w+)\n/.exec(answer) ?? [];
    const type = image.typeNamed(tag as 'struct' | 'union', name) ?? assert.fail(name);
    const ours = [...layout(type)];
    assert.deepEqual(ours, [...layoutOfGdb(answer.slice(answer.indexOf('\n') + 1))], name);
    lines += ours.length;
  }
  return lines;
}

/** Compares the places of functions. */
export async function compareBreakpoints(compiled: Compiled): Promise<Record<string, number>> {
  const { image, path } = compiled;
  const names = new Set([...compiled.functions.map(({ name }) => name), ...inlineFunctions]);
  const answer = placesOf(await breakOn(path, [...names]));
  const bases = image.isRelocatable ? await gdbSections(compiled) : new Map<string, bigint>();
  const shifts = [...bases].map(([name, start]) => {
    const base = compiled.base(compiled.contents.sections.get(name) ?? -1);
    return { start, shift: base - start };
  });
  const entries = await entryPcs(path);
  const classes = { equal: 0, entry: 0 };
  const unexplained: string[] = [];
  for (const [name, places] of answer) {
    const ours = ascending(image.functionBreakpoint(name).map(({ address }) => address));
    const theirs = ascending(
      places.map((place) => place + (shifts.findLast(({ start }) => place >= start)?.shift ?? 0n)),
    );
    const isCopy = (address: bigint): boolean => image.inlinesAt(address).some((each) => each.name === name);
    const [mine, other] = [
      ours.filter((each) => !theirs.includes(each)),
      theirs.filter((each) => !ours.includes(each)),
    ];
    if (ours.length > 0 && ours.join() === theirs.join()) classes.equal++;
    // An inlined copy in several ranges: DW_AT_entry_pc says where it is entered, gdb 13 takes the first range.
    else if (mine.length === other.length && areIn(mine, entries) && other.every(isCopy)) classes.entry++;
    else unexplained.push(`${name}: ours ${ours.map(hex).join(' ')}; gdb ${theirs.map(hex).join(' ')}`);
  }
  assert.deepEqual(unexplained, []);
  return classes;
}

/** Every DW_AT_entry_pc. */
async function entryPcs(path: string): Promise<ReadonlySet<bigint>> {
  const entries = new Set<bigint>();
  for await (const line of linesOf('readelf', ['--debug-dump=info', path])) {
    const [, entry] = /DW_AT_entry_pc +: (0x[0-9a-f]+)/.exec(line) ?? [];
    if (entry !== undefined) entries.add(BigInt(entry));
  }
  return entries;
}

/** The addresses that gdb gives the sections of a relocatable file, ascending. */
async function gdbSections({ path }: Compiled): Promise<ReadonlyMap<string, bigint>> {
  const bases = new Map<string, bigint>();
  for await (const line of linesOf('gdb-multiarch', ['-nx', '-batch', '-ex', 'info files', path])) {
    const [, start, name] = /^\t(0x[0-9a-f]+) - 0x[0-9a-f]+ is (\S+)$/.exec(line) ?? [];
    if (start !== undefined && name !== undefined) bases.set(name, BigInt(start));
  }
  return bases;
}

/** Names of global symbols of these types, sorted. */
export async function globals(path: string, types: readonly string[] = ['OBJECT']): Promise<readonly string[]> {
  const names: string[] = [];
  for await (const line of linesOf('readelf', ['-sW', path])) {
    const [, , , type = '', binding, , section, name = ''] = line.trim().split(/\s+/);
    if (types.includes(type) && binding === 'GLOBAL' && section !== 'UND') names.push(name);
  }
  return names.sort();
}

export async function printed({ image }: Compiled, name: string): Promise<string> {
  const [line = ''] = (await printSubcommand.run(image, [name])).text();
  return line.slice(`${name} = `.length);
}

/** What is printed of a variable, without where things are. */
export const withoutAddresses = (text: string): string => text.replaceAll(/0x[0-9a-f]{7,}(?= [<"]|[,}]|$)/g, 'ADDRESS');

/** gdb's text without what it is known to do otherwise:
 *  - 17 digits of a number that needs fewer to be read back;
 *  - the bits of what is not a number;
 *  - flags in parentheses. */
const asOurs = (text: string): string =>
  text
    .replaceAll(/-?nan\(0x[0-9a-f]+\)/g, 'NaN')
    .replaceAll(/(?<![\w.])-?\d+\.\d+(?:e[+-]\d+)?/g, (number) => `${Number(number)}`)
    .replaceAll(/\((FLAG_\w+(?: \| FLAG_\w+)*)\)/g, '$1');

/** Compares all globals; returns how many there are. */
export async function comparePrints(compiled: Compiled): Promise<number> {
  const names = await globals(compiled.path);
  const theirs = await gdbPrints(compiled.path, names);
  const unexplained: string[] = [];
  for (const [index, name] of names.entries()) {
    const [ours, gdb] = inCommon(await printed(compiled, name), asOurs(theirs[index] ?? ''));
    if (ours === '' || ours !== gdb) unexplained.push([name, ours, gdb].join('\n  '));
  }
  assert.deepEqual(unexplained, []);
  return names.length;
}

/** The names of the arguments and variables at each row: those of blocks and inlined calls. Returns how many there are. */
export async function compareScopes({ path, image }: Compiled): Promise<number> {
  const rows = (await readelfRows(path)).flat().filter(({ line }) => line !== '-');
  const addresses = ascending(rows.map(({ address }) => BigInt(`0x${address}`))).map(hex);
  const commands = addresses.flatMap((address) => ['-ex', `echo \\n@${address}\\n`, '-ex', `info scope *${address}`]);
  const text = await outputOf('gdb-multiarch', ['-nx', '-batch', '-ex', 'set width 0', ...commands, path]);
  const unexplained: string[] = [];
  let count = 0;
  for (const answer of text.split(/^@/m).slice(1)) {
    const [at = ''] = answer.split('\n');
    // The function itself is among them where a copy of it begins.
    const named = [...answer.matchAll(/^Symbol (\w+) is (?!a function)/gm)].map(([, name = '']) => name);
    const theirs = [...new Set(named)].sort().join();
    const mine = image.variablesAt(BigInt(at), 0).map(({ name }) => name);
    const ours = mine.sort().join();
    if (ours !== theirs) unexplained.push(`${at}: ours ${ours}; gdb ${theirs}`);
    count += mine.length;
  }
  assert.deepEqual(unexplained, []);
  return count;
}

export const lineCount = (file: string): number =>
  readFileSync(join(import.meta.dirname, file), 'utf8').split('\n').length - 1;

/** Compares where breakpoints on each line of the sources go. */
export async function compareLines({ path, image }: Compiled): Promise<Record<string, number>> {
  const places = ['sample.c', 'sample.h'].flatMap((file) => {
    return Array.from({ length: lineCount(file) }, (_, index) => `${file}:${index + 1}`);
  });
  const answer = placesOf(await breakOn(path, places));
  const { statements, forgotten } = await statementsOf(path);
  const classes = { equal: 0, forgotten: 0, next: 0 };
  const unexplained: string[] = [];
  for (const [index, place] of places.entries()) {
    const [file = '', line] = place.split(':');
    const locations = image.locationsOf(file, Number(line));
    const ours = ascending(locations.map(({ address }) => address));
    const gdb = ascending(answer.get(place) ?? []);
    const actual = `${file}:${locations[0]?.line}`;
    const isForgotten = (address: bigint): boolean => forgotten.get(actual)?.has(address) === true;
    const kept = ours.filter((address) => !isForgotten(address));
    const others = gdb.filter((address) => !ours.includes(address));
    const around = (address: bigint): string =>
      image
        .inlinesAt(address)
        .map(({ die }) => die)
        .join();
    // A later row of the line, in the same copy, stands for one that gdb has forgotten.
    const isLater = (other: bigint): boolean =>
      statements.get(actual)?.has(other) === true &&
      ours.some((address) => isForgotten(address) && address < other && around(address) === around(other));
    if (ours.join() === gdb.join()) classes.equal++;
    else if (kept.length > 0 && areIn(kept, new Set(gdb)) && others.every(isLater)) classes.forgotten++;
    // All are forgotten: it goes on to the next line.
    else if (kept.length === 0 && gdb.join() === ascending(answer.get(places[index + 1] ?? '') ?? []).join())
      classes.next++;
    else unexplained.push(`${place}: ours ${ours.map(hex).join(' ')}; gdb ${gdb.map(hex).join(' ')}`);
  }
  assert.deepEqual(unexplained, []);
  return classes;
}

const areIn = (addresses: readonly bigint[], known: ReadonlySet<bigint>): boolean =>
  addresses.every((address) => known.has(address));

type Places = ReadonlyMap<string, ReadonlySet<bigint>>;

/** Addresses by `FILE:LINE`: all statements, and those of which gdb 13 keeps no row. Where the program changes to another
 *  file at the same address, gdb ends the rows of the first file there (dwarf2/read.c, dwarf_finish_line), and drops those that
 *  are empty then (buildsym.c, record_line). gcc has such rows for calls of inlined functions. */
async function statementsOf(path: string): Promise<{ readonly statements: Places; readonly forgotten: Places }> {
  const [statements, forgotten] = [new Map<string, Set<bigint>>(), new Map<string, Set<bigint>>()];
  const add = (all: Map<string, Set<bigint>>, { file, line, address }: Row): void => {
    all.set(`${file}:${line}`, (all.get(`${file}:${line}`) ?? new Set()).add(BigInt(`0x${address}`)));
  };
  for (const rows of await readelfRows(path)) {
    for (const [index, row] of rows.entries()) {
      if (row.isStatement) add(statements, row);
      const change = rows.slice(index + 1).find(({ file, address }) => file !== row.file || address !== row.address);
      if (change?.address === row.address) add(forgotten, row);
    }
  }
  return { statements, forgotten };
}
