import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FormatError } from '../../src/base/errors.ts';
import { BufferSection } from '../../src/symbols/byteSource.ts';
import { ElfFile } from '../../src/symbols/elf.ts';
import { SymbolFile } from '../../src/symbols/image.ts';
import { RelocatedSection } from '../../src/symbols/relocations.ts';
import { ALLOC, Bytes, buildElf, EXEC, temporaryFile } from '../support/elfBuilder.ts';
import { buildModule, moduleInput } from '../support/relocatableKernel.ts';

/** Where linkLayout.ts puts .text: one page behind .data. */
const text = 0x100_1000n;

for (const options of [{}, { machine: 'x86_64' }, { descending: true }, { version: 4, aranges: false }] as const) {
  test(`a module is read like a linked image ${JSON.stringify(options)}`, (context) => {
    const module = SymbolFile.open(temporaryFile(context, buildModule(options)));
    assert.equal(module.isRelocatable, true);
    assert.equal(module.hasDebugInformation, true);
    assert.deepEqual(module.sections, [
      { name: '.data', address: 0x100_0000n, size: 5n, isCode: false },
      { name: '.text', address: text, size: 0x80n, isCode: true },
    ]);
    assert.deepEqual(
      module.symbolsNamed('counter').map(({ address }) => address),
      [0x100_0004n],
    );
    assert.equal(module.symbolAt(text + 0x41n)?.symbol.name, 'helper');
    assert.equal(module.symbolAt(0x100_0004n)?.symbol.name, 'counter');
    assert.equal(module.lineAt(text + 0xdn)?.line, 11);
    assert.deepEqual(
      module.locationsOf('init/main.c', 13).map(({ address }) => address - text),
      [0x14n],
    );
    assert.deepEqual(
      module.functionBreakpoint('get_page').map(({ address }) => address - text),
      [0x18n, 0x2cn],
    );
    assert.deepEqual(module.unwindRow(text + 0x10n)?.registers.get(30), { kind: 'offset', offset: -24n });
    assert.deepEqual(module.imageBytes(text + 4n, 3), Uint8Array.of(4, 5, 6));
    assert.deepEqual(module.imageBytes(0x100_0001n, 2), Uint8Array.of(2, 3));
    assert.equal(module.imageBytes(0x100_0004n, 2), undefined, 'beyond .data');
    module.close();
  });
}

test('relocations that a linker has applied already are left alone', (context) => {
  const input = moduleInput();
  const elf = new ElfFile(temporaryFile(context, buildElf({ ...input, type: 3 })));
  assert.equal(elf.contents('.debug_aranges')?.read(16, 8)[0], 0x55);
  elf.close();
});

test('sections are aligned, apart, and in the place of none', (context) => {
  const sections = [
    { name: '.empty', bytes: new Uint8Array(0), flags: ALLOC },
    { name: '.text', bytes: new Uint8Array(0x1000), flags: ALLOC | EXEC, alignment: 64 },
    { name: '.comment', bytes: new Uint8Array(8) },
    { name: '.bss', bytes: new Uint8Array(0x2345), type: 8, flags: ALLOC, alignment: 0x1_0000 },
    { name: '.data', bytes: new Uint8Array(1), flags: ALLOC, alignment: 0 },
  ];
  const file = SymbolFile.open(temporaryFile(context, buildElf({ type: 1, sections })));
  assert.deepEqual(
    file.sections.map(({ name, address }) => `${name} ${address.toString(16)}`),
    ['.empty 1000000', '.text 1001000', '.bss 1010000', '.data 1013000'],
  );
  const odd = buildElf({
    type: 1,
    sections: [{ name: '.text', bytes: new Uint8Array(8), flags: ALLOC, alignment: 24 }],
  });
  assert.throws(() => SymbolFile.open(temporaryFile(context, odd)), /\.text\+0x0: an alignment of 24/);
});

/** Symbols 1: 0x1000, 2: -1 (as no symbol of a kernel is). */
const symbols = new Bytes().bytes(new Uint8Array(32)).u64(0x1000).u64(0).bytes(new Uint8Array(8)).u64(-1).u64(0).done();

