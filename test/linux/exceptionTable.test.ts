import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ExceptionTable, type ExceptionTableSource } from '../../src/linux/exceptionTable.ts';

const start = 0xffff_8000_0900_0000n;
const text = 0xffff_8000_0801_0000n;

/** A table of entries of `size` bytes: displacements from each member to the instruction and to where it goes on. */
function tableOf(size: number, entries: readonly (readonly [bigint, bigint])[]): ExceptionTable {
  const bytes = new Uint8Array(size * entries.length);
  const view = new DataView(bytes.buffer);
  for (const [index, addresses] of entries.entries()) {
    for (const [member, address] of addresses.entries()) {
      const at = size * index + 4 * member;
      view.setInt32(at, Number(BigInt.asIntN(64, address - (start + BigInt(at)))), true);
    }
  }
  const stop = start + BigInt(bytes.length);
  const named = new Map([
    ['__start___ex_table', start],
    ['__stop___ex_table', stop],
  ]);
  const source = {
    symbolsNamed: (name: string) => [{ name, address: named.get(name) }],
    typeNamed: () => ({ kind: 'struct', size, members: [] }),
    imageBytes: (address: bigint, length: number) =>
      address === start && length === bytes.length ? bytes : assert.fail('something else was read'),
  };
  return new ExceptionTable(source as unknown as ExceptionTableSource);
}

test('where a foreseen fault goes on, with entries of either size', () => {
  for (const size of [8, 12]) {
    const table = tableOf(size, [
      [text, text + 0x100n],
      [text + 0x40n, text - 0x2000n],
    ]);
    assert.equal(table.fixupOf(text), text + 0x100n);
    assert.equal(table.fixupOf(text + 0x40n), text - 0x2000n);
    assert.equal(table.fixupOf(text + 4n), undefined);
  }
});

test('a kernel without the table foresees nothing', () => {
  const source = { symbolsNamed: () => [], typeNamed: () => undefined, imageBytes: () => assert.fail() };
  assert.equal(new ExceptionTable(source).fixupOf(text), undefined);
});
