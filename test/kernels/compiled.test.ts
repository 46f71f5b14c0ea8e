// A program of our own, compiled by clang: DWARF 4 and 5, with and without optimisation, relocatable and linked, against
// binutils, elfutils, LLVM and gdb. Each difference belongs to a class that is named here.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, posix } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { printSubcommand } from '../../src/command/print.ts';
import { type LineHeader, lineHeaders } from '../../src/symbols/dwarf/line.ts';
import { DwarfSections } from '../../src/symbols/dwarf/sections.ts';
import { ElfFile } from '../../src/symbols/elf.ts';
import { SymbolFile } from '../../src/symbols/image.ts';
import { type Contents, contents, type FunctionSymbol } from './functionSymbols.ts';
import { breakOn, placesOf } from './gdbBreakpoints.ts';
import { layout, layoutOfGdb } from './gdbLayout.ts';
import { gdbPrints, inCommon } from './gdbPrint.ts';
import { type Architecture, architectures, linesOf, outputOf } from './kernel.ts';
import { decoded, programsOf, type Row, rowsOf } from './lineRows.ts';
import { binutils, chainOf, elfutils, type Frame, type Frames, framesOf, llvm, majority } from './symbolizers.ts';

const machines = { arm64: 'aarch64', amd64: 'x86_64' } as const;
/** Where kernels are. */
const imageBase = '0xffffffff81000000';
const composites = [
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

interface Variant {
  readonly architecture: Architecture;
  readonly version: 4 | 5;
  readonly optimisation: 0 | 2;
}

/** Compiles and links; paths of the relocatable and the linked file. */
async function make(
  { architecture, version, optimisation }: Variant,
  folder: string,
  more: readonly string[] = [],
): Promise<[string, string]> {
  mkdirSync(folder);
  const [object, program] = [join(folder, 'sample.o'), join(folder, 'sample')];
  await outputOf('clang', [
    `--target=${machines[architecture]}-linux-gnu`,
    // Nothing but the compiler is there: no headers, of a system or its own.
    ...['-nostdinc', '-ffreestanding', '-fno-pic', '-Wall', '-Werror'],
    ...(architecture === 'amd64' ? ['-mcmodel=kernel', '-mno-red-zone'] : []),
    ...[`-gdwarf-${version}`, `-O${optimisation}`, ...more],
    // So that paths are relative.
    ...[`-working-directory=${import.meta.dirname}`, '-c', 'sample.c', '-o', object],
  ]);
  nameAsUpstream(object);
  const linker = `${machines[architecture]}-linux-gnu-ld` as const;
  await outputOf(linker, [`-Ttext-segment=${imageBase}`, '-e', 'entry', object, '-o', program]);
  return [object, program];
}

/** gdb takes a compiler for clang, whose rows say where prologues end, when DW_AT_producer begins with `clang ` (producer.c,
 *  producer_is_llvm): Debian's begins with `Debian clang `. */
function nameAsUpstream(object: string): void {
  const bytes = readFileSync(object);
  const [name, version] = /Debian (clang version [^\0]*)/.exec(bytes.toString('latin1')) ?? [];
  if (name === undefined || version === undefined) return;
  bytes.write(version.padEnd(name.length), bytes.indexOf(name), 'latin1');
  writeFileSync(object, bytes);
}

const hex = (address: bigint): string => `0x${address.toString(16)}`;
const ascending = (list: Iterable<bigint>): bigint[] => [...new Set(list)].sort((a, b) => (a < b ? -1 : 1));

/** A compiled file, and where this reader has what its symbols say. */
class Compiled {
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

/** The rows of a file of one unit. */
async function readelfRows(path: string): Promise<readonly Row[]> {
  const programs: (readonly string[])[] = [];
  for await (const program of programsOf(path)) programs.push(program);
  assert.equal(programs.length, 1);
  return [...rowsOf(programs[0] ?? [])];
}

/** Compares all rows; returns how many there are. */
async function compareRows({ path, image }: Compiled): Promise<number> {
  const wanted = await readelfRows(path);
  const elf = new ElfFile(path);
  try {
    const sections = new DwarfSections(elf);
    const [header] = lineHeaders(sections);
    const ours = decoded(sections, header as LineHeader);
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
        `row ${index}`,
      );
    }
    return wanted.length;
  } finally {
    elf.close();
  }
}

