import assert from 'node:assert/strict';
import { test } from 'node:test';
import { aarch64 } from '../../src/arch/aarch64/aarch64.ts';

test('DWARF register numbers (AADWARF64, 4.1)', () => {
  for (const [number, name] of [
    [0, 'x0'],
    [29, 'x29'],
    [30, 'x30'],
    [31, 'sp'],
    [32, 'pc'],
    [33, 'elr_el1'],
    [34, undefined],
    [36, 'tpidr_el0'],
    [47, 'ffr'],
    [48, 'p0'],
    [63, 'p15'],
    [64, 'v0'],
    [95, 'v31'],
    [96, 'z0'],
    [127, 'z31'],
    [128, undefined],
    [-1, undefined],
    [0.5, undefined],
  ] as const) {
    assert.equal(aarch64.dwarfRegister(number), name, String(number));
  }
});

test('the breakpoint is BRK #0, little-endian', () => {
  assert.deepEqual([...aarch64.breakpointInstruction], [0x00, 0x00, 0x20, 0xd4]);
  assert.equal(aarch64.decode(aarch64.breakpointInstruction).length, 4);
});

// TCR_EL1: T0SZ 5:0, T1SZ 21:16.
const tcr = (t0sz: bigint, t1sz: bigint) => new Map([['tcr_el1', t0sz | (t1sz << 16n)]]);
const none = new Map<string, bigint>();

test('pointer authentication codes are removed from code addresses', () => {
  for (const [value, registers, expected] of [
    [0xffff_8000_1012_3456n, none, 0xffff_8000_1012_3456n],
    [0xa5b1_8000_1012_3456n, none, 0xffff_8000_1012_3456n], // bit 55 set: kernel half
    [0x5a37_8000_1012_3456n, none, 0x0000_8000_1012_3456n], // bit 55 clear: user half
    [0x0000_0000_0040_1000n, none, 0x0000_0000_0040_1000n],
    [0x5a37_ff80_1012_3456n, tcr(25n, 25n), 0x0000_0000_1012_3456n],
    [0xa5bf_ffc0_1012_3456n, tcr(25n, 25n), 0xffff_ffc0_1012_3456n],
    [0xa5b1_0040_1012_3456n, tcr(16n, 25n), 0xffff_ffc0_1012_3456n],
    [0x00f8_1000_1012_3456n, tcr(12n, 12n), 0xfff8_1000_1012_3456n],
    [0xa5b1_8000_1012_3456n, tcr(0n, 0n), 0xffff_8000_1012_3456n], // before the MMU is set up
  ] as const) {
    assert.equal(aarch64.codeAddress(value, registers), expected, value.toString(16));
  }
});

test('the context names level and stack pointer', () => {
  for (const [pstate, text] of [
    [0x0n, 'EL0'],
    [0x3c5n, 'EL1'],
    [0x3c4n, 'EL1t'],
    [0x9n, 'EL2'],
    [0x30n, 'EL0 (AArch32)'],
  ] as const) {
    assert.equal(aarch64.describeContext(new Map([['pstate', pstate]])), text);
  }
  assert.equal(aarch64.describeContext(none), '');
});

test('the registers that the interface names exist', () => {
  const names = aarch64.generalRegisters.map(({ name }) => name);
  for (const name of [aarch64.programCounter, aarch64.stackPointer, aarch64.unwind.framePointer, 'x30', 'pstate']) {
    assert.ok(names.includes(name), name);
  }
  assert.equal(aarch64.unwind.linkRegister, 'x30');
});
