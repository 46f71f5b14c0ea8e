// Places chosen by the user: to go on at, and to step into.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addressOf, fakeGuest } from '../support/fakeKernel.ts';
import { atEntry, type FakeSession } from '../support/fakeSession.ts';

const path = '/home/someone/linux/init/main.c';
const hex = (value: bigint): string => `0x${value.toString(16)}`;

async function at(address: bigint): Promise<FakeSession> {
  const fake = await atEntry({ target: fakeGuest(1, { mapped: true }) });
  fake.target.set(0, 'x30', addressOf('_start'));
  await fake.client.request('evaluate', { expression: `$pc = ${hex(address)}`, context: 'repl' });
  return fake;
}

async function go(fake: FakeSession, command: string, args: object = {}): Promise<{ reason: string; pc: bigint }> {
  await fake.client.request(command, { threadId: 1, ...args });
  const { body } = await fake.client.waitFor('stopped');
  return { reason: body.reason, pc: fake.target.get(0, 'pc') };
}

async function targets(fake: FakeSession): Promise<{ id: number; label: string }[]> {
  const { stackFrames } = await fake.client.request('stackTrace', { threadId: 1 });
  return (await fake.client.request('stepInTargets', { frameId: stackFrames[0].id })).targets;
}

test('a line that calls two functions: either can be stepped into, the other is run through', async () => {
  for (const [label, index] of [
    ['helper', 0],
    ['inner', 1],
  ] as const) {
    const fake = await at(addressOf('twice', 2));
    const list = await targets(fake);
    assert.deepEqual(
      list.map((target) => target.label),
      ['helper', 'inner'],
    );
    const { reason, pc } = await go(fake, 'stepIn', { targetId: list[index]?.id });
    assert.equal(reason, 'step');
    assert.ok(pc >= addressOf(label) && pc <= addressOf(label, 2), `${label}: ${hex(pc)}`);
    assert.equal(fake.target.get(0, 'x30'), addressOf('twice', 3 + index), 'called from there');
  }
});

test('a target of an earlier stop, and one that never was', async () => {
  const fake = await at(addressOf('twice', 2));
  const [first] = await targets(fake);
  await go(fake, 'stepIn');
  assert.match(await fake.client.refused('stepIn', { threadId: 1, targetId: first?.id }), /an earlier stop/);
  assert.match(await fake.client.refused('stepIn', { threadId: 1, targetId: 999 }), /no target 999/);
  assert.match(await fake.client.refused('goto', { threadId: 1, targetId: 999 }), /no target 999/);
});

test('goto: places of the function the vCPU is in, and nothing is executed on the way', async () => {
  const fake = await at(addressOf('start_kernel'));
  const places = async (line: number): Promise<{ id: number; line: number; instructionPointerReference: string }[]> =>
    (await fake.client.request('gotoTargets', { source: { path }, line })).targets;
  assert.deepEqual(await places(51), [], 'another function');
  const [target] = await places(14);
  assert.equal(target?.instructionPointerReference, hex(addressOf('start_kernel', 7)));
  const { reason, pc } = await go(fake, 'goto', { targetId: target?.id });
  assert.deepEqual([reason, pc], ['goto', addressOf('start_kernel', 7)]);
  assert.equal(fake.target.get(0, 'x0'), 0n, 'line 11 was not executed');
  const { stackFrames } = await fake.client.request('stackTrace', { threadId: 1 });
  assert.equal(stackFrames[0].line, 14);
  assert.equal((await go(fake, 'next')).reason, 'step');
});
