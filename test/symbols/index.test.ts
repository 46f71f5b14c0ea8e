import assert from 'node:assert/strict';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { build as bundle } from 'esbuild';
import { SymbolFile } from '../../src/symbols/image.ts';
import { DwarfBuilder } from '../support/dwarfBuilder.ts';
import { type Bytes, buildElf, temporaryFile } from '../support/elfBuilder.ts';

const tag = {
  unit: 0x11, struct: 0x13, typedef: 0x16, base: 0x24, enum: 0x04, enumerator: 0x28, function: 0x2e, variable: 0x34,
  block: 0x0b,
}; // biome-ignore format: a table
const name = (form: number): [number, number] => [0x03, form];
const size: [number, number] = [0x0b, 0x0b];
const line: [number, number] = [0x3b, 0x0b];
const declaration: [number, number] = [0x3c, 0x19];
const location: [number, number] = [0x02, 0x18];
const sibling: [number, number] = [0x01, 0x13];

/** The entries of a unit, by what they are; each returns its offset in .debug_info. */
class UnitWriter {
  readonly offsets = new Map<string, number>();
  constructor(
    readonly dies: Bytes,
    readonly at: () => number,
    readonly unit: number,
    readonly builder: DwarfBuilder,
  ) {}

  #entry(label: string, code: number): Bytes {
    this.offsets.set(label, this.at());
    return this.dies.uleb(code);
  }
  #str(text: string): number {
    return this.builder.str.add(text);
  }
  struct(text: string, bytes: number, at: number, label = text): void {
    this.#entry(label, 2).u32(this.#str(text)).u8(bytes, at);
  }
  declaredStruct(text: string): void {
    this.#entry(`${text} declared`, 3).u32(this.#str(text));
  }
  /** Its name is in the entry itself, as those of up to three letters are. */
  typedef(text: string): void {
    this.#entry(text, 4).string(text).u8(7);
  }
  enumeration(text: string | undefined, ...enumerators: string[]): void {
    if (text === undefined) this.#entry(enumerators[0] ?? '', 6).u8(4, 9);
    else this.#entry(text, 5).u32(this.#str(text)).u8(4, 9);
    for (const each of enumerators) this.dies.uleb(7).u32(this.#str(each));
    this.dies.u8(0);
  }
  variable(text: string, label = text): void {
    this.#entry(label, 8).u32(this.#str(text)).uleb(9).u8(0x03).u64(0x1000);
  }
  externVariable(text: string): void {
    this.#entry(`${text} declared`, 9).u32(this.#str(text));
  }
  /** A variable that completes the declaration before it. */
  completing(text: string): void {
    const declared = this.offsets.get(`${text} declared`) ?? 0;
    this.#entry(text, 10).u32(declared).uleb(9).u8(0x03).u64(0x2000);
  }
  /** A variable whose first member was optimised away. */
  withoutFirst(text: string): void {
    this.#entry(text, 8).u32(this.#str(text)).uleb(13).u8(0x93, 4, 0x03).u64(0x1000).u8(0x93, 4);
  }
  /** A function with a block, in which there are statics, one without its first member, and a local variable. */
  function(text: string, statically: string, locally: string): void {
    this.#entry(text, 11).u32(this.#str(text));
    this.dies.uleb(12);
    this.variable(statically);
    this.withoutFirst(`rest of ${statically}`);
    this.dies.uleb(8).u32(this.#str(locally)).uleb(2).u8(0x91, 0x10); // DW_OP_fbreg
    this.dies.u8(0, 0);
  }
  declaredFunction(text: string): void {
    this.#entry(`${text} declared`, 13).u32(this.#str(text));
  }
  /** A structure with members, passed over by its sibling. */
  withMembers(text: string, member: string): void {
    const start = this.at();
    const length = 1 + 4 + 1 + 1 + 4 + (1 + 4) + 1;
    this.#entry(text, 14)
      .u32(this.#str(text))
      .u8(8, 3)
      .u32(start + length - this.unit);
    this.dies.uleb(15).u32(this.#str(member)).u8(0);
  }
}

/** An image of units with a little of everything. */
const build = (...units: ((unit: UnitWriter) => void)[]) => {
  const builder = new DwarfBuilder();
  const abbreviations = builder.abbreviations(
    [1, tag.unit, true],
    [2, tag.struct, false, name(0x0e), size, line],
    [3, tag.struct, false, name(0x0e), declaration],
    [4, tag.typedef, false, name(0x08), line],
    [5, tag.enum, true, name(0x0e), size, line],
    [6, tag.enum, true, size, line],
    [7, tag.enumerator, false, name(0x0e)],
    [8, tag.variable, false, name(0x0e), location],
    [9, tag.variable, false, name(0x0e), declaration],
    [10, tag.variable, false, [0x47, 0x10], location], // DW_FORM_ref_addr
    [11, tag.function, true, name(0x0e)],
    [12, tag.block, true],
    [13, tag.function, false, name(0x0e), declaration],
    [14, tag.struct, true, name(0x0e), size, line, sibling],
    [15, 0x0d, false, name(0x0e)],
  );
  builder.program({ version: 5, directories: ['/'], files: [{ name: 'a.c', directory: 0 }], ops: [] });
  const offsets = units.map((write) => {
    const offset = builder.info.length;
    let writer: UnitWriter | undefined;
    builder.unit(5, abbreviations, (dies, start) => {
      dies.uleb(1);
      writer = new UnitWriter(dies, () => offset + start + dies.length, offset, builder);
      write(writer);
      dies.u8(0);
    });
    return writer?.offsets ?? new Map<string, number>();
  });
  return { image: buildElf({ sections: builder.sections() }), offsets };
};

const sample = () =>
  build(
    (unit) => {
      unit.struct('task', 16, 5);
      unit.declaredStruct('device');
      unit.typedef('u8');
      unit.enumeration('state', 'RUNNING', 'SLEEPING');
      unit.enumeration(undefined, 'FIRST_FLAG', 'SECOND_FLAG');
      unit.externVariable('jiffies');
      unit.externVariable('root');
      unit.completing('root');
      unit.function('start', 'counter', 'local');
      unit.declaredFunction('helper');
    },
    (unit) => {
      unit.struct('task', 16, 5);
      unit.enumeration('state', 'RUNNING', 'SLEEPING');
      unit.struct('task', 24, 5, 'other task');
      unit.withMembers('device', 'inner');
      unit.variable('counter');
      unit.function('helper', 'once', 'other');
      unit.function('start', 'twice', 'other');
    },
  );

const temporaryFolder = (context: TestContext): string => {
  const folder = mkdtempSync(join(tmpdir(), 'kvm-debug-test-'));
  context.after(() => rmSync(folder, { recursive: true }));
  return folder;
};

const open = (context: TestContext, image: Uint8Array, cacheFolder = join(temporaryFolder(context), 'a', 'b')) => {
  const warnings: string[] = [];
  const path = temporaryFile(context, image);
  const file = SymbolFile.open(path, { cacheFolder, warn: (text) => warnings.push(text) });
  context.after(() => file.close());
  const { names } = file;
  assert.ok(names !== undefined);
  return { file, names, cacheFolder, warnings, path };
};

for (const indexed of [false, true]) {
  test(`names are found ${indexed ? 'by an index' : 'without an index'}`, (context) => {
    const { image, offsets } = sample();
    const { file, names } = open(context, image);
    if (indexed) names.build();
    assert.equal(names.isReady, indexed);
    const [first = new Map<string, number>(), second = new Map<string, number>()] = offsets;
    const at = (map: ReadonlyMap<string, number>, label: string): number => map.get(label) ?? -1;
    assert.deepEqual(file.functionsNamed('start'), [at(first, 'start'), at(second, 'start')]);
    assert.deepEqual(file.functionsNamed('helper'), [at(second, 'helper')], 'the definition');
    assert.deepEqual(file.functionsNamed('star'), []);
    assert.deepEqual(file.functionsNamed(''), []);
    assert.deepEqual(
      file.variablesNamed('counter'),
      [at(first, 'counter'), at(second, 'counter')],
      'a static, a global',
    );
    assert.deepEqual(file.variablesNamed('rest of counter'), [at(first, 'rest of counter')]);
    assert.deepEqual(file.variablesNamed('local'), []);
    assert.deepEqual(file.variablesNamed('root'), [at(first, 'root')], 'named by its declaration');
    assert.deepEqual(file.variablesNamed('jiffies'), [at(first, 'jiffies declared')], 'defined by a linker script');
    assert.deepEqual(file.typesNamed('device'), [at(second, 'device')], 'complete');
    assert.deepEqual(file.typesNamed('inner'), [], 'a member');
    assert.deepEqual(file.typesNamed('u8'), [at(first, 'u8')], 'a name in the entry itself');
    assert.deepEqual(file.typesNamed('u8', 'struct'), []);
    assert.deepEqual(file.typesNamed('state', 'enum'), [at(first, 'state')]);
    assert.deepEqual(file.enumeratorsNamed('SLEEPING'), [at(first, 'state')]);
    assert.deepEqual(file.enumeratorsNamed('SECOND_FLAG'), [at(first, 'FIRST_FLAG')]);
    if (indexed) {
      const tasks = [at(first, 'task'), at(second, 'other task')];
      assert.deepEqual(file.typesNamed('task'), tasks, 'what a header repeats is there once');
      const here = names.dies.units.at(names.dies.units.headerContaining(tasks[1] ?? 0).offset);
      assert.equal(names.types('task', 'struct', here)[0], at(second, 'task'), 'the unit’s own comes first');
    } else {
      assert.deepEqual(file.typesNamed('task'), [at(first, 'task')], 'the search ends with the first');
    }
  });
}

test('an index is kept, and found by the next session', (context) => {
  const { image } = sample();
  const { names, cacheFolder } = open(context, image);
  const seen: number[][] = [];
  names.build((done, total) => seen.push([done, total]));
  assert.deepEqual(seen.at(-1), [2, 2]);
  assert.deepEqual(readdirSync(cacheFolder).length, 1, 'and nothing temporary');
  // Without a build-id an image is known by its path.
  const again = SymbolFile.open(names.dies.units.sections.find('.debug_info') ? pathOf(names.key) : '', {
    cacheFolder,
  });
  context.after(() => again.close());
  assert.equal(again.names?.isReady, true);
  assert.equal(again.functionsNamed('start').length, 2);
  assert.equal(open(context, image, cacheFolder).names.isReady, false, 'the index of another image');
});

const pathOf = (key: string): string => /^file:(.*?):\d/.exec(key)?.[1] ?? '';

test('damaged indexes are not used, and are replaced', (context) => {
  const { image } = sample();
  const { names, cacheFolder, path } = open(context, image);
  names.build();
  const [file = ''] = readdirSync(cacheFolder);
  const indexPath = join(cacheFolder, file);
  const good = readFileSync(indexPath);
  const isReady = (): boolean => {
    const other = SymbolFile.open(path, { cacheFolder });
    try {
      return other.names?.isReady ?? false;
    } finally {
      other.close();
    }
  };
  assert.equal(isReady(), true);
  for (let at = 0; at < good.length; at++) {
    const bad = Uint8Array.from(good);
    bad[at] = (bad[at] ?? 0) ^ 0x41;
    writeFileSync(indexPath, bad);
    assert.equal(isReady(), false, `byte ${at} is another (8 is the version)`);
  }
  for (const size of [0, 7, 19, 60, good.length - 4, good.length - 1]) {
    writeFileSync(indexPath, good);
    truncateSync(indexPath, size);
    assert.equal(isReady(), false, `${size} bytes`);
  }
  const rebuilt = SymbolFile.open(path, { cacheFolder });
  context.after(() => rebuilt.close());
  assert.equal(rebuilt.names?.build(), undefined);
  assert.deepEqual(readFileSync(indexPath), good);
});

test('a cache that cannot be written is told once, and names are found', (context) => {
  const { image } = sample();
  const folder = temporaryFolder(context);
  writeFileSync(join(folder, 'file'), '');
  const { names, warnings, file } = open(context, image, join(folder, 'file', 'symbols'));
  assert.ok(names.build()?.bytes !== undefined);
  names.build();
  assert.equal(names.isReady, true);
  assert.equal(file.functionsNamed('start').length, 2);
  assert.equal(warnings.length, 1);
  assert.match(warnings[0] ?? '', /^The index of names is not kept: /);
});

test('the folder is bounded, and what killed builders left goes', (context) => {
  const { image } = sample();
  const folder = join(temporaryFolder(context), 'symbols');
  mkdirSync(folder);
  const old = (name: string, megabytes: number, age: number): void => {
    const path = join(folder, name);
    writeFileSync(path, '');
    truncateSync(path, megabytes << 20);
    const time = Date.now() / 1000 - age;
    utimesSync(path, time, time);
  };
  old('oldest.index', 200, 3000);
  old('older.index', 100, 2000);
  old('newer.index', 100, 1000);
  old('killed.index.1-a.tmp', 1, 7200);
  old('busy.index.1-a.tmp', 1, 10);
  old('notes.txt', 300, 9000);
  const { names } = open(context, image, folder);
  names.build();
  const left = readdirSync(folder).filter((name) => !name.startsWith('file-'));
  assert.deepEqual(left.sort(), ['busy.index.1-a.tmp', 'newer.index', 'notes.txt', 'older.index']);
});

/** The worker's bundle: what runs this test does not load TypeScript in workers. */
const bundleIndexer = async (context: TestContext): Promise<string> => {
  const outfile = join(temporaryFolder(context), 'indexer.cjs');
  const entry = new URL('../../src/indexer.ts', import.meta.url).pathname;
  await bundle({ entryPoints: [entry], outfile, bundle: true, platform: 'node', format: 'cjs', logLevel: 'warning' });
  return outfile;
};

test('a worker builds the index', async (context) => {
  const { image } = sample();
  const { file, names, path, cacheFolder } = open(context, image);
  const indexer = await bundleIndexer(context);
  const seen: number[] = [];
  const both = [
    names.buildInBackground(indexer, path, (done) => seen.push(done)),
    names.buildInBackground(indexer, path),
  ];
  assert.equal(names.isReady, false);
  assert.equal(file.functionsNamed('start').length, 2, 'found meanwhile');
  // The worker holds nobody up, this test neither.
  const alive = setInterval(() => undefined, 1000);
  await Promise.all(both);
  clearInterval(alive);
  assert.equal(names.isReady, true);
  assert.deepEqual(seen, [2]);
  assert.equal(readdirSync(cacheFolder).length, 1);
  assert.equal(file.functionsNamed('start').length, 2);
});

test('closing the file ends the worker, and that is no error', async (context) => {
  const { file, names, path } = open(context, sample().image);
  const alive = setInterval(() => undefined, 1000);
  context.after(() => clearInterval(alive));
  const building = names.buildInBackground(await bundleIndexer(context), path);
  file.close();
  await building;
  assert.equal(names.isReady, false);
});

test('a worker that cannot write hands the index over; one that fails says why', async (context) => {
  const { image } = sample();
  const indexer = await bundleIndexer(context);
  const folder = temporaryFolder(context);
  writeFileSync(join(folder, 'file'), '');
  const { names, path, warnings } = open(context, image, join(folder, 'file', 'symbols'));
  const alive = setInterval(() => undefined, 1000);
  context.after(() => clearInterval(alive));
  await names.buildInBackground(indexer, path);
  assert.equal(names.isReady, true);
  assert.equal(warnings.length, 1);
  const other = open(context, image);
  await assert.rejects(other.names.buildInBackground(indexer, '/nonexistent'), /no such file/);
  assert.equal(other.file.functionsNamed('start').length, 2, 'without an index');
});
