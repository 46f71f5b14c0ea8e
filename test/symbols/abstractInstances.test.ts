// Instances of inlined functions, and what only their abstract instance has (DWARF 5, 3.3.8).
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SymbolFile } from '../../src/symbols/image.ts';
import { type Attribute, DieBuilder, entry } from '../support/dieBuilder.ts';
import { ALLOC, buildElf, EXEC, temporaryFile } from '../support/elfBuilder.ts';

const start = 0xffff_8000_0800_0000n;
const name = (text: string): Attribute => [0x03, 'string', text];
const int: Attribute = [0x49, 'ref4', 'int'];
const code = (offset: number, bytes: number): [Attribute, Attribute] => [
  [0x11, 'addr', start + BigInt(offset)],
  [0x12, 'data8', bytes],
];

test('variables that a copy has no entry for', (context) => {
  const dies = new DieBuilder();
  const abstract = entry(
    0x2e,
    'inlined',
    name('inlined'),
    [0x20, 'data1', 1],
    entry(0x05, 'kept', name('kept'), int),
    entry(0x05, name('dropped'), int),
    entry(0x34, name('local'), int),
    entry(0x34, name('counter'), int, [0x02, 'exprloc', [0x03, 1, 0, 0, 0, 0, 0, 0, 0]]),
    entry(0x34, name('elsewhere'), int, [0x3c, 'data1', 1]),
  );
  const copy = entry(0x1d, [0x31, 'ref4', 'inlined'], ...code(0x10, 0x10), entry(0x05, [0x31, 'ref4', 'kept']));
  const outer = entry(0x2e, name('outer'), ...code(0, 0x40), entry(0x34, name('local'), int), copy);
  const base = entry(0x24, 'int', name('int'), [0x0b, 'data1', 4], [0x3e, 'data1', 5]);
  dies.unit(5, entry(0x11, name('a.c'), ...code(0, 0x40), base, abstract, outer));
  const path = temporaryFile(
    context,
    buildElf({
      sections: [
        { name: '.text', bytes: new Uint8Array(0x40), flags: ALLOC | EXEC, address: start },
        ...dies.sections(),
        { name: '.debug_line', bytes: Uint8Array.of(0) },
      ],
    }),
  );
  const file = SymbolFile.open(path);
  const at = (depth: number): string[] =>
    file.variablesAt(start + 0x10n, depth).map(({ name: own, kind }) => `${kind} ${own}`);
  assert.deepEqual(at(0), ['argument kept', 'argument dropped', 'local local', 'static counter']);
  assert.deepEqual(at(1), ['local local']);
  file.close();
});
