import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  branchTargetRegister,
  brkImmediate,
  decode,
  decodeWord,
  maskInstruction,
} from '../../src/arch/aarch64/instructions.ts';

// Words as aarch64-linux-gnu-as 2.40 assembles them; FEAT_PAuth_LR, FEAT_CMPBR, FEAT_HBC and FEAT_NMI ones by LLVM 22.
const words = {
  call: [
    [0x94000004, 'bl .+16'],
    [0xd63f0060, 'blr x3'],
    [0xd73f0822, 'blraa x1, x2'],
    [0xd73f0fdf, 'blrab x30, sp'],
    [0xd63f093f, 'blraaz x9'],
    [0xd63f0d3f, 'blrabz x9'],
  ],
  return: [
    [0xd65f03c0, 'ret'],
    [0xd65f00e0, 'ret x7'],
    [0xd65f0bff, 'retaa'],
    [0xd65f0fff, 'retab'],
    [0xd69f03e0, 'eret'],
    [0xd69f0bff, 'eretaa'],
    [0xd69f0fff, 'eretab'],
    [0x5500001f, 'retaasppc'],
    [0x5520001f, 'retabsppc'],
    [0xd65f0be3, 'retaasppcr x3'],
  ],
  branch: [
    [0x54000040, 'b.eq .+8'],
    [0x5400004e, 'b.al .+8'],
    [0x54000050, 'bc.eq .+8'],
    [0xb4000041, 'cbz x1, .+8'],
    [0x35ffffc1, 'cbnz w1, .-8'],
    [0xb6400041, 'tbz x1, #40, .+8'],
    [0x371fffc2, 'tbnz w2, #3, .-8'],
    [0xf4020041, 'cbgt x1, x2, .+8'],
    [0x75428041, 'cbhi w1, #5, .+8'],
    [0x74c28041, 'cbbeq w1, w2, .+8'],
  ],
  jump: [
    [0x14000002, 'b .+8'],
    [0x17ffffff, 'b .-4'],
    [0xd61f00a0, 'br x5'],
    [0xd71f0822, 'braa x1, x2'],
    [0xd71f0c3f, 'brab x1, sp'],
    [0xd61f089f, 'braaz x4'],
    [0xd61f0c9f, 'brabz x4'],
  ],
  other: [
    [0xd503201f, 'nop'],
    [0xd4000001, 'svc #0'],
    [0xd4000002, 'hvc #0'],
    [0xd4000003, 'smc #0'],
    [0xd4210000, 'brk #0x800'],
    [0xd4400000, 'hlt #0'],
    [0x58000040, 'ldr x0, .+8'],
    [0x10000020, 'adr x0, .+4'],
    [0xa9bf7bfd, 'stp x29, x30, [sp, #-16]!'],
    [0xd50342df, 'msr daifset, #2'],
    [0xd5033fdf, 'isb'],
    [0xd503207f, 'wfi'],
    [0x00000000, 'udf #0'],
    [0xd50323bf, 'autiasp'],
    [0xc85f7c20, 'ldxr x0, [x1]'],
    [0xc8e0fc41, 'casal x0, x1, [x2]'],
  ],
} as const;

test('calls, returns, jumps, branches and others, and how far they go', () => {
  for (const [kind, table] of Object.entries(words)) {
    for (const [word, text] of table) {
      const [, offset] = kind === 'other' ? [] : (/\.([+-]\d+)$/.exec(text) ?? []);
      const displacement = offset === undefined ? {} : { displacement: BigInt(offset) };
      assert.deepEqual(decodeWord(word), { length: 4, kind, ...displacement }, text);
    }
  }
});

test('instructions are little-endian and need not start the buffer', () => {
  const bytes = new Uint8Array([0xff, 0xc0, 0x03, 0x5f, 0xd6, 0x1f, 0x20]);
  assert.equal(decode(bytes.subarray(1)).kind, 'return');
});

test('the register that a branch goes to', () => {
  for (const [word, register, text] of [
    [0xd61f0100, 8, 'br x8'],
    [0xd63f0220, 17, 'blr x17'],
    [0xd65f03c0, undefined, 'ret'],
    [0xd71f0a11, undefined, 'braa x16, x17'],
    [0x94000004, undefined, 'bl .+16'],
  ] as const) {
    assert.equal(branchTargetRegister(word), register, text);
  }
});

test('BRK immediates', () => {
  for (const [word, immediate] of [
    [0xd4200000, 0],
    [0xd4210000, 0x800],
    [0xd4200080, 4],
    [0xd43fffe0, 0xffff],
    [0xd4400000, undefined], // hlt
    [0xd4200001, undefined],
    [0xd4000001, undefined],
  ] as const) {
    assert.equal(brkImmediate(word), immediate, word.toString(16));
  }
});

test('instructions that deal with the interrupt masks', () => {
  for (const [word, text, expected] of [
    [0xd50342df, 'msr daifset, #2', { kind: 'setMasks', mask: 0x80n }],
    [0xd5034fdf, 'msr daifset, #0xf', { kind: 'setMasks', mask: 0x3c0n }],
    [0xd50342ff, 'msr daifclr, #2', { kind: 'clearMasks', mask: 0x80n }],
    [0xd50348ff, 'msr daifclr, #8', { kind: 'clearMasks', mask: 0x200n }],
    [0xd51b4225, 'msr daif, x5', { kind: 'writeMasks' }],
    [0xd53b4231, 'mrs x17, daif', { kind: 'readMasks', register: 17 }],
    [0xd53b423f, 'mrs xzr, daif', { kind: 'readMasks', register: 31 }],
    [0xd69f03e0, 'eret', { kind: 'exceptionReturn' }],
    [0xd69f0bff, 'eretaa', { kind: 'exceptionReturn' }],
    [0xd50041bf, 'msr spsel, #1', undefined],
    [0xd500419f, 'msr pan, #1', undefined],
    [0xd501411f, 'msr allint, #1', undefined],
    [0xd53b4200, 'mrs x0, nzcv', undefined],
    [0xd503201f, 'nop', undefined],
  ] as const) {
    assert.deepEqual(maskInstruction(word), expected, text);
  }
});
