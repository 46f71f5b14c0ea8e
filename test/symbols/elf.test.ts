import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { deflateSync } from 'node:zlib';
import { FormatError, UserError } from '../../src/base/errors.ts';
import { ElfFile } from '../../src/symbols/elf.ts';
import { SymbolFile } from '../../src/symbols/image.ts';
import { at, buildKernel, text } from '../support/dwarfKernel.ts';
import { ALLOC, Bytes, buildElf, COMPRESSED, EXEC, temporaryFile } from '../support/elfBuilder.ts';

const refused = (path: string, message: RegExp): void => {
  assert.throws(
    () => SymbolFile.open(path),
    (error) => error instanceof UserError && error.message.includes(path) && message.test(error.message),
  );
};

test('what cannot be opened is the user’s to mend, and the message names the path', (context) => {
  refused('/nowhere/vmlinux', /no such file/);
  refused('/tmp', /not a regular file/);
  const pipe = join(mkdtempSync(join(tmpdir(), 'kvm-debug-test-')), 'pipe');
  execFileSync('mkfifo', [pipe]);
  refused(pipe, /not a regular file/);
  rmSync(dirname(pipe), { recursive: true });
  refused(temporaryFile(context, Buffer.from('MZ not a kernel with symbols at all')), /not an ELF file/);
  refused(temporaryFile(context, new Uint8Array(0)), /not an ELF file/);
  const elf = buildElf({ sections: [] });
  refused(temporaryFile(context, elf.with(4, 3)), /class 3/);
  refused(temporaryFile(context, elf.with(5, 2)), /big-endian/);
});

test('a file without permission', {
  skip: process.getuid?.() === 0 ? 'root may read everything' : false,
}, (context) => {
  const path = temporaryFile(context, buildElf({ sections: [] }));
  chmodSync(path, 0);
  refused(path, /no permission/);
});

const buildIdNote = (id: readonly number[]): Uint8Array =>
  new Bytes()
    .u32(6).u32(4).u32(0x100).string('Linux').align(4).u32(0)
    .u32(4).u32(id.length).u32(3).string('GNU').bytes(id).done(); // biome-ignore format: one note a line

test('header fields and the build-id, which need not be the first note', (context) => {
  const note = buildIdNote([0xde, 0xad, 0x0b, 0xef]);
  for (const [machine, name] of [
    [183, 'aarch64'],
    [62, 'x86_64'],
    [243, 243],
  ] as const) {
    const elf = buildElf({
      machine,
      entry: 0xffff_8000_0800_0000n,
      sections: [{ name: '.notes', type: 7, bytes: note }],
    });
    const file = SymbolFile.open(temporaryFile(context, elf));
    assert.equal(file.buildId, 'dead0bef');
    assert.equal(file.machine, name);
    assert.equal(file.entry, 0xffff_8000_0800_0000n);
    assert.equal(file.hasDebugInformation, false);
    assert.deepEqual(file.locationsOf('main.c', 1), []);
    assert.equal(file.lineAt(0n), undefined);
    assert.equal(file.unwindRow(0n), undefined);
    assert.deepEqual(file.symbolsNamed('x'), []);
    file.close();
    file.close();
  }
  const segments = [{ type: 4, offset: 64 + 56, address: 0n, size: note.length }];
  const elf = buildElf({ segments, sections: [{ name: '.data', bytes: note }] });
  assert.equal(SymbolFile.open(temporaryFile(context, elf)).buildId, 'dead0bef');
});

test('symbols by name: all of them, defined ones only', (context) => {
  const file = SymbolFile.open(temporaryFile(context, buildKernel()));
  assert.deepEqual(file.symbolsNamed('start_kernel'), [
    { name: 'start_kernel', kind: 'function', address: at(0), size: 0x40n, global: true },
  ]);
  assert.deepEqual(file.symbolsNamed('main.c'), [], 'the name of a file');
  assert.deepEqual(file.symbolsNamed('undefined_one'), []);
  assert.deepEqual(file.symbolsBeginningWith('start_', 10), [{ name: 'start_kernel', kind: 'function' }]);
  assert.deepEqual(file.symbolsBeginningWith('', 0), []);
  assert.deepEqual(file.symbolsBeginningWith('undefined', 10), []);
  assert.deepEqual(file.symbolsNamed('kernel'), [], 'the tail of another name');
  assert.deepEqual(file.symbolsNamed(''), []);
  file.close();
});

