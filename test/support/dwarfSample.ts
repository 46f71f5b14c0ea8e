// An image with something of everything that the readers read: types of all kinds, variables with expressions and location
// lists, nested and inlined functions, call sites, type units, range lists, call frame information.

import { type Attribute, DieBuilder, type Entry, entry } from './dieBuilder.ts';
import { DwarfBuilder } from './dwarfBuilder.ts';
import { ALLOC, Bytes, buildElf, EXEC, type SectionInput } from './elfBuilder.ts';

export const code = 0xffff_8000_0900_0000n;

const AT = {
  sibling: 0x01, location: 0x02, name: 0x03, byteSize: 0x0b, bitSize: 0x0d, stmtList: 0x10, lowPc: 0x11, highPc: 0x12,
  language: 0x13, compDir: 0x1b, constValue: 0x1c, inline: 0x20, producer: 0x25, prototyped: 0x27, upperBound: 0x2f,
  origin: 0x31, count: 0x37, member: 0x38, declaration: 0x3c, encoding: 0x3e, external: 0x3f, frameBase: 0x40,
  specification: 0x47, type: 0x49, ranges: 0x55, callLine: 0x59, callFile: 0x58, signature: 0x69, dataBitOffset: 0x6b,
  callReturnPc: 0x7d, callValue: 0x7e, callOrigin: 0x7f,
}; // biome-ignore format: a table
const TAG = {
  array: 0x01, class: 0x02, enum: 0x04, parameter: 0x05, block: 0x0b, member: 0x0d, pointer: 0x0f, unit: 0x11, struct: 0x13,
  subroutine: 0x15, typedef: 0x16, union: 0x17, unspecified: 0x18, inlined: 0x1d, subrange: 0x21, base: 0x24, const: 0x26,
  enumerator: 0x28, function: 0x2e, variant: 0x33, variable: 0x34, volatile: 0x35, typeUnit: 0x41, callSite: 0x48,
  callParameter: 0x49,
}; // biome-ignore format: a table

const name = (text: string): Attribute => [AT.name, text.length < 4 ? 'string' : 'strp', text];
const type = (label: string): Attribute => [AT.type, 'ref4', label];
const size = (bytes: number): Attribute => [AT.byteSize, 'data1', bytes];
const at = (offset: number): Attribute => [AT.member, 'data1', offset];
const low = (offset: number): Attribute => [AT.lowPc, 'addr', code + BigInt(offset)];
const high = (bytes: number): Attribute => [AT.highPc, 'data8', bytes];
const address = (value: bigint): number[] => [0x03, ...new Bytes().u64(value).done()];

const types: readonly Entry[] = [
  entry(TAG.base, 'int', name('int'), size(4), [AT.encoding, 'data1', 5]),
  entry(TAG.base, 'char', name('char'), size(1), [AT.encoding, 'data1', 8]),
  entry(TAG.pointer, 'void*', size(8)),
  entry(TAG.const, 'const char', type('char')),
  entry(TAG.pointer, 'char*', size(8), type('const char')),
  entry(TAG.enum, 'state', name('state'), size(4), type('int'),
    entry(TAG.enumerator, name('RUNNING'), [AT.constValue, 'sdata', -1]),
    entry(TAG.enumerator, name('SLEEPING'), [AT.constValue, 'data1', 2])),
  entry(TAG.struct, 'node', name('node'), size(64),
    entry(TAG.member, name('next'), type('node*'), at(0)),
    entry(TAG.member, name('names'), type('char*[4]'), at(8)),
    entry(TAG.member, type('union'), at(40)),
    entry(TAG.member, name('flag'), type('int'), [AT.bitSize, 'data1', 3], [AT.dataBitOffset, 'data4', 400]),
    entry(TAG.member, name('old'), type('int'), [AT.member, 'block1', [0x23, 56]]),
    entry(TAG.member, name('tail'), type('char[]'), at(64))),
  entry(TAG.pointer, 'node*', size(8), type('node')),
  entry(TAG.union, 'union', size(8),
    entry(TAG.member, name('call'), type('handler')),
    entry(TAG.member, name('far'), [AT.type, 'refSig8', 0x1234n])),
  entry(TAG.array, 'char*[4]', type('char*'), entry(TAG.subrange, [AT.upperBound, 'data1', 3])),
  entry(TAG.array, 'char[]', type('char'), entry(TAG.subrange, [AT.count, 'data1', 2]), entry(TAG.subrange)),
  entry(TAG.typedef, 'handler', name('handler'), type('function*')),
  entry(TAG.pointer, 'function*', size(8), type('function')),
  entry(TAG.subroutine, 'function', [AT.prototyped, 'flagPresent'], type('int'),
    entry(TAG.parameter, type('node*')),
    entry(TAG.parameter, type('state')),
    entry(TAG.unspecified)),
  entry(TAG.struct, name('declared'), [AT.declaration, 'flagPresent'], [AT.signature, 'refSig8', 0x1234n]),
]; // biome-ignore format: a tree

