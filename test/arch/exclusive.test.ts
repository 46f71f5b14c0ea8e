import assert from 'node:assert/strict';
import { test } from 'node:test';
import { exclusiveSequence, isLoadExclusive, isStoreExclusive } from '../../src/arch/aarch64/exclusive.ts';

const START = 0xffff_8000_0810_ea00n;
const LDXR = 0xc85f7e62; // ldxr x2, [x19]
const STLXR = 0xc800fe63; // stlxr w0, x3, [x19]
const ADD = 0x91000442; // add x2, x2, #1
const EOR = 0xca010044; // eor x4, x2, x1
const CLREX = 0xd503305f;

const at = (...words: number[]) => exclusiveSequence(START, words);

test('load-exclusives of every size and kind, and nothing else', () => {
  for (const word of [
    0x085f7c20, // ldxrb w0, [x1]
    0x485f7c20, // ldxrh
    0x885f7c20, // ldxr w0
    0xc85f7c20, // ldxr x0
    0x885ffc20, // ldaxr w0
    0xc87f0420, // ldxp x0, x1, [x1]
    0x887f8420, // ldaxp w0, w1, [x1]
  ]) {
    assert.ok(isLoadExclusive(word), word.toString(16));
  }
  for (const word of [
    STLXR,
    0xc8dffc20, // ldar x0, [x1]
    0xc89ffc20, // stlr x0, [x1]
    0x08607c22, // caspa w0, w1, w2, w3, [x1]
    0xc8e07c41, // casa x0, x1, [x2]
    0xf9400020, // ldr x0, [x1]
    0xf8e00041, // ldaddal x0, x1, [x2]
  ]) {
    assert.equal(isLoadExclusive(word), false, word.toString(16));
  }
});

test('a sequence ends behind its store-exclusive of any kind', () => {
  for (const store of [STLXR, 0x08007c41, 0x48007c41, 0x88007c41, 0xc8207c41, 0x88208c41]) {
    assert.deepEqual(at(LDXR, ADD, store), { length: 12n, exits: [START + 12n] });
    assert.ok(isStoreExclusive(store), store.toString(16));
  }
  // stlr x0, [x1]; casp w0, w1, w2, w3, [x1]; str x0, [x1]; clrex
  for (const word of [LDXR, 0xc89ffc20, 0x08207c22, 0xf9000020, CLREX]) {
    assert.equal(isStoreExclusive(word), false, word.toString(16));
  }
  assert.deepEqual(at(LDXR, STLXR), { length: 8n, exits: [START + 8n] });
});

test('branches out of a sequence are exits, of every form and in both directions', () => {
  for (const [text, branch, offset] of [
    ['b.ne +0x40', 0x54000201, 0x40n],
    ['cbnz x4, +0x40', 0xb5000204, 0x40n],
    ['cbz w4, -0x100', 0x34fff804, -0x100n],
    ['tbz x2, #3, +0x40', 0x36180202, 0x40n],
    ['tbnz x2, #63, -0x8', 0xb7ffffc2, -0x8n],
    ['cbgt w2, w3, +0x40 (FEAT_CMPBR)', 0x74030202, 0x40n],
  ] as const) {
    const expected = { length: 16n, exits: [START + 16n, START + 8n + offset] };
    // A target 8 bytes back is the start itself: a loop within, tested below.
    if (offset === -8n) assert.equal(at(LDXR, EOR, branch, STLXR), undefined, text);
    else assert.deepEqual(at(LDXR, EOR, branch, STLXR), expected, text);
  }
});

test('branches within, forward, are no exits', () => {
  const CBZ_8 = 0xb4000044; // cbz x4, .+8
  assert.deepEqual(at(LDXR, CBZ_8, ADD, STLXR), { length: 16n, exits: [START + 16n] });
});

test('what does not run straight to its store-exclusive is no sequence', () => {
  assert.equal(at(ADD, LDXR, STLXR), undefined);
  assert.equal(at(LDXR, ADD), undefined);
  assert.equal(at(LDXR, 0x14000010, STLXR), undefined); // b
  assert.equal(at(LDXR, 0x94000010, STLXR), undefined); // bl
  assert.equal(at(LDXR, 0xd65f03c0, STLXR), undefined); // ret
  assert.equal(at(LDXR, 0xd4000001, STLXR), undefined); // svc
  for (const word of [0xd503205f, 0xd503207f, 0xd5031003, 0xd5031023]) {
    assert.equal(at(LDXR, word, STLXR), undefined); // wfe, wfi, wfet x3, wfit x3
  }
  assert.equal(at(LDXR, LDXR, STLXR), undefined);
  assert.equal(at(LDXR, ...Array<number>(32).fill(ADD), STLXR), undefined);
  assert.equal(at(LDXR, CLREX), undefined);
});
