// kvm/status: the session at a glance, and the events that keep it true.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addressOf, data, fakeGuest } from '../support/fakeKernel.ts';
import { atEntry, fakeSession, initialization, launchArguments } from '../support/fakeSession.ts';

const hex = (value: bigint): string => `0x${value.toString(16)}`;

function spinning(vcpus = 2) {
  const target = fakeGuest(vcpus, { mapped: true });
  target.set(0, 'pc', addressOf('secondary'));
  target.capabilities = {
    ...target.capabilities,
    facts: new Map([
      ['VMM', 'qemu-system-aar (pid 4711)'],
      ['exit trap', 'perf'],
    ]),
  };
  return target;
}
const atFirst = {
  vmm: 'qemu-system-aar',
  pid: 4711,
  vcpus: 2,
  exitTrap: 'perf',
  symbols: '/fake/vmlinux',
  hardwareBreakpoints: { used: 0, total: 2 },
  watchpoints: { used: 0, total: 1 },
  state: 'stopped',
};

test('what the session is', async () => {
  const { client } = await atEntry({ target: spinning() });
  assert.deepEqual(await client.request('kvm/status'), atFirst);
});

test('without symbols, and on a target that tells nothing of a VMM', async () => {
  const { client } = fakeSession();
  assert.match(await client.refused('kvm/status'), /no guest yet/);
  await client.request('initialize', initialization);
  await client.request('launch', { ...launchArguments, symbols: undefined });
  const { vmm, pid, exitTrap, symbols, vcpus, ...rest } = atFirst;
  assert.deepEqual(await client.request('kvm/status'), { vcpus: 1, ...rest });
});

test('breakpoints that are placed and released, and runs, are told to whoever has asked', async () => {
  const target = spinning();
  const { client } = await atEntry({ target });
  const place = async (...addresses: bigint[]) =>
    client.request('setInstructionBreakpoints', {
      breakpoints: addresses.map((address) => ({ instructionReference: hex(address), mode: 'hardware' })),
    });
  await place(addressOf('inner'));
  assert.deepEqual(client.events('kvm/status'), [], 'nobody has asked');
  const used = (n: number) => ({ ...atFirst, hardwareBreakpoints: { used: n, total: 2 } });
  assert.deepEqual(await client.request('kvm/status'), used(1));
  await place(addressOf('inner'), addressOf('helper'));
  assert.deepEqual((await client.waitFor('kvm/status')).body, used(2));
  await place(addressOf('inner'), addressOf('helper'));
  await place();
  assert.deepEqual((await client.waitFor('kvm/status')).body, used(0));
  await client.request('setDataBreakpoints', { breakpoints: [{ dataId: `${hex(data)}/8`, accessType: 'write' }] });
  const watched = { ...atFirst, watchpoints: { used: 1, total: 1 } };
  assert.deepEqual((await client.waitFor('kvm/status')).body, watched);
  await client.request('continue', { threadId: 1 });
  assert.deepEqual((await client.waitFor('kvm/status')).body, { ...watched, state: 'running' });
  assert.equal((await client.request('kvm/status')).state, 'running', 'also while it runs');
  await client.request('setDataBreakpoints', { breakpoints: [] });
  assert.deepEqual((await client.waitFor('kvm/status')).body, { ...atFirst, state: 'running' });
  await client.request('pause', { threadId: 1 });
  await client.waitFor('stopped');
  assert.deepEqual((await client.waitFor('kvm/status')).body, atFirst);
  assert.equal(client.events('kvm/status').length, 6, 'and none twice');
});

test('a breakpoint that becomes a software one at a stop gives its hardware back', async () => {
  const { client } = await atEntry();
  await client.request('setBreakpoints', {
    source: { path: '/home/someone/linux/init/main.c' },
    breakpoints: [{ line: 11 }],
  });
  assert.equal((await client.request('kvm/status')).hardwareBreakpoints.used, 1);
  await client.request('continue', { threadId: 1 });
  await client.waitFor('stopped');
  const { body } = client.events('kvm/status').at(-1) ?? {};
  assert.deepEqual([body.hardwareBreakpoints.used, body.state], [0, 'stopped']);
});

test('news that comes while it is asked is told behind the answer', async () => {
  const { client } = await atEntry({ target: spinning() });
  await client.request('continue', { threadId: 1 });
  const asked = client.send('kvm/status').response;
  const paused = client.send('pause', { threadId: 1 }).response;
  await client.waitFor('stopped');
  await paused;
  await client.request('threads');
  const answer = client.transcript.indexOf(await asked);
  const known = (await asked).body.state;
  const later = client.events('kvm/status');
  for (const event of later) assert.ok(client.transcript.indexOf(event) > answer);
  assert.equal(later.at(-1)?.body.state ?? known, 'stopped');
});

test('a session that is over has none', async () => {
  const { client, target } = await atEntry({ target: spinning() });
  await client.request('kvm/status');
  target.die({ code: 0, signal: undefined });
  await client.waitFor('terminated');
  assert.match(await client.refused('kvm/status'), /has ended/);
  assert.deepEqual(client.events('kvm/status'), []);
});
