import assert from 'node:assert/strict';
import { dirname } from 'node:path';
import { test } from 'node:test';
import { type CodeLocation, SymbolFile } from '../../src/symbols/image.ts';
import { PathPattern } from '../../src/symbols/sourcePaths.ts';
import { DwarfBuilder, type LineInput } from '../support/dwarfBuilder.ts';
import { at, buildKernel, text } from '../support/dwarfKernel.ts';
import { ALLOC, Bytes, buildElf, EXEC, temporaryFile } from '../support/elfBuilder.ts';

const places = (locations: readonly CodeLocation[]): string[] =>
  locations.map(({ file, line, address }) => `${file}:${line} ${(address - text).toString(16)}`);

for (const version of [4, 5] as const) {
  test(`lines of addresses, DWARF ${version}`, (context) => {
    const file = SymbolFile.open(temporaryFile(context, buildKernel({ version })));
    const line = (offset: number): string | undefined => {
      const row = file.lineAt(at(offset));
      return row && `${row.file}:${row.line} ${(row.start - text).toString(16)}-${(row.end - text).toString(16)}`;
    };
    assert.equal(line(0x04), undefined, 'the patchable instructions in front');
    assert.equal(line(0x08), 'init/main.c:10 8-c');
    assert.equal(line(0x0a), 'init/main.c:10 8-c');
    assert.equal(line(0x10), 'init/main.c:12 10-14');
    assert.equal(line(0x1c), 'include/linux/mm.h:100 18-20');
    assert.equal(line(0x3f), 'init/main.c:13 38-40');
    assert.equal(line(0x40), 'init/main.c:20 40-50', 'one line in two rows');
    assert.equal(line(0x5c), 'init/main.c:21 50-60');
    assert.equal(line(0x60), '/src/linux/arch/arm64/kernel/entry.S:50 60-68');
    assert.equal(line(0x70), undefined);
    assert.deepEqual(file.lineAt(at(0x10)), {
      file: 'init/main.c',
      directory: '/build/obj',
      line: 12,
      column: 2,
      start: at(0x10),
      end: at(0x14),
      isStatement: false,
    });
    file.close();
  });

  test(`places for a line, DWARF ${version}`, (context) => {
    const path = temporaryFile(context, buildKernel({ version }));
    const file = SymbolFile.open(path, { cacheFolder: dirname(path) });
    const places_ = (path: string, line: number): string[] => places(file.locationsOf(path, line));
    assert.deepEqual(places_('init/main.c', 13), ['init/main.c:13 14'], 'a loop: the first place in the function');
    assert.deepEqual(places_('init/main.c', 12), ['init/main.c:13 14'], 'no statement: the next line that has one');
    assert.deepEqual(places_('init/main.c', 1), ['init/main.c:10 8']);
    assert.deepEqual(places_('init/main.c', 22), []);
    assert.deepEqual(places_('mm.h', 100), ['include/linux/mm.h:100 18', 'include/linux/mm.h:100 28'], 'both copies');
    assert.deepEqual(places_('/home/me/linux/include/linux/mm.h', 90), places_('mm.h', 100));
    assert.deepEqual(places_('entry.S', 50), [
      '/src/linux/arch/arm64/kernel/entry.S:50 60',
      '/src/linux/arch/arm64/kernel/entry.S:50 6c',
    ]);
    assert.deepEqual(places_('/home/me/linux/arch/arm64/kernel/entry.S', 51), [
      '/src/linux/arch/arm64/kernel/entry.S:51 68',
    ]);
    assert.deepEqual(places_('ain.c', 13), [], 'half a component');
    assert.deepEqual(places_('other/main.c', 13), []);
    assert.deepEqual(file.linesWithCode('init/main.c', 11, 20), [11, 13, 14, 15, 20]);
    assert.deepEqual(file.linesWithCode('init/main.c', 16, 19), []);
    assert.deepEqual(file.files('m'), ['/src/linux/arch/arm64/kernel/entry.S', 'include/linux/mm.h', 'init/main.c']);
    assert.deepEqual(file.files('linux/mm'), ['include/linux/mm.h']);
    file.names?.build();
    assert.deepEqual(file.names?.linePrograms('mm.h')?.length, 1);
    const indexed = SymbolFile.open(path, { cacheFolder: dirname(path) });
    for (const [name, line] of [
      ['mm.h', 100],
      ['./include/linux/mm.h', 100],
      ['entry.S', 50],
      ['other.c', 1],
    ] as const) {
      assert.deepEqual(indexed.locationsOf(name, line), file.locationsOf(name, line), `${name} by the index`);
    }
    indexed.close();
    file.close();
  });
}