const relocated = (
  entries: readonly (readonly [offset: number, symbol: number, type: number, addend: number])[],
  { machine = 62, address = 0n, fill = 0 } = {},
): RelocatedSection => {
  const bytes = new Bytes();
  for (const [offset, symbol, type, addend] of entries) bytes.u64(offset).u32(type).u32(symbol).u64(addend);
  return new RelocatedSection(new BufferSection('.debug_info', new Uint8Array(32).fill(fill)), address, {
    machine,
    addressSize: 8,
    hasAddend: true,
    entries: new BufferSection('.rela.debug_info', bytes.done()),
    symbols: () => symbols,
  });
};

const value = (section: RelocatedSection, offset: number, size: 1 | 2 | 4 | 8): bigint =>
  Buffer.from(section.read(offset, size)).reduceRight((total, byte) => total * 256n + BigInt(byte), 0n);

test('each type of relocation: its size, and what it is relative to', () => {
  const table: readonly (readonly [machine: number, type: number, size: 1 | 2 | 4 | 8, value: bigint])[] = [
    [62, 1, 8, 0x1010n],
    [62, 2, 4, 0x1010n - 0x508n],
    [62, 4, 4, 0x1010n - 0x508n],
    [62, 10, 4, 0x1010n],
    [62, 11, 4, 0x1010n],
    [62, 12, 2, 0x1010n],
    [62, 14, 1, 0x10n],
    [62, 24, 8, 0x1010n - 0x508n],
    [183, 257, 8, 0x1010n],
    [183, 258, 4, 0x1010n],
    [183, 259, 2, 0x1010n],
    [183, 260, 8, 0x1010n - 0x508n],
    [183, 261, 4, 0x1010n - 0x508n],
    [183, 262, 2, 0x1010n - 0x508n],
  ];
  for (const [machine, type, size, expected] of table) {
    const section = relocated([[8, 1, type, 0x10]], { machine, address: 0x500n, fill: 0xee });
    assert.equal(value(section, 8, size), expected, `type ${type}`);
    assert.equal(value(section, 7, 1), 0xeen);
    assert.equal(value(section, 8 + size, 1), 0xeen, `nothing behind type ${type}`);
    // The parts of a field that a read ends or begins in.
    for (let part = 0; part < size; part++) {
      assert.equal(value(section, 8 + part, 1), (expected >> BigInt(8 * part)) & 0xffn);
    }
  }
});

test('relocations below zero, without effect, of no symbol', () => {
  assert.equal(value(relocated([[0, 1, 2, -0x1001]], { address: 0x10n }), 0, 4), 0xffff_ffefn);
  assert.equal(value(relocated([[0, 1, 1, -0x1001]]), 0, 8), 0xffff_ffff_ffff_ffffn);
  assert.equal(value(relocated([[0, 2, 10, 2]]), 0, 4), 1n);
  assert.equal(value(relocated([[0, 0, 1, 7]]), 0, 8), 7n);
  assert.equal(value(relocated([[0, 1, 0, 7]], { fill: 0xee }), 0, 1), 0xeen);
  assert.equal(relocated([[4, 1, 1, 0]]).changes(0, 4), false);
  assert.equal(relocated([[4, 1, 1, 0]]).changes(11, 4), true);
  assert.equal(relocated([[4, 1, 1, 0]]).changes(12, 4), false);
  assert.equal(relocated([[4, 1, 0, 0]]).changes(0, 32), false);
});

test('relocations that cannot be applied name the section and the offset', () => {
  const fails = (section: RelocatedSection, message: RegExp): void => {
    assert.deepEqual(section.read(0, 4), new Uint8Array(4), 'what they do not touch can be read');
    assert.throws(
      () => section.read(0, 32),
      (error) => error instanceof FormatError && message.test(error.message),
    );
  };
  fails(relocated([[16, 1, 9, 0]]), /\.debug_info\+0x10: the relocation type 9 is not supported/);
  fails(relocated([[16, 9, 1, 0]]), /\.debug_info\+0x10: the symbol 9 .*does not exist/);
  fails(relocated([[28, 1, 1, 0]]), /\.debug_info\+0x1c: .*beyond the end/);
  fails(relocated([[16, 1, 1, 0]], { machine: 243 }), /type 1 is not supported/);
});

