import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { crc32, crc32InTable } from '../../src/symbols/crc32.ts';
import { SymbolFile } from '../../src/symbols/image.ts';
import { at, buildKernelDwarf, text } from '../support/dwarfKernel.ts';
import { ALLOC, Bytes, buildElf, EXEC, type SectionInput } from '../support/elfBuilder.ts';
import { moduleInput } from '../support/relocatableKernel.ts';

const buildIdNote = (id: readonly number[]): SectionInput => ({
  name: '.note.gnu.build-id',
  type: 7,
  bytes: new Bytes().u32(4).u32(id.length).u32(3).string('GNU').bytes(id).done(),
});

const textSection = { name: '.text', bytes: new Uint8Array(0x80).fill(7), flags: ALLOC | EXEC, address: text };

const debugLink = (name: string, checksum: number): SectionInput => ({
  name: '.gnu_debuglink',
  bytes: new Bytes().string(name).align(4).u32(checksum).done(),
});

const stripped = (...extra: readonly SectionInput[]): Uint8Array =>
  buildElf({
    sections: [textSection, ...extra],
    symbols: [{ name: 'start_kernel', value: at(0), size: 0x40, section: '.text' }],
  });

const debugFile = (...extra: readonly SectionInput[]): Uint8Array =>
  buildElf({
    sections: [{ ...textSection, type: 8 }, ...extra, ...buildKernelDwarf().sections()],
    symbols: [
      { name: 'start_kernel', value: at(0), size: 0x40, section: '.text' },
      { name: 'helper', value: at(0x40), size: 0x20, section: '.text' },
    ],
  });

/** A folder with these files; the first is opened. */
const opened = (context: TestContext, files: Readonly<Record<string, Uint8Array>>, folders = ['debug']): SymbolFile => {
  const root = mkdtempSync(join(tmpdir(), 'kvm-debug-test-'));
  context.after(() => rmSync(root, { recursive: true }));
  for (const [name, bytes] of Object.entries(files)) {
    // `@` stands for the folder of the image below a folder of debug files.
    const path = join(root, name.replace('@', root));
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, bytes);
  }
  const file = SymbolFile.open(join(root, Object.keys(files)[0] ?? ''), {
    cacheFolder: join(root, 'cache'),
    debugFolders: folders.map((folder) => join(root, folder)),
  });
  context.after(() => file.close());
  return file;
};

const found = (file: SymbolFile, tail: string): void => {
  assert.equal(file.debugInformationNotice, undefined);
  assert.equal(file.hasDebugInformation, true);
  assert.ok(file.debugPath.endsWith(tail), file.debugPath);
  assert.equal(file.lineAt(at(0xd))?.line, 11);
  assert.equal(file.symbolAt(at(0x41))?.symbol.name, 'helper', 'the fuller symbol table is the debug file’s');
  assert.deepEqual(file.imageBytes(at(0), 2), Uint8Array.of(7, 7), 'bytes are those of the image');
  assert.equal(file.unwindRow(at(0x10))?.registers.size, 2);
};

const missing = (file: SymbolFile, message: RegExp): void => {
  assert.equal(file.hasDebugInformation, false);
  assert.equal(file.lineAt(at(0xd)), undefined);
  assert.match(file.debugInformationNotice ?? '', message);
  assert.equal(file.symbolAt(at(1))?.symbol.name, 'start_kernel');
};

const id = buildIdNote([0xab, 0xcd, 0xef, 0x01]);

test('by build-id, below any of the folders', (context) => {
  const files = { vmlinux: stripped(id), 'other/.build-id/ab/cdef01.debug': debugFile(id) };
  found(opened(context, files, ['debug', 'other']), '/other/.build-id/ab/cdef01.debug');
  missing(
    opened(context, files),
    /vmlinux has no debug information, and none was found at \S+\/debug\/.build-id\/ab\/cd/,
  );
});