test('without .debug_aranges the units say which code is theirs', (context) => {
  const file = SymbolFile.open(temporaryFile(context, buildKernel({ aranges: false })));
  assert.equal(file.lineAt(at(0x64))?.line, 50);
  assert.equal(file.lineAt(at(0x24))?.line, 14);
  assert.equal(file.lineAt(at(0x70)), undefined);
});

test('functions: patchable ones, inlined copies, assembly, aliases', (context) => {
  const file = SymbolFile.open(temporaryFile(context, buildKernel()));
  const of = (name: string): string[] => places(file.functionBreakpoint(name));
  assert.deepEqual(of('start_kernel'), ['init/main.c:10 8'], 'behind the instructions that ftrace rewrites');
  assert.deepEqual(of('arm64_start_kernel'), ['init/main.c:10 8'], 'an alias');
  assert.deepEqual(of('get_page'), ['include/linux/mm.h:100 18', 'include/linux/mm.h:100 2c'], 'DW_AT_entry_pc');
  assert.deepEqual(of('helper'), ['init/main.c:20 40']);
  assert.deepEqual(of('entry'), ['/src/linux/arch/arm64/kernel/entry.S:50 60']);
  assert.deepEqual(of('bare'), [':0 70']);
  assert.deepEqual(of('nothing'), []);
});

test('an inlined copy begins where a piece of its code does, which need not be where it is entered', (context) => {
  const file = SymbolFile.open(temporaryFile(context, buildKernel()));
  const begins = (offset: number): boolean[] => file.inlinesAt(at(offset)).map((each) => each.begins);
  assert.deepEqual([0x18, 0x1c, 0x28, 0x2c].map(begins), [
    [true, false],
    [false, false],
    [true, false],
    [false, false],
  ]);
});

test('what is in front of a function is its own where its symbol says so, else padding', (context) => {
  const namesAt = (options: object): string[] => {
    const file = SymbolFile.open(temporaryFile(context, buildKernel(options)));
    return file.inlinesAt(at(0x04)).map(({ name }) => name);
  };
  assert.deepEqual(namesAt({}), ['start_kernel']);
  assert.deepEqual(namesAt({ symbols: false }), []);
});

test('code that is not optimised: behind the prologue', (context) => {
  const file = SymbolFile.open(temporaryFile(context, buildKernel({ optimised: false })));
  assert.deepEqual(
    places(file.functionBreakpoint('helper')),
    ['init/main.c:20 44'],
    'the second row, of the same line',
  );
  assert.deepEqual(places(file.locationsOf('init/main.c', 10)), ['init/main.c:10 c'], 'the line of the function');
  assert.deepEqual(places(file.locationsOf('init/main.c', 14)), ['init/main.c:14 24']);
});

const single = (input: Partial<LineInput>): DwarfBuilder => {
  const dwarf = new DwarfBuilder();
  const program = dwarf.program({
    version: 5,
    directories: ['/build', 'lib'],
    files: [{ name: 'a.c', directory: 1 }],
    ops: [],
    ...input,
  });
  const abbreviations = dwarf.abbreviations([1, 0x11, false, [0x10, 0x17], [0x11, 0x01], [0x12, 0x07]]);
  dwarf.unit(5, abbreviations, (dies) => dies.uleb(1).u32(program).u64(text).u64(0x1000));
  return dwarf;
};

const open = (context: Parameters<typeof temporaryFile>[0], dwarf: DwarfBuilder): SymbolFile =>
  SymbolFile.open(
    temporaryFile(
      context,
      buildElf({
        sections: [
          { name: '.text', bytes: new Uint8Array(0x1000), flags: ALLOC | EXEC, address: text },
          ...dwarf.sections(),
        ],
      }),
    ),
  );