const code1: readonly Entry[] = [
  entry(TAG.variable, 'root', name('root'), type('node'), [AT.external, 'flagPresent'], [AT.declaration, 'flagPresent']),
  entry(TAG.variable, [AT.specification, 'ref4', 'root'], [AT.location, 'exprloc', address(code + 0x1000n)]),
  entry(TAG.function, 'tiny', name('tiny'), type('int'), [AT.inline, 'data1', 1],
    entry(TAG.parameter, 'tiny.n', name('n'), type('node*'))),
  entry(TAG.function, 'start', name('start_here'), [AT.external, 'flagPresent'], low(0), high(0x40), type('int'),
    [AT.frameBase, 'exprloc', [0x9c]],
    entry(TAG.parameter, name('argument'), type('node*'), [AT.location, 'secOffset', 12]),
    entry(TAG.variable, name('local'), type('state'), [AT.location, 'exprloc', [0x91, 0x70]]),
    entry(TAG.block, low(8), high(0x18),
      entry(TAG.variable, name('counter'), type('int'), [AT.location, 'exprloc', address(code + 0x1040n)]),
      entry(TAG.inlined, [AT.origin, 'ref4', 'tiny'], [AT.ranges, 'secOffset', 12], [AT.callFile, 'data1', 1],
        [AT.callLine, 'data1', 9],
        entry(TAG.parameter, [AT.origin, 'ref4', 'tiny.n'], [AT.location, 'exprloc', [0xa3, 1, 0x50, 0x9f]]))),
    entry(TAG.callSite, [AT.callReturnPc, 'addr', code + 0x20n], [AT.callOrigin, 'ref4', 'tiny'],
      entry(TAG.callParameter, [AT.location, 'exprloc', [0x50]], [AT.callValue, 'exprloc', [0x31]]))),
]; // biome-ignore format: a tree

const unitRoot = (file: string, stmtList: number, from: number, ...children: readonly Entry[]): Entry =>
  entry(TAG.unit, name(file), [AT.compDir, 'string', '/src'], [AT.producer, 'strp', 'GNU C11 12.2.0 -O2'],
    [AT.language, 'data1', 0x1d], low(from), high(0x40), [AT.stmtList, 'secOffset', stmtList], ...children,
  ); // biome-ignore format: a tree

/** The header of .debug_rnglists and .debug_loclists; the first list is at 12. */
const lists = (write: (body: Bytes) => void): Uint8Array =>
  new Bytes().counted((bytes) => {
    bytes.u16(5).u8(8, 0).u32(0);
    write(bytes);
  }).done(); // biome-ignore format: one call

const debugFrame = (): Uint8Array =>
  new Bytes()
    .counted((cie) => cie.u32(0xffff_ffff).u8(3).string('').uleb(4).sleb(-8).uleb(30).u8(0x0c).uleb(31).uleb(0))
    .counted((fde) => fde.u32(0).u64(code).u64(0x40).u8(0x41, 0x0e).uleb(32).u8(0x80 | 29).uleb(4).u8(0x0a, 0x44, 0x0b))
    .done(); // biome-ignore format: one entry a line

