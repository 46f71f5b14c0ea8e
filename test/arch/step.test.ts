import assert from 'node:assert/strict';
import { test } from 'node:test';
import { finishStep, insteadOfStep, likelyUnmask, planStep } from '../../src/arch/aarch64/step.ts';

// Masks: D 0x200, A 0x100, I 0x80, F 0x40. Held off by the debugger: A, I, F = 0x1c0.
const HELD = 0x1c0n;
const PC = 0xffff_8000_1000_0000n;
const VBAR = 0xffff_8000_1001_0000n;
const NOP = 0xd503201f;
const SVC = 0xd4000001;
const ERET = 0xd69f03e0;

const result = (pstate: bigint, pc = PC + 4n, spsr_el1 = 0x6000_0000n, elr_el1 = 0x40_0000n) => ({
  pc,
  pstate,
  spsr_el1,
  elr_el1,
  vbar_el1: VBAR,
});
/** Before a step; SPSR_EL1 and ELR_EL1 are of an older exception. */
const state = (pstate: bigint) => ({ pc: PC, pstate, spsr_el1: 0x2000_0000n, elr_el1: 0x41_0000n });
const step = (instruction: number, before: bigint, after: ReturnType<typeof result>) =>
  finishStep(planStep(instruction, state(before)), after);

test('the step runs with A, I and F set and everything else as it was', () => {
  for (const pstate of [0x5n, 0x85n, 0x3c5n, 0x6040_0005n, 0x0n, 0x10n]) {
    assert.equal(planStep(NOP, state(pstate)).pstate, pstate | HELD);
  }
});

test('after an ordinary instruction the masks are as before, and the flags as the instruction left them', () => {
  assert.deepEqual(step(NOP, 0x5n, result(0x5n | HELD)), { pstate: 0x5n });
  assert.deepEqual(step(NOP, 0x85n, result(0x8000_0005n | HELD)), { pstate: 0x8000_0085n });
  assert.deepEqual(step(NOP, 0x3c5n, result(0x3c5n)), {}); // nothing to write
  assert.deepEqual(step(NOP, 0x5n, result(0x4n | HELD)), { pstate: 0x4n }); // MSR SPSel, say
});

// Defect 3 of a debugger that always puts back what it saved.
test('a stepped MSR DAIFSet, DAIFClr or DAIF, Xt keeps its effect', () => {
  for (const [text, word, before, after, expected] of [
    ['daifset I', 0xd50342df, 0x5n, 0x1c5n, { pstate: 0x85n }],
    ['daifset DAIF', 0xd5034fdf, 0x5n, 0x3c5n, {}],
    ['daifset D alone', 0xd50348df, 0x5n, 0x3c5n, { pstate: 0x205n }],
    ['daifclr I', 0xd50342ff, 0x3c5n, 0x345n, {}],
    ['daifclr I, others held', 0xd50342ff, 0x85n, 0x145n, { pstate: 0x5n }],
    ['daifclr DAIF', 0xd5034fff, 0x3c5n, 0x5n, {}],
    ['daifclr D alone', 0xd50348ff, 0x285n, 0x1c5n, { pstate: 0x85n }],
    ['msr daif, x5 with 0', 0xd51b4225, 0x3c5n, 0x5n, {}],
    ['msr daif, x5 with 0x3c0', 0xd51b4225, 0x5n, 0x3c5n, {}],
    ['msr daif, x5 with 0x80', 0xd51b4225, 0x5n, 0x85n, {}],
  ] as const) {
    assert.deepEqual(step(word, before, result(after)), expected, text);
  }
});