for (const strings of ['lineStr', 'str', 'inline'] as const) {
  test(`names of file tables as ${strings}`, (context) => {
    const file = open(
      context,
      single({
        strings,
        files: [
          { name: 'a.c', directory: 1 },
          { name: 'sub/b.c', directory: 1 },
          { name: 'c.c', directory: 0 },
          { name: '/abs/d.c', directory: 1 },
          { name: 'e.c', directory: 9 },
        ],
      }),
    );
    assert.deepEqual(file.files(), ['/abs/d.c', 'c.c', 'e.c', 'lib/a.c', 'lib/sub/b.c']);
  });
}

for (const version of [4, 5] as const) {
  test(`one file by several paths, DWARF ${version}`, (context) => {
    const dwarf = new DwarfBuilder();
    const abbreviations = dwarf.abbreviations([1, 0x11, false, [0x10, 0x17], [0x11, 0x01], [0x12, 0x07], [0x1b, 0x08]]);
    const unit = (offset: number, directory: string, name: string): void => {
      const program = dwarf.program({
        version,
        directories: [directory],
        files: [{ name, directory: 0 }],
        ops: [
          ...(version === 5 ? [{ op: 'file', value: 0 } as const] : []),
          { op: 'address', value: at(offset) },
          { op: 'row', pc: 0, line: 6 },
          { op: 'advancePc', value: 4 },
          { op: 'end' },
        ],
      });
      dwarf.unit(version, abbreviations, (dies) => {
        dies.uleb(1).u32(program).u64(at(offset)).u64(4).string(directory);
      });
    };
    unit(0x00, '/build/linux', 'mm/slub.c');
    unit(0x10, '/elsewhere', '/build/linux/mm/slub.c');
    unit(0x20, '/build/linux/mm', '../mm/slub.c');
    unit(0x30, '/other/linux', 'mm/slub.c');
    unit(0x40, '/elsewhere', '/third/linux/mm/slub.c');
    unit(0x50, '/build/linux/tools', 'mm/slub.c');
    const file = open(context, dwarf);
    const found = (path: string): readonly number[] =>
      file.locationsOf(path, 7).map(({ address }) => Number(address - text));
    assert.deepEqual(found('slub.c'), [0x00, 0x10, 0x20, 0x30, 0x40, 0x50]);
    assert.deepEqual(found('mm/slub.c'), [0x00, 0x10, 0x20, 0x30, 0x50], 'not that of a tree nobody named');
    assert.deepEqual(found('/build/linux/mm/slub.c'), [0x00, 0x10, 0x20]);
    assert.deepEqual(found('/home/me/linux/mm/slub.c'), found('mm/slub.c'));
    file.close();
  });
}

test('instructions of one byte, long advances, rows at one address', (context) => {
  const file = open(
    context,
    single({
      minimumInstructionLength: 1,
      ops: [
        { op: 'file', value: 0 },
        { op: 'address', value: text },
        { op: 'line', value: 999 },
        { op: 'copy' },
        { op: 'constAddPc' }, // (255 - 13) / 14 = 17 bytes
        { op: 'row', pc: 1, line: 1 }, // 0x12: 1001
        { op: 'line', value: -500 },
        { op: 'copy' }, // 0x12: 501, a statement too: the last one counts
        { op: 'negate' },
        { op: 'line', value: 70000 },
        { op: 'copy' }, // 0x12: 70501, no statement: does not count
        { op: 'negate' },
        { op: 'advancePc', value: 0xabc },
        { op: 'line', value: -70501 },
        { op: 'copy' }, // 0xace: line 0
        { op: 'advancePc', value: 1 },
        { op: 'end' },
      ],
    }),
  );
  assert.deepEqual(
    [0, 0x11, 0x12, 0xacd, 0xace, 0xacf].map((offset) => file.lineAt(at(offset))?.line),
    [1000, 1000, 501, 501, 0, undefined],
  );
  assert.deepEqual(places(file.locationsOf('a.c', 1001)), ['lib/a.c:1001 12'], 'a statement without code of its own');
  assert.deepEqual(file.linesWithCode('a.c', 0, 1e6), [501, 1000, 1001]);
});

