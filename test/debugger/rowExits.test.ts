import assert from 'node:assert/strict';
import { test } from 'node:test';
import { aarch64 } from '../../src/arch/aarch64/aarch64.ts';
import { Gva } from '../../src/base/address.ts';
import { wayOut } from '../../src/debugger/rowExits.ts';

const start = Gva(0xffff_8000_0801_0000n);
const way = (...words: readonly number[]) => wayOut(start, new Uint8Array(new Uint32Array(words).buffer), aarch64);
const exits = (...words: readonly number[]): readonly bigint[] | undefined =>
  way(...words).exits?.map((address) => address - start);

test('code is left behind its end, and by jumps that lead out of it', () => {
  assert.deepEqual(exits(0xd503201f, 0xd503201f), [8n]);
  assert.deepEqual(exits(0xb5ffffe1, 0xd503201f), [8n, -4n]); // cbnz x1, .-4
  assert.deepEqual(exits(0x54000040, 0xd503201f, 0x17fffffe), [12n]); // b.eq .+8; nop; b .-8
  assert.deepEqual(exits(0x37180401, 0x14000010), [8n, 0x80n, 0x44n]); // tbnz w1, #3, .+0x80; b .+0x40
});

test('calls come back; returns and jumps by register go anywhere', () => {
  assert.deepEqual(exits(0x94000010, 0xd63f0220), [8n]); // bl, blr
  assert.equal(way(0x94000010).calls, true);
  assert.equal(way(0x14000010).calls, false);
  assert.equal(exits(0xd503201f, 0xd65f03c0), undefined); // ret
  assert.equal(exits(0xd61f00a0), undefined); // br x5
});
