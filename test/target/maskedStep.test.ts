/** What a step with interrupts masked in PSTATE leaves of a vCPU whose system registers cannot be written. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Gva } from '../../src/base/address.ts';
import { SessionError, TargetError } from '../../src/base/errors.ts';
import { maskedStep } from '../../src/target/rsp/maskedStep.ts';
import type { StopEvent } from '../../src/target/target.ts';

const HELD = 0x1c0n; // A, I, F
const EL1H = 5n;
const FLAGS = 0xa000_0000n; // N and C
const [NOP, MRS_X3_DAIF, MSR_DAIFCLR_2] = [0xd503201f, 0xd53b4223, 0xd50342ff];
const vbar = 0xffff_8000_0001_0000n;
const start = { pc: 0x1000n, pstate: EL1H, spsr_el1: 0n, elr_el1: 0n, vbar_el1: vbar, x3: 7n };

/** The vCPU's registers after a step that `run` makes of them; each of its calls is one run of the vCPU. */
async function stepped(
  instruction: number,
  before: Partial<typeof start>,
  ...runs: readonly ((values: Map<string, bigint>) => void)[]
): Promise<{ values: Map<string, bigint>; event: StopEvent | undefined; masks: readonly bigint[] }> {
  const values = new Map<string, bigint>(Object.entries({ ...start, ...before }));
  const masks: bigint[] = [];
  const left = [...runs];
  const registers = {
    read: async (_vcpu: number, names: readonly string[]) =>
      new Map(names.map((name) => [name, values.get(name) ?? 0n])),
    one: async (_vcpu: number, name: string) => values.get(name) ?? 0n,
    write: async (_vcpu: number, name: string, value: bigint) => {
      if (name.endsWith('_el1')) throw new TargetError(`${name} is not written by this stub`);
      values.set(name, value);
    },
  };
  const event = await maskedStep(registers, 0, instruction, undefined, async () => {
    masks.push((values.get('pstate') ?? 0n) & HELD);
    left.shift()?.(values);
    return { kind: 'step', vcpu: 0, pc: Gva(values.get('pc') ?? 0n) };
  });
  assert.equal(left.length, 0, 'as many runs as were meant');
  return { values, event, masks };
}

const goesOn = (values: Map<string, bigint>): void => {
  values.set('pc', (values.get('pc') ?? 0n) + 4n);
};
const takesAbort = (values: Map<string, bigint>): void => {
  values.set('elr_el1', values.get('pc') ?? 0n);
  values.set('spsr_el1', values.get('pstate') ?? 0n);
  values.set('pc', vbar + 0x200n);
  values.set('pstate', EL1H | 0x3c0n);
};

test('the masks are the guest’s own afterwards', async () => {
  const { values, event, masks } = await stepped(NOP, {}, goesOn);
  assert.deepEqual([values.get('pc'), values.get('pstate'), masks], [0x1004n, EL1H, [HELD]]);
  assert.deepEqual(event, { kind: 'step', vcpu: 0, pc: 0x1004n });
  const masked = await stepped(NOP, { pstate: EL1H | HELD }, goesOn);
  assert.equal(masked.values.get('pstate'), EL1H | HELD);
});

test('an instruction that reads the masks sees the guest’s own', async () => {
  const { values } = await stepped(MRS_X3_DAIF, { pstate: EL1H | 0x80n }, (state) => {
    state.set('x3', (state.get('pstate') ?? 0n) & 0x3c0n);
    goesOn(state);
  });
  assert.equal(values.get('x3'), 0x80n);
});

test('an exception saves the guest’s own masks: it is taken again without ours', async () => {
  const { values, event, masks } = await stepped(NOP, {}, takesAbort, takesAbort);
  assert.deepEqual(masks, [HELD, 0n]);
  assert.deepEqual([values.get('elr_el1'), values.get('spsr_el1')], [0x1000n, EL1H]);
  assert.deepEqual(event, { kind: 'step', vcpu: 0, pc: vbar + 0x200n });
});

test('an interrupt that the instruction lets in is withdrawn', async () => {
  const { values, event } = await stepped(MSR_DAIFCLR_2, { pstate: EL1H | 0x80n }, (state) => {
    state.set('elr_el1', 0x1004n);
    state.set('spsr_el1', EL1H | 0x140n); // A and F are still ours
    state.set('pc', vbar + 0x280n);
    state.set('pstate', EL1H | 0x3c0n);
  });
  assert.deepEqual([values.get('pc'), values.get('pstate')], [0x1004n, EL1H]);
  assert.deepEqual(event, { kind: 'step', vcpu: 0, pc: 0x1004n });
});

test('a run that cannot begin leaves the masks as they were', async () => {
  let left = new Map<string, bigint>();
  const failing = stepped(NOP, {}, (values) => {
    left = values;
    throw new TargetError('no');
  });
  await assert.rejects(failing, /no/);
  assert.equal(left.get('pstate'), EL1H);
});

test('a run that fails after the vCPU has run leaves it where it is, with its own masks', async () => {
  let left = new Map<string, bigint>();
  const failing = stepped(MSR_DAIFCLR_2, { pstate: EL1H | 0x80n }, (values) => {
    left = values;
    goesOn(values);
    values.set('pstate', EL1H | 0x140n | FLAGS);
    throw new SessionError('a breakpoint stays');
  });
  await assert.rejects(failing, /a breakpoint stays/);
  assert.deepEqual([left.get('pc'), left.get('pstate')], [0x1004n, EL1H | FLAGS]);
});

test('masks that cannot be restored end the session', async () => {
  const values = new Map<string, bigint>(Object.entries(start));
  const registers = {
    read: async (_vcpu: number, names: readonly string[]) =>
      new Map(names.map((name) => [name, values.get(name) ?? 0n])),
    one: async (_vcpu: number, name: string) => values.get(name) ?? 0n,
    write: async (_vcpu: number, name: string, value: bigint) => {
      if ((value & HELD) === 0n) throw new TargetError('refused');
      values.set(name, value);
    },
  };
  const failing = maskedStep(registers, 0, NOP, undefined, () => Promise.reject(new TargetError('no')));
  await assert.rejects(
    failing,
    (error) => error instanceof SessionError && /masks of vCPU 0 .*refused/.test(error.message),
  );
});