test('many relocations, in any order', () => {
  const size = 4096;
  for (const order of [(i: number) => i, (i: number) => size / 8 - 1 - i, (i: number) => (i * 77) % (size / 8)]) {
    const bytes = new Bytes();
    for (let i = 0; i < size / 8; i++)
      bytes
        .u64(order(i) * 8)
        .u32(1)
        .u32(1)
        .u64(order(i));
    const section = new RelocatedSection(new BufferSection('.data', new Uint8Array(size)), 0n, {
      machine: 62,
      addressSize: 8,
      hasAddend: true,
      entries: new BufferSection('.rela.data', bytes.done()),
      symbols: () => symbols,
    });
    for (let i = 0; i < size / 8; i += 3) assert.equal(value(section, i * 8, 8), 0x1000n + BigInt(i));
    const whole = Buffer.from(section.read(0, size));
    for (let i = 0; i < size / 8; i++) assert.equal(whole.readBigUInt64LE(i * 8), 0x1000n + BigInt(i));
  }
});

test('instructions that depend on where the module is loaded are not held; data is as at the link address', (context) => {
  const input = moduleInput();
  const relocations = {
    '.text': [{ offset: 8, type: 283, symbol: 4 }], // R_AARCH64_CALL26
    '.data': [{ offset: 1, type: 258, symbol: 2, addend: 4n }],
  };
  const file = SymbolFile.open(temporaryFile(context, buildElf({ ...input, relocations })));
  assert.deepEqual(file.imageBytes(text, 8)?.length, 8);
  assert.equal(file.imageBytes(text + 4n, 8), undefined);
  assert.deepEqual(file.imageBytes(text + 12n, 4), Uint8Array.of(12, 13, 14, 15));
  assert.deepEqual(file.imageBytes(0x100_0000n, 5), Uint8Array.of(1, 0x44, 0x10, 0, 1));
  file.close();
});

test('ELF-32: header, segments, sections, symbols, relocations with and without addends', (context) => {
  const note = new Bytes().u32(4).u32(4).u32(3).string('GNU').u8(0xde, 0xad, 0xbe, 0xef).done();
  const linked = {
    addressSize: 4,
    machine: 40,
    entry: 0xc000_8000n,
    segments: [{ type: 1, offset: 0, address: 0xc000_0000n, size: 0x40 }],
    sections: [
      { name: '.text', bytes: Uint8Array.of(1, 2, 3, 4), flags: ALLOC | EXEC, address: 0xc000_8000n },
      { name: '.note', type: 7, bytes: note },
    ],
    symbols: [{ name: 'stext', value: 0xc000_8000n, size: 4, global: true, section: '.text' }],
  } as const;
  const file = SymbolFile.open(temporaryFile(context, buildElf(linked)));
  assert.equal(file.machine, 40);
  assert.equal(file.entry, 0xc000_8000n);
  assert.equal(file.buildId, 'deadbeef');
  assert.deepEqual(file.symbolsNamed('stext'), [
    { name: 'stext', kind: 'function', address: 0xc000_8000n, size: 4n, global: true },
  ]);
  assert.equal(file.symbolAt(0xc000_8003n)?.symbol.name, 'stext');
  assert.deepEqual(file.imageBytes(0xc000_8001n, 2), Uint8Array.of(2, 3));
  assert.deepEqual(file.imageBytes(0xc000_0000n, 4), Uint8Array.of(0x7f, 0x45, 0x4c, 0x46), 'of a segment');
  file.close();
  for (const withoutAddends of [false, true]) {
    const module = new ElfFile(
      temporaryFile(
        context,
        buildElf({
          addressSize: 4,
          machine: 40,
          type: 1,
          withoutAddends,
          sections: [
            { name: '.text', bytes: new Uint8Array(4), flags: ALLOC },
            {
              name: '.debug_info',
              bytes: new Bytes()
                .u32(0)
                .u32(withoutAddends ? 6 : 0xeeee)
                .done(),
            },
          ],
          symbols: [{ name: 'f', value: 0x10n, section: '.text' }],
          relocations: { '.debug_info': [{ offset: 4, type: 2, symbol: 0, addend: 6n }] },
        }),
      ),
    );
    const contents = module.contents('.debug_info')?.read(0, 8) ?? new Uint8Array(8);
    assert.equal(new DataView(contents.buffer).getUint32(4, true), 0x100_0016);
    module.close();
  }
});

test('relocations of what is no symbol table', (context) => {
  const elf = new ElfFile(temporaryFile(context, buildModule()));
  assert.throws(() => elf.symbols(1), /the section 1 is no symbol table/);
  elf.close();
});
