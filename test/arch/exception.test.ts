import assert from 'node:assert/strict';
import { test } from 'node:test';
import { enterException, reinjectBreakpoint } from '../../src/arch/aarch64/exception.ts';
import { TargetError } from '../../src/base/errors.ts';

const VBAR = 0xffff_8000_1001_0800n;
const PC = 0xffff_8000_1234_5678n;
const SPAN = 1n << 23n;
const DSSBS = 1n << 44n;
const plain = { mte: false };
const state = (pstate: bigint, sctlr_el1 = SPAN) => ({ pc: PC, pstate, vbar_el1: VBAR, sctlr_el1 });

// asm/ptrace.h: N Z C V 31-28, TCO 25, DIT 24, UAO 23, PAN 22, SS 21, IL 20, SSBS 12, BTYPE 11:10, DAIF 9-6.
const TCO = 1n << 25n;
const DIT = 1n << 24n;
const UAO = 1n << 23n;
const PAN = 1n << 22n;
const SS = 1n << 21n;
const IL = 1n << 20n;
const ALLINT = 1n << 13n;
const SSBS = 1n << 12n;
const BTYPE = 3n << 10n;
const ENTERED = 0x3c5n; // DAIF set, EL1h

test('the vector follows source EL, stack pointer and width', () => {
  for (const [name, pstate, offset] of [
    ['EL1t', 0x4n, 0x000n],
    ['EL1h', 0x5n, 0x200n],
    ['EL0, AArch64', 0x0n, 0x400n],
    ['EL0, AArch32 A32', 0x10n, 0x600n],
    ['EL0, AArch32 T32', 0x30n, 0x600n],
  ] as const) {
    const entry = reinjectBreakpoint(state(pstate), 0x800, plain);
    assert.equal(entry.pc, VBAR + offset, name);
    assert.equal(entry.elr_el1, PC, name);
    assert.equal(entry.spsr_el1, pstate, name);
    assert.equal(entry.pstate, ENTERED, name);
  }
  assert.throws(() => reinjectBreakpoint(state(0x9n), 0, plain), TargetError);
});

test('each PSTATE bit is kept, set or cleared as enter_exception64 does', () => {
  for (const [name, before, sctlr, features, after] of [
    ['NZCV kept', 0xf000_0005n, SPAN, plain, 0xf000_0000n],
    ['N alone kept', 0x8000_0005n, SPAN, plain, 0x8000_0000n],
    ['DIT kept', DIT | 5n, SPAN, plain, DIT],
    ['PAN kept', PAN | 5n, SPAN, plain, PAN],
    ['PAN not set with SPAN 1', 5n, SPAN, plain, 0n],
    ['PAN set with SPAN 0', 5n, 0n, plain, PAN],
    ['PAN kept with SPAN 0', PAN | 5n, 0n, plain, PAN],
    ['UAO cleared', UAO | 5n, SPAN, plain, 0n],
    ['SS and IL cleared', SS | IL | 5n, SPAN, plain, 0n],
    ['BTYPE cleared', BTYPE | 5n, SPAN, plain, 0n],
    ['SSBS cleared with DSSBS 0', SSBS | 5n, SPAN, plain, 0n],
    ['SSBS set with DSSBS 1', 5n, SPAN | DSSBS, plain, SSBS],
    ['TCO set with MTE', 5n, SPAN, { mte: true }, TCO],
    ['TCO cleared without MTE', TCO | 5n, SPAN, plain, 0n],
    ['ALLINT cleared without NMI', ALLINT | 5n, SPAN, plain, 0n],
    ['ALLINT set with NMI', 5n, SPAN, { mte: false, nmi: true }, ALLINT],
    ['ALLINT clear with NMI and SPINTMASK', 5n, SPAN | (1n << 62n), { mte: false, nmi: true }, 0n],
    ['DAIF set from clear', 5n, SPAN, plain, 0n],
    ['high half cleared', (1n << 34n) | 5n, SPAN, plain, 0n],
    ['AArch32: Q, GE, IT, E, T dropped', 0xf8ff_fe30n & ~(PAN | DIT), SPAN, plain, 0xf000_0000n],
  ] as const) {
    const entry = enterException(state(before, sctlr), 0xf200_0000n, features);
    assert.equal(entry.pstate, after | ENTERED, name);
    assert.equal(entry.spsr_el1, before, name);
  }
});

test('the BRK and BKPT syndromes', () => {
  // ESR that Linux prints for BUG() is 0xf2000800: EC 0x3c, IL, imm 0x800.
  assert.equal(reinjectBreakpoint(state(0x5n), 0x800, plain).esr_el1, 0xf200_0800n);
  assert.equal(reinjectBreakpoint(state(0x0n), 0, plain).esr_el1, 0xf200_0000n);
  assert.equal(reinjectBreakpoint(state(0x10n), 0xabcd, plain).esr_el1, 0xe200_abcdn);
  assert.equal(reinjectBreakpoint(state(0x30n), 0xbe, plain).esr_el1, 0xe000_00ben); // 16-bit instruction: IL 0
  for (const bad of [-1, 0x1_0000, 0.5]) {
    assert.throws(() => reinjectBreakpoint(state(0x5n), bad, plain), RangeError);
  }
});

test('a class as KVM sees it becomes the current-EL one from EL1 and stays from EL0', () => {
  for (const [lower, same] of [
    [0x20n, 0x21n],
    [0x24n, 0x25n],
    [0x30n, 0x31n],
    [0x32n, 0x33n],
    [0x34n, 0x35n],
    [0x3cn, 0x3cn],
    [0x15n, 0x15n],
  ] as const) {
    const iss = 0x0200_0022n;
    assert.equal(enterException(state(0x5n), (lower << 26n) | iss, plain).esr_el1, (same << 26n) | iss);
    assert.equal(enterException(state(0x4n), (lower << 26n) | iss, plain).esr_el1, (same << 26n) | iss);
    assert.equal(enterException(state(0x0n), (lower << 26n) | iss, plain).esr_el1, (lower << 26n) | iss);
    assert.equal(enterException(state(0x10n), (lower << 26n) | iss, plain).esr_el1, (lower << 26n) | iss);
  }
});