test('symbols by address', (context) => {
  const file = SymbolFile.open(temporaryFile(context, buildKernel()));
  const name = (address: bigint): string | undefined => {
    const found = file.symbolAt(address);
    return found && `${found.symbol.name}+${found.offset}`;
  };
  assert.equal(name(at(0)), 'start_kernel+0', 'global before local, and no mapping symbol');
  assert.equal(name(at(0x3c)), 'start_kernel+60');
  assert.equal(name(at(0x4c)), 'helper+12', 'the function around a label');
  assert.equal(name(at(0x6c)), 'entry+12', 'no size: up to the next symbol');
  assert.equal(name(at(0x74)), 'bare+4');
  assert.equal(name(at(0x78)), undefined, 'behind a symbol with a size');
  assert.equal(name(text - 4n), undefined);
  assert.equal(name(at(0x80)), undefined);
  file.close();
});

test('a label without size does not reach beyond its section', (context) => {
  const elf = buildElf({
    sections: [{ name: '.text', bytes: new Uint8Array(16), flags: ALLOC | EXEC, address: 0x1000n }],
    symbols: [{ name: 'last', value: 0x1008n, type: 0, section: '.text' }],
  });
  const file = SymbolFile.open(temporaryFile(context, elf));
  assert.equal(file.symbolAt(0x100fn)?.symbol.name, 'last');
  assert.equal(file.symbolAt(0x1010n), undefined);
});

test('unwind rows come from .debug_frame', (context) => {
  const file = SymbolFile.open(temporaryFile(context, buildKernel()));
  assert.equal(file.unwindRow(at(4)), undefined);
  assert.equal(file.unwindRow(at(8))?.registers.size, 0);
  assert.deepEqual(file.unwindRow(at(0x10))?.registers.get(30), { kind: 'offset', offset: -24n });
});

test('image bytes: whole ranges of what the file holds', (context) => {
  const file = SymbolFile.open(temporaryFile(context, buildKernel()));
  assert.deepEqual(file.imageBytes(at(4), 3), Uint8Array.of(4, 5, 6));
  assert.equal(file.imageBytes(at(0x7e), 3), undefined);
  assert.equal(file.imageBytes(text - 1n, 2), undefined);
  assert.equal(file.imageBytes(0n, 4), undefined);
  // A split debug file: segments still claim bytes that sections know are not there.
  const split = buildElf({
    segments: [{ type: 1, offset: 0, address: 0x1000n, size: 0x40 }],
    sections: [{ name: '.text', type: 8, bytes: new Uint8Array(32), flags: ALLOC | EXEC, address: 0x1000n }],
  });
  const without = SymbolFile.open(temporaryFile(context, split));
  assert.equal(without.imageBytes(0x1000n, 4), undefined);
  assert.deepEqual(without.imageBytes(0x1020n, 2)?.length, 2);
});

test('initial bytes: zeros where a loaded file needs to hold none', (context) => {
  const sections = [
    { name: '.text', bytes: Uint8Array.of(1, 2, 3, 4), flags: ALLOC | EXEC, address: 0x1000n },
    { name: '.bss', type: 8, bytes: new Uint8Array(32), flags: ALLOC, address: 0x2000n },
    { name: '.comment', type: 8, bytes: new Uint8Array(32) },
  ];
  const open = (...segments: NonNullable<Parameters<typeof buildElf>[0]['segments']>): SymbolFile => {
    const file = SymbolFile.open(temporaryFile(context, buildElf({ sections, segments })));
    context.after(() => file.close());
    return file;
  };
  const file = open();
  assert.deepEqual(file.initialBytes(0x1001n, 2), Uint8Array.of(2, 3));
  assert.deepEqual(file.initialBytes(0x2000n, 32), new Uint8Array(32));
  assert.equal(file.imageBytes(0x2000n, 32), undefined, 'nothing to compare code with');
  assert.equal(file.initialBytes(0x2010n, 32), undefined, 'beyond the end');
  assert.equal(file.initialBytes(0x1ffen, 4), undefined);
  assert.equal(file.initialBytes(0n, 4), undefined, 'not loaded');
  // A segment that no section describes: 8 bytes of the ELF header in the file, 16 in memory.
  const segmented = open({ type: 1, offset: 0, address: 0x3000n, size: 8, memorySize: 16 });
  assert.deepEqual(segmented.initialBytes(0x3006n, 4), Uint8Array.of(1, 0, 0, 0));
  assert.deepEqual(segmented.initialBytes(0x3008n, 8), new Uint8Array(8));
  assert.equal(segmented.initialBytes(0x300cn, 8), undefined);
  assert.equal(segmented.imageBytes(0x3008n, 8), undefined);
  // In a split debug file all sections look like .bss: what they hold is in the image.
  const emptied = sections.map((section) => ({ ...section, type: 8 }));
  const split = SymbolFile.open(temporaryFile(context, buildElf({ sections: emptied })));
  assert.equal(split.initialBytes(0x2000n, 4), undefined);
  split.close();
});

