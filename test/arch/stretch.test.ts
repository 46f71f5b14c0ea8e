import assert from 'node:assert/strict';
import { test } from 'node:test';
import { longestStretch, straightStretch } from '../../src/arch/aarch64/stretch.ts';

const START = 0xffff_8000_0810_ea00n;
const ADD = 0x91000442; // add x2, x2, #1
const LDR = 0xf9400020; // ldr x0, [x1]
const CURRENT = 0xd5384101; // mrs x1, sp_el0
const RET = 0xd65f03c0;

const at = (...words: number[]) => straightStretch(START, words);

test('code that runs straight on is run to its end', () => {
  assert.deepEqual(at(ADD, LDR, CURRENT, ADD), { length: 16n, exits: [START + 16n] });
  for (const [text, word] of [
    ['nop', 0xd503201f],
    ['paciasp', 0xd503233f],
    ['bti c', 0xd503245f],
    ['yield', 0xd503203f],
    ['dmb ish', 0xd5033bbf],
    ['isb', 0xd5033fdf],
    ['clrex', 0xd503305f],
    ['mrs x0, nzcv', 0xd53b4200],
    ['ldaddal x0, x1, [x2]', 0xf8e00041],
    ['ldar x0, [x1]', 0xc8dffc20],
    ['fadd d0, d1, d2', 0x1e622820],
    ['adrp x0, .', 0x90000000],
  ] as const) {
    assert.deepEqual(at(ADD, word, ADD), { length: 12n, exits: [START + 12n] }, text);
  }
  const long = Array.from({ length: 200 }, () => ADD);
  assert.equal(at(...long)?.length, BigInt(4 * longestStretch));
});

test('it ends before what goes elsewhere, waits, or deals with the state of the CPU', () => {
  for (const [text, word] of [
    ['bl .', 0x94000000],
    ['blr x0', 0xd63f0000],
    ['br x0', 0xd61f0000],
    ['ret', RET],
    ['eret', 0xd69f03e0],
    ['svc #0', 0xd4000001],
    ['hvc #0', 0xd4000002],
    ['brk #0x800', 0xd4210000],
    ['wfe', 0xd503205f],
    ['wfi', 0xd503207f],
    ['wfit x0', 0xd5031020],
    ['ldxr x2, [x19]', 0xc85f7e62],
    ['stlxr w0, x3, [x19]', 0xc800fe63],
    ['mrs x0, daif', 0xd53b4220],
    ['esb', 0xd503221f],
    ['msr daif, x0', 0xd51b4220],
    ['msr daifset, #2', 0xd50342df],
    ['msr daifclr, #2', 0xd50342ff],
    ['msr pan, #1', 0xd500419f],
    ['msr spsel, #0', 0xd50040bf],
    ['msr vbar_el1, x0', 0xd518c000],
    ['tlbi vmalle1', 0xd508871f],
    ['ic ivau, x0', 0xd50b7520],
    ['dc zva, x0', 0xd50b7420],
  ] as const) {
    assert.deepEqual(at(ADD, LDR, word, ADD), { length: 8n, exits: [START + 8n] }, text);
    assert.equal(at(word, ADD, ADD), undefined, `${text} first`);
    assert.equal(at(ADD, word), undefined, `one instruction before ${text}`);
  }
  assert.equal(at(), undefined);
  assert.equal(at(ADD), undefined);
  assert.equal(straightStretch(START + 2n, [ADD, ADD, ADD]), undefined, 'no place for instructions');
});

test('a direct branch is part of it, unless it leads back into it', () => {
  const CBZ = (offset: number): number => (0xb4000002 | (((offset >> 2) & 0x7ffff) << 5)) >>> 0;
  const B = (offset: number): number => (0x14000000 | ((offset >> 2) & 0x3ffffff)) >>> 0;
  assert.deepEqual(at(ADD, CBZ(0x40), LDR), { length: 8n, exits: [START + 8n, START + 0x44n] });
  assert.deepEqual(at(ADD, CBZ(-0x40), LDR), { length: 8n, exits: [START + 8n, START - 0x3cn] });
  assert.deepEqual(at(ADD, CBZ(4), LDR), { length: 8n, exits: [START + 8n] });
  assert.deepEqual(at(ADD, B(0x40), LDR), { length: 8n, exits: [START + 0x44n] });
  // A loop: to its first instruction, to another, to the branch itself.
  assert.deepEqual(at(ADD, LDR, CBZ(-8)), { length: 8n, exits: [START + 8n] });
  assert.deepEqual(at(ADD, LDR, CBZ(-4)), { length: 8n, exits: [START + 8n] });
  assert.deepEqual(at(ADD, LDR, B(0)), { length: 8n, exits: [START + 8n] });
  // A branch alone is a step like any other.
  assert.equal(at(CBZ(0x40), ADD, ADD), undefined);
});
