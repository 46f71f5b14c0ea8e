// The variables of a function at an address: blocks, and which of several of one name is meant (DWARF 5, 3.5).
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SymbolFile } from '../../src/symbols/image.ts';
import { type Attribute, DieBuilder, type Entry, entry } from '../support/dieBuilder.ts';
import { ALLOC, buildElf, EXEC, temporaryFile } from '../support/elfBuilder.ts';

const start = 0xffff_8000_0800_0000n;
const at = (offset: number): bigint => start + BigInt(offset);
const code = (offset: number, bytes: number): [Attribute, Attribute] => [
  [0x11, 'addr', at(offset)],
  [0x12, 'data8', bytes],
];
const name = (text: string): Attribute => [0x03, 'string', text];
const block = (...rest: (Attribute | Entry)[]): Entry => entry(0x0b, ...rest);
const parameter = (text: string, register: number): Entry =>
  entry(0x05, name(text), [0x49, 'ref4', 'int'], [0x02, 'exprloc', [0x50 + register]]);
const variable = (text: string, register: number): Entry =>
  entry(0x34, name(text), [0x49, 'ref4', 'int'], [0x02, 'exprloc', [0x50 + register]]);
/** Optimised away. */
const gone = (text: string): Entry => entry(0x34, name(text), [0x49, 'ref4', 'int']);

const image = (...children: Entry[]): Uint8Array => {
  const dies = new DieBuilder();
  const int = entry(0x24, 'int', name('int'), [0x0b, 'data1', 4], [0x3e, 'data1', 5]);
  const body = entry(0x2e, name('fn'), ...code(0, 0x40), ...children);
  dies.unit(5, entry(0x11, name('a.c'), ...code(0, 0x40), int, body));
  return buildElf({
    sections: [
      { name: '.text', bytes: new Uint8Array(0x40), flags: ALLOC | EXEC, address: start },
      ...dies.sections(),
      { name: '.debug_line', bytes: Uint8Array.of(0) },
    ],
    symbols: [{ name: 'fn', value: start, size: 0x40, global: true, section: '.text' }],
  });
};

test('a block hides what is around it where its code is, one that kept no code hides nothing', async (context) => {
  const path = temporaryFile(
    context,
    image(
      parameter('argument', 0),
      variable('outer', 1),
      // As the macros of the kernel leave them: several of one name beside each other.
      block(gone('__ptr')),
      block(...code(0x10, 0x10), variable('__ptr', 2), variable('outer', 3), block(gone('outer'))),
      block(
        gone('__ptr'),
        gone('argument'),
        block(gone('outer'), gone('only')),
        block(...code(0x30, 8), gone('outer')),
      ),
      block(...code(0x20, 0x10), variable('__ptr', 4)),
      block(gone('__ptr')),
    ),
  );
  const file = SymbolFile.open(path);
  const registersAt = async (pc: bigint): Promise<string> => {
    const frame = {
      pc,
      bias: 0n,
      register: () => 0n,
      cfa: async () => 0n,
      read: async (_: bigint, length: number) => new Uint8Array(length),
      caller: async () => undefined,
    };
    const texts = file.variablesAt(pc, 0).map(async (each) => {
      const place = await file.locate(each, frame);
      return `${each.name} ${place.kind === 'register' ? place.number : place.kind}`;
    });
    return (await Promise.all(texts)).sort().join(', ');
  };
  assert.equal(await registersAt(at(0)), '__ptr none, argument 0, only none, outer 1');
  assert.equal(await registersAt(at(0x10)), '__ptr 2, argument 0, only none, outer 3');
  assert.equal(await registersAt(at(0x20)), '__ptr 4, argument 0, only none, outer 1');
  assert.equal(await registersAt(at(0x30)), '__ptr none, argument 0, only none, outer none', 'hidden by what is gone');
  file.close();
});

test('by name, a static of a file comes before those that functions have for themselves', (context) => {
  const place = (address: number): Attribute => [0x02, 'exprloc', [0x03, address, 0, 0, 0, 0, 0, 0, 0]];
  const fixed = (label: string, text: string, address: number): Entry =>
    entry(0x34, label, name(text), [0x49, 'ref4', 'int'], place(address));
  const int = entry(0x24, 'int', name('int'), [0x0b, 'data1', 4], [0x3e, 'data1', 5]);
  const dies = new DieBuilder();
  const first = entry(0x2e, name('first'), ...code(0, 8), fixed('own', 'ready', 1), block(fixed('inner', 'only', 2)));
  const second = entry(0x2e, name('second'), ...code(8, 8), fixed('other', 'ready', 3));
  dies.unit(5, entry(0x11, name('a.c'), ...code(0, 8), int, first));
  dies.unit(5, entry(0x11, name('b.c'), ...code(8, 8), int, second, fixed('file', 'ready', 4)));
  const path = temporaryFile(
    context,
    buildElf({
      sections: [
        { name: '.text', bytes: new Uint8Array(0x10), flags: ALLOC | EXEC, address: start },
        ...dies.sections(),
        { name: '.debug_line', bytes: Uint8Array.of(0) },
      ],
      symbols: [{ name: 'first', value: start, size: 8, global: true, section: '.text' }],
    }),
  );
  const file = SymbolFile.open(path);
  const [own, other, ofFile] = file.variablesNamed('ready');
  assert.ok(own !== undefined && other !== undefined && ofFile !== undefined);
  assert.equal(file.variableNamed('ready')?.die, ofFile);
  assert.equal(file.variableNamed('ready', start)?.die, ofFile, 'seen from a file that has none of its own');
  assert.equal(file.variableNamed('only')?.die, file.variablesNamed('only')[0], 'a function has the only one');
  file.close();
});