test('an address that goes backwards begins another sequence', (context) => {
  const file = open(
    context,
    single({
      ops: [
        { op: 'file', value: 0 },
        { op: 'address', value: at(0x100) },
        { op: 'copy' },
        { op: 'advancePc', value: 8 },
        { op: 'address', value: at(0x40) },
        { op: 'row', pc: 0, line: 5 },
        { op: 'advancePc', value: 8 },
        { op: 'end' },
      ],
    }),
  );
  assert.equal(file.lineAt(at(0x104))?.line, 1);
  assert.equal(file.lineAt(at(0x44))?.line, 6);
  assert.equal(file.lineAt(at(0x48)), undefined);
});

test('names, addresses and ranges by index, as clang writes them', (context) => {
  const dwarf = new DwarfBuilder();
  const program = dwarf.program({
    version: 5,
    directories: ['/build'],
    files: [{ name: 'a.c', directory: 0 }],
    ops: [
      { op: 'file', value: 0 },
      { op: 'address', value: at(0x10) },
      { op: 'row', pc: 0, line: 6 },
      { op: 'row', pc: 4, line: 1 },
      { op: 'prologueEnd' },
      { op: 'row', pc: 8, line: 1 },
      { op: 'advancePc', value: 4 },
      { op: 'end' },
    ],
  });
  const header = (bytes: Bytes): Bytes => bytes.u16(5);
  const strings = new Bytes().counted((part) =>
    header(part).u16(0).u32(dwarf.str.add('clang')).u32(dwarf.str.add('fn')),
  );
  const addresses = new Bytes().counted((part) => header(part).u8(8, 0).u64(at(0)).u64(at(0x10)));
  dwarf.rnglists.counted((part) => {
    // The offset table has one entry; the list is behind it.
    header(part).u8(8, 0).u32(1).u32(4);
    part.u8(1).uleb(0).u8(4).uleb(0x10).uleb(0x18); // base_addressx 0, offset_pair
    part.u8(3).uleb(1).uleb(0x10).u8(0); // startx_length, end_of_list
  });
  dwarf.extra.push(
    { name: '.debug_str_offsets', bytes: strings.done() },
    { name: '.debug_addr', bytes: addresses.done() },
  );
  const abbreviations = dwarf.abbreviations(
    [1, 0x11, true, [0x72, 0x17], [0x73, 0x17], [0x74, 0x17], [0x25, 0x25], [0x10, 0x17], [0x11, 0x29], [0x55, 0x23]],
    [2, 0x2e, false, [0x03, 0x1a], [0x11, 0x1b], [0x12, 0x06]],
  );
  dwarf.unit(5, abbreviations, (dies) => {
    dies.uleb(1).u32(8).u32(8).u32(12).u8(0).u32(program).u8(0).uleb(0);
    dies.uleb(2).uleb(1).uleb(1).u32(0x10).u8(0);
  });
  const file = open(context, dwarf);
  assert.equal(file.lineAt(at(0x14))?.line, 8);
  assert.equal(file.lineAt(at(0x20)), undefined);
  assert.deepEqual(places(file.functionBreakpoint('fn')), ['a.c:9 1c'], 'behind the marked end of the prologue');
});

test('paths match by whole components, the best ones only', () => {
  const rank = (mine: string, theirs: string): number => new PathPattern(mine).rank(theirs);
  const better = (mine: string, first: string, second: string): void =>
    assert.ok(rank(mine, first) > rank(mine, second), `${mine}: ${first} before ${second}`);
  assert.equal(rank('main.c', 'init/domain.c'), 0);
  assert.equal(rank('init/main.c', 'kernel/main.c'), 0);
  assert.ok(rank('main.c', 'init/main.c') > 0);
  assert.ok(rank('./init/main.c', 'init/main.c') > 0);
  assert.ok(rank('C:\\src\\linux\\init\\main.c', 'init/main.c') > 0);
  assert.ok(rank('/src/linux/arch/arm64/lib/memset.S', '/build/l/arch/arm64/kvm/hyp/nvhe/../../../lib/memset.S') > 0);
  assert.equal(rank('/src/main.c', '/build/main.c'), 0, 'a name alone is no evidence');
  better('/src/tools/lib/string.c', 'tools/lib/string.c', 'lib/string.c');
  better('lib/string.c', 'lib/string.c', 'tools/lib/string.c');
  better('/src/init/main.c', '/src/init/main.c', 'init/main.c');
  better('/src/init/main.c', 'init/main.c', '/build/init/main.c');
});
