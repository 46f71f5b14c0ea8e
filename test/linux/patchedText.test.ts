import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PatchedText } from '../../src/linux/patchedText.ts';
import type { Symbol as ImageSymbol } from '../../src/symbols/image.ts';
import type { Type } from '../../src/symbols/types.ts';
import { Bytes } from '../support/elfBuilder.ts';

const text = 0x1000n;
const tables = 0x2000n;
const [nop, bti, paciasp] = [0xd503201f, 0xd503245f, 0xd503233f];

// A function with room for ftrace behind a BTI; the tables name its instructions 5, 6 and 7.
const code = new Bytes();
for (const word of [bti, nop, nop, paciasp, nop, nop, paciasp, paciasp, paciasp]) code.u32(word);
const keys = new Bytes()
  .u32(Number(BigInt.asUintN(32, text + 20n - tables)))
  .u32(0)
  .u64(0)
  .done();
const alternatives = new Bytes()
  .u32(Number(BigInt.asUintN(32, text + 24n - (tables + 16n))))
  .u32(0)
  .u16(1)
  .u8(8, 8)
  .done();
const image: readonly (readonly [bigint, Uint8Array])[] = [
  [text, code.done()],
  [tables, Uint8Array.from([...keys, ...alternatives])],
];

const symbols = new Map<string, bigint>([
  ['traced', text],
  ['__start___jump_table', tables],
  ['__stop___jump_table', tables + 16n],
  ['__alt_instructions', tables + 16n],
  ['__alt_instructions_end', tables + 28n],
  ['arch_arm_kprobe', text],
  ['jump_label_update', text],
]);
const symbol = (name: string, address: bigint): ImageSymbol => ({
  name,
  address,
  kind: 'function',
  size: 36n,
  global: true,
});
const struct = (size: number, members: readonly { name: string; offset: number }[] = []): Type =>
  ({ kind: 'struct', name: 'a', size, members, isDeclaration: false }) as unknown as Type;
const types = new Map([
  ['jump_entry', struct(16)],
  ['alt_instr', struct(12)],
  ['kprobe', struct(128, [{ name: 'addr', offset: 40 }])],
]);

const patched = new PatchedText({
  machine: 'aarch64',
  symbolsNamed: (name) => {
    const address = symbols.get(name);
    return address === undefined ? [] : [symbol(name, address)];
  },
  symbolAt: (address) =>
    address >= text && address < text + 36n ? { symbol: symbol('traced', text), offset: address - text } : undefined,
  imageBytes: (address, length) => {
    const found = image.find(([start, bytes]) => address >= start && address < start + BigInt(bytes.length));
    return found?.[1].slice(Number(address - found[0]), Number(address - found[0]) + length);
  },
  typeNamed: (_tag, name) => types.get(name),
});

test('what a kernel rewrites: room for ftrace, static keys, alternatives; not every NOP', () => {
  const places = Array.from({ length: 9 }, (_, n) => n).filter((n) => patched.has(text + BigInt(4 * n)));
  assert.deepEqual(places, [1, 2, 5, 6, 7]);
  assert.equal(patched.has(0x9000n), false);
});

test('the functions that do so, behind their own room for ftrace', () => {
  assert.deepEqual(patched.patchers(), [
    { address: text + 12n, addressAt: 40 },
    { address: text + 12n, addressAt: undefined },
  ]);
});
