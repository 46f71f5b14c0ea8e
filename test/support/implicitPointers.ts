// An image with pointers that were optimised away, in a function that begins at the first instruction of FakeTarget's guest.

import { type Attribute, DieBuilder, entry } from './dieBuilder.ts';
import { ALLOC, Bytes, buildElf, EXEC } from './elfBuilder.ts';
import { base, data } from './fakeKernel.ts';

const AT = {
  location: 0x02, name: 0x03, byteSize: 0x0b, lowPc: 0x11, highPc: 0x12, constValue: 0x1c, inline: 0x20, upperBound: 0x2f,
  origin: 0x31, member: 0x38, encoding: 0x3e, type: 0x49,
}; // biome-ignore format: a table
const TAG = {
  array: 0x01, parameter: 0x05, member: 0x0d, pointer: 0x0f, unit: 0x11, struct: 0x13, typedef: 0x16, inlined: 0x1d, subrange: 0x21,
  base: 0x24, function: 0x2e, variable: 0x34, procedure: 0x36,
}; // biome-ignore format: a table

const name = (text: string): Attribute => [AT.name, 'string', text];
const type = (label: string): Attribute => [AT.type, 'ref4', label];
const size = (bytes: number): Attribute => [AT.byteSize, 'data1', bytes];
const at = (offset: number): Attribute => [AT.member, 'data1', offset];
const place = (...operations: (number | string)[]): Attribute => [AT.location, 'exprloc', operations];
/** DW_OP_implicit_pointer, or DW_OP_GNU_implicit_pointer, and the bytes of its offset. */
const pointer = (label: string, offset = 0): Attribute => place(0xa0, label, offset & 0x7f);
const gnuPointer = (label: string, offset = 0): Attribute => place(0xf2, label, offset & 0x7f);
const variable = (text: string, typeLabel: string, ...rest: Attribute[]) =>
  entry(TAG.variable, text, name(text), type(typeLabel), ...rest);
const code = (bytes: number): [Attribute, Attribute] => [
  [AT.lowPc, 'addr', base],
  [AT.highPc, 'data8', bytes],
];

/** struct pair { int a; int b; struct pair *next; } and pointers to such, each with a place of another kind. */
export const implicitPointerImage = (): Uint8Array => {
  const dies = new DieBuilder();
  dies.unit(5,
    entry(TAG.unit, name('a.c'), ...code(0x20),
      entry(TAG.base, 'int', name('int'), size(4), [AT.encoding, 'data1', 5]),
      entry(TAG.base, 'char', name('char'), size(1), [AT.encoding, 'data1', 8]),
      entry(TAG.base, 'long', name('unsigned long'), size(8), [AT.encoding, 'data1', 7]),
      entry(TAG.pointer, 'char*', size(8), type('char')),
      entry(TAG.array, 'int[3]', type('int'), entry(TAG.subrange, [AT.upperBound, 'data1', 2])),
      entry(TAG.pointer, 'int*', size(8), type('int')),
      entry(TAG.struct, 'pair', name('pair'), size(16),
        entry(TAG.member, name('a'), type('int'), at(0)),
        entry(TAG.member, name('b'), type('int'), at(4)),
        entry(TAG.member, name('next'), type('pair*'), at(8))),
      entry(TAG.pointer, 'pair*', size(8), type('pair')),
      entry(TAG.pointer, 'pair**', size(8), type('pair*')),
      entry(TAG.typedef, 'ring', name('ring'), type('ring*')),
      entry(TAG.pointer, 'ring*', size(8), type('ring')),
      entry(TAG.procedure, 'text', place(0x9e, 5, 0x7f, 0x45, 0x4c, 0x46, 0)),
      entry(TAG.function, 'abstract', name('abstract'), [AT.inline, 'data1', 1],
        entry(TAG.variable, 'abstract.n', name('n'), type('int'))),
      entry(TAG.function, name('start_kernel'), ...code(0x20),
        // The members in two registers and a pointer to memory that is optimised away as well.
        variable('pair_in_pieces', 'pair', place(0x53, 0x93, 4, 0x54, 0x93, 4, 0xa0, 'pair_in_memory', 0, 0x93, 8)),
        variable('pair_in_memory', 'pair', place(0x03, ...new Bytes().u64(data).done())),
        variable('in_register', 'long', place(0x55)),
        variable('seven', 'int', [AT.constValue, 'data1', 7]),
        variable('triple', 'int[3]', place(0x9e, 12, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0)),
        variable('to_pieces', 'pair*', pointer('pair_in_pieces')),
        variable('to_memory', 'pair*', gnuPointer('pair_in_memory')),
        variable('to_b', 'int*', pointer('pair_in_memory', 4)),
        variable('to_register', 'int*', pointer('in_register')),
        variable('to_seven', 'int*', pointer('seven')),
        variable('to_triple', 'int*', pointer('triple')),
        variable('before_triple', 'int*', pointer('triple', -4)),
        variable('to_text', 'char*', pointer('text')),
        variable('to_pointer', 'pair**', pointer('to_pieces')),
        variable('to_itself', 'ring', pointer('to_itself')),
        // DW_OP_lit1, DW_OP_deref: its address is in memory that is not there.
        variable('unreadable', 'int', place(0x31, 0x06)),
        variable('nowhere', 'int'),
        variable('to_nowhere', 'int*', pointer('nowhere')),
        variable('number', 'long', pointer('pair_in_memory')),
        entry(TAG.inlined, [AT.origin, 'ref4', 'abstract'], ...code(0x20),
          entry(TAG.variable, [AT.origin, 'ref4', 'abstract.n'], place(0x56))),
        variable('to_abstract', 'int*', pointer('abstract.n')))),
  ); // biome-ignore format: a tree
  return buildElf({
    sections: [
      { name: '.text', bytes: new Uint8Array(0x20), flags: ALLOC | EXEC, address: base },
      ...dies.sections(),
      { name: '.debug_line', bytes: Uint8Array.of(0) },
    ],
    symbols: [{ name: 'start_kernel', value: base, size: 0x20, global: true, section: '.text' }],
  });
};