const ehAddress = code + 0x2000n;
const ehFrame = (): Uint8Array =>
  new Bytes()
    .counted((cie) => cie.u32(0).u8(1).string('zR').uleb(4).sleb(-8).u8(30).uleb(1).u8(0x1b, 0x0c, 31, 0).align(4))
    .counted((fde) => fde.u32(0x18).u32(0x40 - 0x2000 - 0x1c).u32(0x40).uleb(0).u8(0x44, 0x0e, 16, 0x9d, 2).align(4))
    .u32(0)
    .done(); // biome-ignore format: one entry a line

export const sampleSections = (): SectionInput[] => {
  const lines = new DwarfBuilder();
  const program = (version: 4 | 5, from: number): number =>
    lines.program({
      version,
      directories: version === 5 ? ['/src', 'include'] : ['include'],
      files: version === 5
        ? [{ name: 'a.c', directory: 0 }, { name: 'a.c', directory: 0 }, { name: 'h.h', directory: 1 }]
        : [{ name: 'b.c', directory: 0 }, { name: 'h.h', directory: 1 }],
      ops: [
        { op: 'address', value: code + BigInt(from) }, { op: 'line', value: 4 }, { op: 'copy' },
        { op: 'row', pc: 8, line: 1 }, { op: 'file', value: 2 }, { op: 'row', pc: 8, line: 2 },
        { op: 'prologueEnd' }, { op: 'row', pc: 4, line: -1 }, { op: 'constAddPc' }, { op: 'copy' },
        { op: 'advancePc', value: 8 }, { op: 'end' },
      ],
    }); // biome-ignore format: rows
  const first = program(5, 0);
  const second = program(4, 0x40);
  const dies = new DieBuilder();
  dies.unit(5, unitRoot('a.c', first, 0, ...types, ...code1));
  const other = entry(TAG.function, name('other'), low(0x40), high(0x40), [AT.specification, 'refAddr', 'start']);
  dies.unit(4, unitRoot('b.c', second, 0x40, ...types, other));
  const far = entry(TAG.struct, 'far', name('far_away'), size(4), entry(TAG.member, name('x'), type('i'), at(0)));
  const int = entry(TAG.base, 'i', name('int'), size(4), [AT.encoding, 'data1', 5]);
  dies.unit(4, entry(TAG.typeUnit, far, int), { signature: 0x1234n, type: 'far' });
  const loclists = lists((body) => {
    body.u8(4).uleb(0).uleb(0x10).uleb(1).u8(0x50);
    body.u8(9).uleb(1).uleb(2);
    body
      .u8(7)
      .u64(code + 0x10n)
      .u64(code + 0x40n)
      .uleb(3)
      .u8(0x31, 0x9f, 0x96)
      .u8(0);
  });
  const rnglists = lists((body) =>
    body
      .u8(4)
      .uleb(0x10)
      .uleb(0x14)
      .u8(7)
      .u64(code + 0x18n)
      .uleb(4)
      .u8(0),
  );
  const aranges = new DwarfBuilder();
  aranges.arange(0, [[code, code + 0x40n]]);
  return [
    ...dies.sections(),
    ...lines.sections().filter(({ name }) => name === '.debug_line' || name === '.debug_line_str'),
    { name: '.debug_aranges', bytes: aranges.aranges.done() },
    { name: '.debug_loclists', bytes: loclists },
    { name: '.debug_rnglists', bytes: rnglists },
    { name: '.debug_frame', bytes: debugFrame() },
    { name: '.eh_frame', bytes: ehFrame(), flags: ALLOC, address: ehAddress },
  ];
};

export const buildSample = (): Uint8Array =>
  buildElf({
    sections: [
      { name: '.text', bytes: new Uint8Array(0x80), flags: ALLOC | EXEC, address: code },
      { name: '.data', bytes: new Uint8Array(0x80).fill(0x41), flags: ALLOC, address: code + 0x1000n },
      ...sampleSections(),
    ],
    symbols: [
      { name: 'start_here', value: code, size: 0x40, global: true, section: '.text' },
      { name: 'other', value: code + 0x40n, size: 0x40, section: '.text' },
      { name: 'root', value: code + 0x1000n, size: 64, type: 1, section: '.data' },
    ],
  });
