// What has changed in the system registers since the last stop, and what that costs.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RegisterDescription } from '../../src/arch/architecture.ts';
import { TargetError } from '../../src/base/errors.ts';
import { addressOf, fakeGuest } from '../support/fakeKernel.ts';
import { atEntry } from '../support/fakeSession.ts';

const counter: RegisterDescription = {
  name: 'cntvct_el0',
  group: 'system',
  topic: 'timers',
  bits: 64,
  counts: true,
};

interface Shown {
  readonly name: string;
  readonly value: string;
  readonly variablesReference: number;
}

/** A session in which the registers of each vCPU that were read are noted. */
async function session(vcpus = 1) {
  const target = fakeGuest(vcpus, { mapped: true, registers: [counter] });
  const reads: string[] = [];
  const readRegisters = target.readRegisters.bind(target);
  target.readRegisters = (vcpu, names) => {
    reads.push(...(names ?? []).map((name) => `${vcpu}:${name}`));
    return readRegisters(vcpu, names);
  };
  const fake = await atEntry({ target });
  const { client } = fake;
  const step = async (): Promise<void> => {
    reads.length = 0;
    await client.request('next', { threadId: 1, granularity: 'instruction' });
    await client.waitFor('stopped');
    // Behind whatever the stop has begun to read.
    await client.request('evaluate', { expression: '$tcr_el1' });
  };
  const children = async (variablesReference: number): Promise<readonly Shown[]> =>
    (await client.request('variables', { variablesReference })).variables;
  const openSystem = async (threadId = 1): Promise<readonly Shown[]> => {
    const { stackFrames } = await client.request('stackTrace', { threadId });
    const { scopes } = await client.request('scopes', { frameId: stackFrames[0].id });
    return children(scopes.find(({ name }: Shown) => name === 'System').variablesReference);
  };
  const openGroup = async (threadId = 1): Promise<readonly Shown[]> => {
    const [group] = await openSystem(threadId);
    assert.equal(group?.name, 'Changed since the last stop');
    return children(group?.variablesReference ?? 0);
  };
  const changes = async (threadId = 1) => (await openGroup(threadId)).map(({ name, value }) => `${name} ${value}`);
  return { ...fake, reads, step, openSystem, openGroup, children, changes };
}

test('what nobody looks at is not read', async () => {
  const { step, openSystem, reads } = await session();
  await step();
  assert.ok(!reads.includes('0:esr_el1'));
  await openSystem();
  await step();
  assert.ok(reads.includes('0:esr_el1'), 'once somebody has looked');
  assert.ok(!reads.includes('0:cntvct_el0'), 'but for what counts');
});

test('the registers that the guest has changed, old and new', async () => {
  const { step, changes, openGroup, children, target } = await session();
  assert.match((await changes()).join(), /^unknown <no earlier reading: .* vCPU 0 before>$/);
  target.set(0, 'esr_el1', 0x5600_0000n);
  target.set(0, 'cntvct_el0', 77n);
  await step();
  assert.deepEqual(await changes(), ['esr_el1 0x0 -> 0x56000000']);
  assert.deepEqual(await changes(), ['esr_el1 0x0 -> 0x56000000'], 'however often it is looked at');
  const [shown] = await openGroup();
  assert.deepEqual(
    (await children(shown?.variablesReference ?? 0)).map(({ name, value }) => [name, value]),
    [['EC', '0x15']],
  );
  await step();
  assert.deepEqual(await changes(), ['none <no system register has changed>']);
  target.set(0, 'vbar_el1', 0x800n);
  await step();
  target.set(0, 'esr_el1', 0x9600_0000n);
  await step();
  assert.deepEqual(await changes(), ['esr_el1 0x56000000 -> 0x96000000'], 'since the last stop, also a closed one');
});

test('what the user writes is seen at once, and is the old value of the next stop', async () => {
  const { step, changes, client, target } = await session();
  await changes();
  await step();
  assert.deepEqual(await changes(), ['none <no system register has changed>']);
  await client.request('evaluate', { expression: '$tcr_el1 = 3', context: 'repl' });
  assert.deepEqual(await changes(), ['tcr_el1 0x0 -> 0x3']);
  target.set(0, 'tcr_el1', 4n);
  await step();
  assert.deepEqual(await changes(), ['tcr_el1 0x3 -> 0x4']);
});

test('each vCPU has its own', async () => {
  const { step, changes, reads, target } = await session(2);
  await changes(1);
  target.set(0, 'esr_el1', 1n);
  target.set(1, 'esr_el1', 2n);
  await step();
  assert.ok(!reads.includes('1:esr_el1'));
  assert.deepEqual(await changes(1), ['esr_el1 0x0 -> 0x1']);
  assert.match((await changes(2)).join(), /no earlier reading: .* vCPU 1/);
  target.set(1, 'esr_el1', 3n);
  await step();
  assert.deepEqual(await changes(2), ['esr_el1 0x2 -> 0x3']);
});

test('a user who goes on at once loses no reading', async () => {
  const { client, changes, target } = await session();
  target.set(0, 'pc', addressOf('secondary'));
  await client.request('setInstructionBreakpoints', {
    breakpoints: [{ instructionReference: `0x${addressOf('secondary', 1).toString(16)}` }],
  });
  await changes();
  const { readRegisters } = target;
  target.readRegisters = async (vcpu, names) => {
    const values = await readRegisters(vcpu, names);
    if (names?.includes('esr_el1')) await new Promise((resolve) => setTimeout(resolve, 20));
    return values;
  };
  const resume = target.resume.bind(target);
  target.resume = () => {
    target.set(0, 'esr_el1', target.get(0, 'esr_el1') + 1n);
    return resume();
  };
  for (let round = 0; round < 2; round++) {
    await client.request('continue', { threadId: 1 });
    await client.waitFor('stopped');
  }
  assert.deepEqual(await changes(), ['esr_el1 0x1 -> 0x2']);
});

test('a register that the vCPU refuses does not take the others away', async () => {
  const { step, changes, target } = await session();
  const readRegisters = target.readRegisters;
  target.readRegisters = (vcpu, names) =>
    names?.includes('vbar_el1') ? Promise.reject(new TargetError('refused')) : readRegisters(vcpu, names);
  await changes();
  target.set(0, 'esr_el1', 5n);
  target.set(0, 'vbar_el1', 5n);
  await step();
  assert.deepEqual(await changes(), ['esr_el1 0x0 -> 0x5']);
});