test('what is unmasked before the vCPU is looked at is what an executed instruction ends with', () => {
  for (const word of [NOP, 0xd50342df, 0xd5034fdf, 0xd50348df, 0xd50342ff, 0xd5034fff, 0xd53b4231]) {
    for (const before of [0x5n, 0x85n, 0x285n, 0x3c5n, 0x6000_0000n]) {
      const unmask = likelyUnmask(planStep(word, state(before)));
      assert.equal(unmask?.mask, HELD);
      const held = before | HELD;
      const wanted = { pstate: held, ...step(word, before, result(held)) }.pstate;
      assert.equal((held & ~HELD) | (unmask?.bits ?? 0n), wanted, `${word.toString(16)} of ${before.toString(16)}`);
    }
  }
  for (const word of [ERET, 0xd51b4225]) assert.equal(likelyUnmask(planStep(word, state(0x5n))), undefined);
});

test('a stepped MRS DAIF reads the masks of the guest', () => {
  assert.deepEqual(step(0xd53b4231, 0x5n, result(0x5n | HELD)), { pstate: 0x5n, x17: 0n });
  assert.deepEqual(step(0xd53b4231, 0x6000_0285n, result(0x6000_0285n | HELD)), { pstate: 0x6000_0285n, x17: 0x280n });
  assert.deepEqual(step(0xd53b423f, 0x5n, result(0x5n | HELD)), { pstate: 0x5n }); // XZR
});

test('a stepped ERET leaves PSTATE as SPSR_EL1 gave it', () => {
  assert.deepEqual(step(ERET, 0x3c5n, result(0x0n, 0x40_0000n)), {}); // to EL0, interrupts on
  assert.deepEqual(step(ERET, 0x3c5n, result(0x85n, PC + 0x100n)), {}); // to EL1, IRQ masked
});

test('an instruction that did not start leaves no trace, whatever it is', () => {
  for (const word of [NOP, ERET, 0xd50342ff, 0xd51b4225, 0xd53b4231]) {
    assert.deepEqual(step(word, 0x5n, result(0x5n | HELD, PC)), { pstate: 0x5n });
  }
});

test('an exception taken during the step saves the masks of the guest', () => {
  for (const [text, word, before, vector, elr] of [
    ['svc from EL0', SVC, 0x6000_0000n, 0x400n, PC + 4n],
    ['abort from EL0', NOP, 0x0n, 0x400n, PC],
    ['abort from EL1h', NOP, 0x8040_0005n, 0x200n, PC],
    ['abort from EL1h, IRQ masked', NOP, 0x85n, 0x200n, PC],
    ['abort from EL1t', NOP, 0x4n, 0x000n, PC],
    ['svc from T32', 0xdf00df00, 0x30n, 0x600n, PC + 2n],
    ['eretaa that fails authentication', 0xd69f0bff, 0x5n, 0x200n, PC],
    ['msr daif from EL0, undefined there', 0xd51b4225, 0x0n, 0x400n, PC],
  ] as const) {
    const taken = result(0x3c5n, VBAR + vector, before | HELD, elr);
    assert.deepEqual(step(word, before, taken), { spsr_el1: before }, text);
  }
});

test('SPSR_EL1.SS after an exception is the guest own, not the step', () => {
  const SS = 1n << 21n;
  assert.deepEqual(step(NOP, 0x5n, result(0x3c5n, VBAR + 0x200n, 0x5n | HELD | SS, PC)), { spsr_el1: 0x5n });
  assert.deepEqual(step(NOP, 0x3c5n, result(0x3c5n, VBAR + 0x200n, 0x3c5n, PC)), {});
});

test('a branch that only looks like an exception does not change SPSR_EL1', () => {
  // br to the vector with everything masked, but SPSR_EL1 and ELR_EL1 are of an older exception.
  const older = result(0x3c5n, VBAR + 0x200n, 0x6000_0000n, 0x40_0000n);
  assert.deepEqual(step(0xd61f00a0, 0x205n, older), { pstate: 0x205n });
  const sameMode = result(0x3c5n, VBAR + 0x200n, 0x5n, PC);
  assert.deepEqual(step(0xd61f00a0, 0x205n, sameMode), { pstate: 0x205n });
  const notEntry = result(0x3c5n, VBAR + 0x280n, 0x5n | HELD, PC);
  assert.deepEqual(step(0xd61f00a0, 0x205n, notEntry), { pstate: 0x205n });
});

