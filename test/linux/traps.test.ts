import assert from 'node:assert/strict';
import { test } from 'node:test';
import { classifyTrap } from '../../src/linux/traps.ts';

test('immediates of arch/arm64/include/asm/brk-imm.h', () => {
  const kernel = 0xffff_8000_0801_0000n;
  for (const [immediate, expected] of [
    [0x000, 'other'],
    [0x003, 'other'],
    [0x004, 'kprobe'],
    [0x005, 'other'],
    [0x006, 'kprobeStep'],
    [0x007, 'kprobe'],
    [0x100, 'other'],
    [0x400, 'kgdb'],
    [0x401, 'kgdb'],
    [0x402, 'other'],
    [0x7ff, 'other'],
    [0x800, 'bug'],
    [0x801, 'other'],
    [0x8ff, 'other'],
    [0x900, 'kasan'],
    [0x9ff, 'kasan'],
    [0xa00, 'other'],
    [0x54ff, 'other'],
    [0x5500, 'ubsan'],
    [0x55ff, 'ubsan'],
    [0x5600, 'other'],
    [0x7fff, 'other'],
    [0x8000, 'cfi'],
    [0x83ff, 'cfi'],
    [0x8400, 'other'],
    [0xffff, 'other'],
  ] as const) {
    assert.equal(classifyTrap(kernel, immediate), expected, `0x${immediate.toString(16)}`);
    assert.equal(classifyTrap(0xaaaa_bbbb_cccc_0000n & 0x0000_ffff_ffff_ffffn, immediate), 'user');
  }
});