const ZSTD = 'KLUv/QRojQAAUDAxMjM0NTY3ODkBAOdVCxINTnB0';

const compressed = (bytes: Uint8Array, size = bytes.length, type = 1): Uint8Array =>
  new Bytes().u32(type).u32(0).u64(size).u64(1).bytes(deflateSync(bytes)).done();

test('compressed sections', (context) => {
  const plain = Buffer.from('0123456789'.repeat(50));
  const contents = (bytes: Uint8Array): Uint8Array | undefined => {
    const elf = buildElf({ sections: [{ name: '.debug_str', bytes, flags: COMPRESSED }] });
    const section = new ElfFile(temporaryFile(context, elf)).contents('.debug_str');
    return section?.read(0, section.size);
  };
  assert.deepEqual(Buffer.from(contents(compressed(plain)) ?? []), plain);
  assert.throws(() => contents(compressed(plain, 499)), FormatError);
  assert.throws(() => contents(compressed(plain, 501)), FormatError);
  assert.throws(() => contents(compressed(plain, 2 ** 50)), FormatError, 'a size that cannot be');
  assert.throws(() => contents(compressed(plain, 500, 7)), /compression type 7/);
  assert.throws(() => contents(Uint8Array.of(1, 0, 0)), FormatError);
  assert.throws(() => contents(compressed(plain, 500, 2)), FormatError, 'not zstd');
  // `zstd -19` of the same, with a checksum.
  const zstd = Buffer.from(ZSTD, 'base64');
  const chdr = (size: number): Uint8Array => new Bytes().u32(2).u32(0).u64(size).u64(1).bytes(zstd).done();
  assert.deepEqual(Buffer.from(contents(chdr(500)) ?? []), plain);
  assert.throws(() => contents(chdr(499)), FormatError);
  assert.throws(() => contents(chdr(501)), FormatError);
  assert.throws(() => contents(chdr(2 ** 40)), FormatError);
  assert.throws(() => contents(chdr(500).subarray(0, 30)), FormatError);
});

test('sections compressed the old way', (context) => {
  const plain = Buffer.from('0123456789'.repeat(50));
  const contents = (bytes: Uint8Array): Uint8Array | undefined => {
    const elf = buildElf({ sections: [{ name: '.zdebug_str', bytes }] });
    const section = new ElfFile(temporaryFile(context, elf)).contents('.debug_str');
    return section?.read(0, section.size);
  };
  const zdebug = (magic: string, size: readonly number[]): Uint8Array =>
    new Bytes().bytes(Buffer.from(magic)).bytes(size).bytes(deflateSync(plain)).done();
  assert.deepEqual(Buffer.from(contents(zdebug('ZLIB', [0, 0, 0, 0, 0, 0, 1, 0xf4])) ?? []), plain);
  assert.throws(() => contents(zdebug('ZLIC', [0, 0, 0, 0, 0, 0, 1, 0xf4])), /\.zdebug_str\+0x0: "ZLIB" is missing/);
  assert.throws(() => contents(zdebug('ZLIB', [0xff, 0, 0, 0, 0, 0, 1, 0xf4])), /cannot expand/);
  assert.throws(() => contents(zdebug('ZLIB', [0, 0, 0, 0, 0, 0, 1, 0xf5])), /501 declared/);
  assert.throws(() => contents(Buffer.from('ZLIB')), FormatError);
});

test('tables outside of the file', (context) => {
  const elf = buildElf({ sections: [{ name: '.text', bytes: new Uint8Array(8) }] });
  const view = new DataView(elf.buffer);
  for (const [offset, value] of [
    [40, 2n ** 40n], // e_shoff
    [40, 2n ** 63n],
    [40, BigInt(elf.length - 10)],
  ] as const) {
    const broken = elf.slice();
    new DataView(broken.buffer).setBigUint64(offset, value, true);
    assert.throws(() => SymbolFile.open(temporaryFile(context, broken)), FormatError);
  }
  // e_shnum 0: the count is in sh_size of the first header, here absurd.
  const many = elf.slice();
  new DataView(many.buffer).setUint16(60, 0, true);
  new DataView(many.buffer).setBigUint64(Number(view.getBigUint64(40, true)) + 32, 2n ** 52n, true);
  assert.throws(() => SymbolFile.open(temporaryFile(context, many)), FormatError);
});