test('in AArch32 bit 9 is the endianness, which the step leaves alone', () => {
  const SETEND_BE = 0xf1010200;
  assert.equal(planStep(SETEND_BE, state(0x10n)).pstate, 0x1d0n);
  assert.deepEqual(step(SETEND_BE, 0x10n, result(0x3d0n)), { pstate: 0x210n });
  // Words are not A64 there: what would be MSR DAIFClr is something else.
  assert.deepEqual(step(0xd5034fff, 0x1d0n, result(0x1d0n)), {});
});

test('an exception anywhere in a sequence of several instructions is taken by the step', () => {
  const LDXR = 0xc85f7e62;
  const entered = (elr: bigint) => ({ ...result(0x3c5n, VBAR + 0x200n, 0x2000_0005n | HELD, elr) });
  const plan = planStep(LDXR, state(0x5n), { length: 16n, exits: [PC + 16n, PC - 0x8000n] });
  // The last is a branch to where nothing can be fetched.
  for (const offset of [0n, 12n, -0x8000n]) {
    assert.deepEqual(finishStep(plan, entered(PC + offset)), { spsr_el1: 0x2000_0005n });
  }
  assert.deepEqual(finishStep(plan, result(0x6000_0005n | HELD, PC + 16n)), { pstate: 0x6000_0005n });
});

test('an interrupt that the instruction let in is pending again', () => {
  const IRQ = 0x80n;
  const FIQ = 0x100n;
  const older = { spsr_el1: 0x2000_0000n, elr_el1: 0x41_0000n };
  for (const [text, word, before, vector, spsr, elr, expected] of [
    ['daifclr I', 0xd50342ff, 0x85n, 0x200n + IRQ, 0x145n, PC + 4n, { pc: PC + 4n, pstate: 0x5n }],
    ['daifclr F', 0xd50341ff, 0x45n, 0x200n + FIQ, 0x185n, PC + 4n, { pc: PC + 4n, pstate: 0x5n }],
    ['msr daif, x5 at EL1t', 0xd51b4225, 0x3c4n, IRQ, 0x4n, PC + 4n, { pc: PC + 4n, pstate: 0x4n }],
    ['eret to EL0', ERET, 0x3c5n, 0x400n + IRQ, 0x6020_0000n, 0x40_0000n, { pc: 0x40_0000n, pstate: 0x6000_0000n }],
    ['eret to AArch32', ERET, 0x3c5n, 0x600n + IRQ, 0x10n, 0x4000n, { pc: 0x4000n, pstate: 0x10n }],
  ] as const) {
    const after = { ...result(0x3c5n, VBAR + vector, spsr, elr) };
    assert.deepEqual(step(word, before, after), { ...older, ...expected }, text);
  }
  // ERET to the vector itself, and an instruction that lets nothing in.
  assert.deepEqual(step(ERET, 0x3c5n, result(0x3c5n, VBAR + 0x280n, 0x3c5n, VBAR + 0x280n)), {});
  assert.deepEqual(step(0xd61f00a0, 0x205n, result(0x3c5n, VBAR + 0x280n, 0x5n, PC)), { pstate: 0x205n });
});

test('a wait for interrupts is passed over where nothing else can come of it', () => {
  for (const word of [0xd503207f, 0xd5031023]) {
    assert.deepEqual(insteadOfStep(word, state(0x3c5n)), { pc: PC + 4n });
    assert.deepEqual(insteadOfStep(word, state(0x4n)), { pc: PC + 4n });
    assert.equal(insteadOfStep(word, state(0x0n)), undefined, 'EL1 may have it trapped');
    assert.equal(insteadOfStep(word, state(0x805n)), undefined, 'it may be no branch target');
    assert.equal(insteadOfStep(word, state(0x30n)), undefined, 'T32 has other words');
  }
  for (const word of [NOP, 0xd503205f, 0xd503203f]) assert.equal(insteadOfStep(word, state(0x5n)), undefined);
});