/** The symbolizers' answers for each address of the section's functions, of which x86-64 has one in each byte. */
async function compareAddresses(compiled: Compiled, section: string): Promise<Record<string, number>> {
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
async function compareLayouts({ path, image }: Compiled): Promise<number> {
  const commands = composites.flatMap((name) => ['-ex', `echo @${name}\\n`, '-ex', `ptype /o ${name}`]);
  const text = await outputOf('gdb-multiarch', ['-nx', '-batch', '-ex', 'set width 0', ...commands, path]);
  const answers = text.split(/^@/m).slice(1);
  assert.equal(answers.length, composites.length);
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

async function compareBreakpoints(compiled: Compiled): Promise<Record<string, number>> {
  const { image, path } = compiled;
  const names = new Set([...compiled.functions.map(({ name }) => name), ...inlineFunctions]);
  const answer = placesOf(await breakOn(path, [...names]));
  const bases = image.isRelocatable ? await gdbSections(compiled) : new Map<string, bigint>();
  const shifts = [...bases].map(([name, start]) => {
    const base = compiled.base(compiled.contents.sections.get(name) ?? -1);
    return { start, shift: base - start };
  });
  const classes = { equal: 0 };
  const unexplained: string[] = [];
  for (const [name, places] of answer) {
    const ours = ascending(image.functionBreakpoint(name).map(({ address }) => address));
    const theirs = ascending(
      places.map((place) => place + (shifts.findLast(({ start }) => place >= start)?.shift ?? 0n)),
    );
    if (ours.length > 0 && ours.join() === theirs.join()) classes.equal++;
    else unexplained.push(`${name}: ours ${ours.map(hex).join(' ')}; gdb ${theirs.map(hex).join(' ')}`);
  }
  assert.deepEqual(unexplained, []);
  return classes;
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

/** Names of the global variables. */
async function globals({ path }: Compiled): Promise<readonly string[]> {
  const names: string[] = [];
  for await (const line of linesOf('readelf', ['-sW', path])) {
    const [, , , type, binding, , , name = ''] = line.trim().split(/\s+/);
    if (type === 'OBJECT' && binding === 'GLOBAL') names.push(name);
  }
  return names.sort();
}

async function printed({ image }: Compiled, name: string): Promise<string> {
  const [line = ''] = (await printSubcommand.run(image, [name])).text();
  return line.slice(`${name} = `.length);
}

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
async function comparePrints(compiled: Compiled): Promise<number> {
  const names = await globals(compiled);
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
async function compareScopes({ path, image }: Compiled): Promise<number> {
  const rows = (await readelfRows(path)).filter(({ line }) => line !== '-');
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

describe('compiled by clang', () => {
  let folder = '';
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'kvm-debug-compiled-'));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  for (const architecture of architectures) {
    for (const version of [4, 5] as const) {
      for (const optimisation of [0, 2] as const) {
        describe(`${architecture}, DWARF ${version}, -O${optimisation}`, () =>
          suite({ architecture, version, optimisation }));
      }
    }
  }

  function suite(variant: Variant): void {
    const { architecture, version, optimisation } = variant;
    let files: readonly Compiled[] = [];
    const [relocatable, linked] = [() => files[0] as Compiled, () => files[1] as Compiled];
    before(async () => {
      const place = join(folder, `${architecture}-${version}-${optimisation}`);
      const [object, program] = await make(variant, place);
      const [objectWithRanges, programWithRanges] = await make(variant, `${place}-aranges`, ['-gdwarf-aranges']);
      files = [
        new Compiled(object, objectWithRanges, architecture, await contents(object)),
        new Compiled(program, programWithRanges, architecture, await contents(program)),
      ];
    });
    after(() => {
      for (const { image } of files) image.close();
    });

    test('the forms are those of this version', async () => {
      const forms = new Set<string>();
      for await (const line of linesOf('readelf', ['--debug-dump=abbrev', relocatable().path])) {
        const [form] = /DW_FORM_\w+/.exec(line) ?? [];
        if (form !== undefined) forms.add(form.slice('DW_FORM_'.length).replace(/\d$/, ''));
      }
      const wanted = {
        strx: version === 5,
        addrx: version === 5,
        rnglistx: version === 5,
        loclistx: version === 5 && optimisation > 0,
        strp: version === 4,
      };
      assert.deepEqual(Object.fromEntries(Object.keys(wanted).map((form) => [form, forms.has(form)])), wanted);
    });

    for (const [kind, file] of Object.entries({ relocatable, linked })) {
      test(`${kind}: every row of the line program, against readelf`, async () => {
        assert.ok((await compareRows(file())) > 200);
      });
      test(`${kind}: every address of functions, against binutils, elfutils and LLVM`, async (context) => {
        for (const section of file().codeSections) {
          context.diagnostic(`${section} ${JSON.stringify(await compareAddresses(file(), section))}`);
        }
      });
      test(`${kind}: ${composites.length} structs and unions, against gdb`, async () => {
        assert.ok((await compareLayouts(file())) > 90);
      });
      test(`${kind}: breakpoints on functions, against gdb`, async (context) => {
        context.diagnostic(JSON.stringify(await compareBreakpoints(file())));
      });
    }

    test('linked: globals, against gdb', async () => {
      assert.ok((await comparePrints(linked())) > 40);
    });

    test('linked: arguments and locals at each row, against gdb', async (context) => {
      const count = await compareScopes(linked());
      context.diagnostic(`${count} of them`);
      assert.ok(count > 200);
    });

    test('relocatable: globals, as in the linked file but for the addresses', async () => {
      for (const name of await globals(relocatable())) {
        const [ours, theirs] = await Promise.all([relocatable(), linked()].map((file) => printed(file, name)));
        const withoutAddresses = (text = ''): string => text.replaceAll(/0x[0-9a-f]{7,}(?= [<"]|[,}]|$)/g, 'ADDRESS');
        assert.equal(withoutAddresses(ours), withoutAddresses(theirs), name);
      }
    });

    test('statics of functions', async () => {
      for (const file of files) {
        assert.equal(file.image.variablesNamed('count').length, 2, 'of blocks of one function');
        assert.equal(await printed(file, 'count'), '5');
        // Nobody reads the first member: clang gives an optimised variable the place of the second only.
        const first = optimisation === 0 ? '6' : '<optimised out>';
        assert.equal(await printed(file, 'last'), `{x = ${first}, y = -6}`);
      }
    });
  }
});