test('a debug file of another build is refused, and the reason told', (context) => {
  const other = buildIdNote([0xab, 0xcd, 0xef, 0x02]);
  const place = 'debug/.build-id/ab/cdef01.debug';
  missing(
    opened(context, { vmlinux: stripped(id), [place]: debugFile(other) }),
    /another build \(build-id abcdef02, not/,
  );
  missing(opened(context, { vmlinux: stripped(id), [place]: debugFile() }), /build-id missing/);
  missing(opened(context, { vmlinux: stripped(id), [place]: stripped(id) }), /cdef01\.debug has no debug information/);
  missing(opened(context, { vmlinux: stripped(id), [place]: Buffer.from('text') }), /cannot be read .*not an ELF file/);
});

test('by .gnu_debuglink: beside the image, in .debug, below the folders; the checksum must be right', (context) => {
  const debug = debugFile();
  const linked = stripped(debugLink('vmlinux.debug', crc32(debug)));
  for (const place of ['boot/vmlinux.debug', 'boot/.debug/vmlinux.debug', 'debug@/boot/vmlinux.debug']) {
    found(opened(context, { 'boot/vmlinux': linked, [place]: debug }), '/vmlinux.debug');
  }
  const wrong = stripped(debugLink('vmlinux.debug', crc32(debug) ^ 1));
  missing(opened(context, { vmlinux: wrong, 'vmlinux.debug': debug }), /its checksum differs/);
  missing(opened(context, { vmlinux: linked }), /none was found at \S+vmlinux\.debug, \S+\.debug\/vmlinux\.debug/);
});

test('a link leads to no other folder and not to the image itself', (context) => {
  const debug = debugFile();
  const up = stripped(debugLink('../secret.debug', crc32(debug)));
  missing(opened(context, { 'boot/vmlinux': up, 'secret.debug': debug }), /neither a build-id nor/);
  missing(opened(context, { vmlinux: stripped(debugLink('vmlinux', 1)) }), /none was found/);
  missing(opened(context, { vmlinux: stripped({ name: '.gnu_debuglink', bytes: Buffer.from('abc') }) }), /neither/);
});

test('build-ids must agree behind a link too', (context) => {
  const debug = debugFile(buildIdNote([1, 2, 3, 4]));
  const image = stripped(id, debugLink('d', crc32(debug)));
  missing(opened(context, { vmlinux: image, d: debug }), /another build/);
});

test('a module and its debug file have the same link addresses, or do not belong together', (context) => {
  const { sections, ...rest } = moduleInput();
  const isLoaded = ({ flags = 0 }: SectionInput): boolean => (flags & ALLOC) !== 0;
  const debug = (more: readonly SectionInput[] = []): Uint8Array => {
    const gone = sections.map((section) => (isLoaded(section) ? { ...section, type: 8 } : section));
    return buildElf({ ...rest, sections: [...gone, ...more] });
  };
  const image = (checksum: number): Uint8Array =>
    buildElf({ ...rest, relocations: {}, sections: [...sections.filter(isLoaded), debugLink('m.debug', checksum)] });
  const file = opened(context, { 'm.ko': image(crc32(debug())), 'm.debug': debug() });
  assert.equal(file.lineAt(0x100_100dn)?.line, 11);
  assert.deepEqual(file.imageBytes(0x100_1004n, 2), Uint8Array.of(4, 5));
  const larger = debug([{ name: '.more', bytes: new Uint8Array(1), flags: ALLOC }]);
  const refused = opened(context, { 'm.ko': image(crc32(larger)), 'm.debug': larger });
  assert.match(refused.debugInformationNotice ?? '', /has other sections/);
});

test('an image without debug information, build-id or link says so in one sentence', (context) => {
  missing(opened(context, { vmlinux: stripped() }), /^\S+vmlinux has no debug information, and it has neither/);
});

test('the index of a separate debug file serves the image', (context) => {
  const files = { vmlinux: stripped(id), 'debug/.build-id/ab/cdef01.debug': debugFile(id) };
  const file = opened(context, files);
  const worker = SymbolFile.open(file.debugPath, { cacheFolder: file.names?.cacheFolder ?? '' });
  context.after(() => worker.close());
  worker.names?.build();
  assert.equal(file.names?.isReady, true);
});

test('CRC-32', () => {
  const bytes = Buffer.from('123456789');
  for (const sum of [crc32, crc32InTable]) {
    assert.equal(sum(bytes), 0xcbf4_3926);
    assert.equal(sum(bytes.subarray(4), sum(bytes.subarray(0, 4))), 0xcbf4_3926);
  }
});
