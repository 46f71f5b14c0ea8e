import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Gva } from '../../src/base/address.ts';
import { addressOf, data, fakeGuest, fakeSymbols, stackTop } from '../support/fakeKernel.ts';
import { atEntry, type FakeSession } from '../support/fakeSession.ts';

const hex = (value: bigint): string => `0x${value.toString(16)}`;
const main = '/home/someone/linux/init/main.c';
const loop = 15;

async function setLine(
  fake: FakeSession,
  breakpoint: object,
): Promise<{ id: number; verified: boolean; message?: string }> {
  const args = { source: { path: main }, breakpoints: [breakpoint] };
  return (await fake.client.request('setBreakpoints', args)).breakpoints[0];
}

async function next(fake: FakeSession): Promise<string> {
  await fake.client.request('continue', { threadId: 1 });
  const event = await Promise.race([fake.client.waitFor('stopped'), fake.client.waitFor('terminated')]);
  return event.event === 'terminated' ? 'ended' : event.body.reason;
}

test('a condition, a hit condition, and both: the third time the condition holds', async () => {
  const cases: [object, bigint[]][] = [
    [{ line: loop }, [3n, 2n, 1n]],
    [{ line: loop, condition: '$x1 == 2' }, [2n]],
    [{ line: loop, hitCondition: '3' }, [1n]],
    [{ line: loop, hitCondition: '>= 2' }, [2n, 1n]],
    [{ line: loop, condition: '$x1 < 3', hitCondition: '2' }, [1n]],
  ];
  for (const [breakpoint, expected] of cases) {
    const fake = await atEntry();
    assert.equal((await setLine(fake, breakpoint)).verified, true);
    const seen: bigint[] = [];
    while ((await next(fake)) !== 'ended') seen.push(fake.target.get(0, 'x1'));
    assert.deepEqual(seen, expected, JSON.stringify(breakpoint));
  }
});

test('a logpoint prints without a stop', async () => {
  const fake = await atEntry();
  await setLine(fake, { line: loop, logMessage: 'x1 is {$x1}, \\{x\\} {*(u8*)0}', condition: '$x1 != 2' });
  assert.equal(await next(fake), 'ended');
  const lines = fake.client
    .outputText('console')
    .split('\n')
    .filter((line) => line.startsWith('x1 is'));
  assert.equal(lines.length, 2);
  assert.match(lines[0] ?? '', /^x1 is 0x3, \{x\} <Cannot access virtual memory at 0x0/);
});

test('a condition that does not parse is not verified and says why; one that faults stops', async () => {
  const fake = await atEntry();
  const bad = await setLine(fake, { line: loop, condition: '$x1 ==' });
  assert.equal(bad.verified, false);
  assert.match(bad.message ?? '', /condition is not valid/);
  const hits = await setLine(fake, { line: loop, hitCondition: 'often' });
  assert.equal(hits.verified, false);
  assert.match(hits.message ?? '', /hit condition `often`/);
  await setLine(fake, { line: loop, condition: '*(u64 *)0 == 1' });
  await fake.client.request('continue', { threadId: 1 });
  const stop = await fake.client.waitFor('stopped');
  assert.match(stop.body.description, /cannot be evaluated: Cannot access virtual memory at 0x0/);
  assert.equal(await next(fake), 'ended', 'told once');
});

test('hardware breakpoints say how many are in use, also those that were there before', async () => {
  const fake = await atEntry({ target: fakeGuest(1, { mapped: true }) });
  const first = await setLine(fake, { line: 11, mode: 'hardware' });
  assert.equal(first.message, "A hardware breakpoint; 1 of the vCPU's 2 are in use.");
  const setSecond = async (...breakpoints: object[]) =>
    (await fake.client.request('setInstructionBreakpoints', { breakpoints })).breakpoints[0];
  const second = await setSecond({ instructionReference: hex(addressOf('inner')), mode: 'hardware' });
  assert.match(second.message, /2 of the vCPU's 2/);
  const told = () => fake.client.events('breakpoint').at(-1)?.body.breakpoint;
  assert.deepEqual([told().id, told().message], [first.id, "A hardware breakpoint; 2 of the vCPU's 2 are in use."]);
  await setSecond();
  assert.match(told().message, /1 of the vCPU's 2/);
});

test('a place that waits for a hardware breakpoint gets the one that is given up', async () => {
  const fake = await atEntry({ target: fakeGuest(1, { mapped: true }) });
  const set = async (...lines: number[]) => {
    const breakpoints = lines.map((line) => ({ line, mode: 'hardware' }));
    return (await fake.client.request('setBreakpoints', { source: { path: main }, breakpoints })).breakpoints;
  };
  await set(11, 12);
  const { breakpoints } = await fake.client.request('setInstructionBreakpoints', {
    breakpoints: [{ instructionReference: hex(addressOf('inner')), mode: 'hardware' }],
  });
  assert.equal(breakpoints[0].verified, false);
  await set(11);
  const told = fake.client.events('breakpoint').map(({ body }) => body.breakpoint);
  assert.ok(told.some(({ id, verified }) => id === breakpoints[0].id && verified));
});

test('data is no place for a breakpoint on code', async () => {
  const sections = [{ name: '.data', address: data, size: 64n, isCode: false }];
  const target = fakeGuest(1, { mapped: true });
  target.unexecutable.add(stackTop - 0xff0n);
  const fake = await atEntry({ target, symbolFile: { ...fakeSymbols, sections } });
  const { breakpoints } = await fake.client.request('setInstructionBreakpoints', {
    breakpoints: [data, addressOf('inner') + 2n, stackTop - 0x100n, addressOf('inner')].map((place) => ({
      instructionReference: hex(place),
    })),
  });
  assert.match(breakpoints[0].message, /no code at 0x\w+: it is in \.data/);
  assert.match(breakpoints[1].message, /aligned to 4 bytes/);
  assert.match(breakpoints[2].message, /no code at 0x\w+: its page is not executable/);
  assert.deepEqual(
    breakpoints.map(({ verified }: { verified: boolean }) => verified),
    [false, false, false, true],
  );
});

test('unknown places say so', async () => {
  const fake = await atEntry();
  assert.match((await setLine(fake, { line: 999 })).message ?? '', /no code at .*main\.c:999/);
  const { breakpoints } = await fake.client.request('setFunctionBreakpoints', { breakpoints: [{ name: 'nowhere' }] });
  assert.equal(breakpoints[0].verified, false);
  assert.match(breakpoints[0].message, /no function `nowhere`/);
  const unnamed = await fake.client.request('setFunctionBreakpoints', { breakpoints: [{ name: ' ' }] });
  assert.equal(unnamed.breakpoints[0].verified, false);
  assert.match(unnamed.breakpoints[0].message, /name is empty/);
});

test('without debug information the breakpoint says where it was looked for', async () => {
  const notice = '/fake/vmlinux has no debug information, and none was found at /usr/lib/debug/fake.debug.';
  const fake = await atEntry({ symbolFile: { ...fakeSymbols, debugInformationNotice: notice, locationsOf: () => [] } });
  const { verified, message } = await setLine(fake, { line: loop });
  assert.deepEqual({ verified, message }, { verified: false, message: notice });
});

test('beyond the budget the message gives the numbers, and the place is taken when one is free', async () => {
  const fake = await atEntry();
  const lines = [11, 12, 14].map((line) => ({ line }));
  const { breakpoints } = await fake.client.request('setBreakpoints', { source: { path: main }, breakpoints: lines });
  assert.deepEqual(
    breakpoints.map(({ verified }: { verified: boolean }) => verified),
    [true, true, false],
  );
  assert.match(breakpoints[2].message, /2 of the vCPU's 2 hardware breakpoints are in use/);
  await fake.client.request('continue', { threadId: 1 });
  await fake.client.waitFor('stopped');
  // The kernel is mapped at this stop: all can be software breakpoints.
  const event = fake.client.events('breakpoint').at(-1);
  assert.equal(event?.body.breakpoint.id, breakpoints[2].id);
  assert.equal(event?.body.breakpoint.verified, true);
  assert.deepEqual(new Set([...fake.target.points.values()].map(({ kind }) => kind)), new Set(['software']));
});

test('breakpoint modes are obeyed', async () => {
  const fake = await atEntry({ target: fakeGuest(1, { mapped: true }) });
  const kinds = () => [...fake.target.points.values()].map(({ kind }) => kind);
  await setLine(fake, { line: 11, mode: 'hardware' });
  assert.deepEqual(kinds(), ['hardware']);
  await setLine(fake, { line: 11, mode: 'software' });
  assert.deepEqual(kinds(), ['software']);
  fake.target.hidden.add(addressOf('_start'));
  const refused = await setLine(fake, { line: 12, mode: 'software' });
  assert.equal(refused.verified, false);
  assert.match(refused.message ?? '', /not mapped/);
});

test('memory that differs from the image keeps its hardware breakpoint', async () => {
  const target = fakeGuest(1, { mapped: true });
  const fake = await atEntry({ target });
  target.load(addressOf('start_kernel', 2), Uint8Array.of(0x1f, 0x20, 0x03, 0xd5));
  await setLine(fake, { line: 11 });
  assert.deepEqual(
    [...target.points.values()].map(({ kind }) => kind),
    ['hardware'],
  );
});

test('breakpoints set while running are in place without a visible stop', async () => {
  const target = fakeGuest(1, { mapped: true });
  target.set(0, 'pc', addressOf('secondary'));
  const fake = await atEntry({ target });
  await fake.client.request('continue', { threadId: 1 });
  const stops = fake.client.events('stopped').length;
  const far = await setLine(fake, { line: 11 });
  assert.equal(far.verified, true);
  assert.equal(fake.client.events('stopped').length, stops);
  assert.match(await fake.client.refused('evaluate', { expression: '$pc' }), /running; pause it/);
  assert.match(await fake.client.refused('stackTrace', { threadId: 1 }), /running/);
  assert.deepEqual((await fake.client.request('threads')).threads, [{ id: 1, name: 'vCPU 0' }]);
  await setLine(fake, { line: 41 });
  const stop = await fake.client.waitFor('stopped');
  assert.equal(stop.body.reason, 'breakpoint');
});

test('pause, twice over, and continuing while running is refused', async () => {
  const target = fakeGuest(1, { mapped: true });
  target.set(0, 'pc', addressOf('secondary'));
  const fake = await atEntry({ target });
  for (let round = 0; round < 3; round++) {
    await fake.client.request('continue', { threadId: 1 });
    assert.match(await fake.client.refused('continue', { threadId: 1 }), /running/);
    await fake.client.request('pause', { threadId: 1 });
    assert.equal((await fake.client.waitFor('stopped')).body.reason, 'pause');
  }
  await fake.client.request('pause', { threadId: 1 });
});

test('a step that runs long can be paused', async () => {
  const target = fakeGuest(1, { mapped: true });
  const fake = await atEntry({ target });
  await setLine(fake, { line: 12 });
  await next(fake);
  // The callee never returns.
  target.load(addressOf('helper', 2), Uint8Array.of(0, 0, 0, 0x14));
  await fake.client.request('next', { threadId: 1 });
  await new Promise((resolve) => setTimeout(resolve, 20));
  await fake.client.request('pause', { threadId: 1 });
  assert.equal((await fake.client.waitFor('stopped')).body.reason, 'pause');
  // Nothing of the step is left behind.
  assert.equal(target.points.size, 1);
});

test('simultaneous stops are all reported', async () => {
  const fake = await atEntry({ target: fakeGuest(2, { mapped: true }) });
  const first = await setLine(fake, { line: 11 });
  const { breakpoints } = await fake.client.request('setInstructionBreakpoints', {
    breakpoints: [{ instructionReference: hex(addressOf('secondary')) }],
  });
  fake.target.scripted.push(
    [...fake.target.points].map(([id, point], vcpu) => ({
      kind: 'breakpoint',
      vcpu,
      pc: point.address as Gva,
      ids: [id],
    })),
  );
  await fake.client.request('continue', { threadId: 1 });
  const { body } = await fake.client.waitFor('stopped');
  assert.equal(body.reason, 'breakpoint');
  assert.deepEqual(body.hitBreakpointIds, [first.id, breakpoints[0].id]);
  assert.match(body.description, /Paused on breakpoint; vCPU 1: Paused on instruction breakpoint/);
  const { threads } = await fake.client.request('threads');
  assert.deepEqual(
    threads.map(({ name }: { name: string }) => name),
    ['vCPU 0 (EL1, breakpoint)', 'vCPU 1 (EL1, instruction breakpoint)'],
  );
});

test('data breakpoints: info, set, hit', async () => {
  const fake = await atEntry({ target: fakeGuest(1, { mapped: true }) });
  const info = await fake.client.request('dataBreakpointInfo', { name: 'jiffies' });
  assert.equal(info.dataId, `${hex(data)}/8`);
  assert.equal((await fake.client.request('dataBreakpointInfo', { name: '$x1' })).dataId, null);
  const bytes = await fake.client.request('dataBreakpointInfo', { name: hex(data + 8n), asAddress: true, bytes: 8 });
  const meant = { name: '&jiffies + 4', asAddress: true, bytes: 2 };
  assert.equal((await fake.client.request('dataBreakpointInfo', meant)).dataId, `${hex(data + 4n)}/2`);
  const set = await fake.client.request('setDataBreakpoints', {
    breakpoints: [{ dataId: bytes.dataId, accessType: 'write' }],
  });
  assert.equal(set.breakpoints[0].verified, true);
  const over = await fake.client.request('setDataBreakpoints', {
    breakpoints: [{ dataId: bytes.dataId, accessType: 'write' }, { dataId: info.dataId }],
  });
  assert.equal(over.breakpoints[1].verified, false);
  assert.match(over.breakpoints[1].message, /1 of the vCPU's 1 watchpoints/);
  await fake.client.request('continue', { threadId: 1 });
  const { body } = await fake.client.waitFor('stopped');
  assert.equal(body.reason, 'data breakpoint');
  assert.match(body.description, /`str x1, \[x2\]` at 0x\w+ accessed 8 bytes at 0x\w+, which were 0x0 and are 0x2/);
  assert.equal(fake.target.get(0, 'pc'), addressOf('start_kernel', 10), 'behind the access');
  assert.match(await fake.client.refused('setDataBreakpoints', { breakpoints: [{ dataId: 'x' }] }), /no data `x`/);
});

test('a function of a file', async () => {
  const { client } = await atEntry();
  const set = async (name: string) =>
    (await client.request('setFunctionBreakpoints', { breakpoints: [{ name }] })).breakpoints[0];
  assert.equal((await set('helper.c:helper')).instructionReference, hex(addressOf('helper', 2)), 'behind the prologue');
  assert.equal((await set('lib/helper.c:helper')).verified, true);
  assert.match((await set('core::fmt::helper')).message, /no function `core::fmt::helper`/, 'a path of Rust');
  assert.match((await set('main.c:helper')).message, /no function `helper` in main.c; there is in lib\/helper.c/);
  assert.match((await set('main.c:nothing')).message, /no function `nothing`/);
});

test('code that the guest rewrites: the user is told, and the breakpoint becomes a hardware one', async () => {
  const fake = await atEntry({ target: fakeGuest(1, { mapped: true }) });
  await setLine(fake, { line: 13 });
  const software = [...fake.target.points].find(([, { kind }]) => kind === 'software');
  assert.ok(software !== undefined);
  fake.target.rewritten.push(software[0]);
  fake.target.load(software[1].address, new Uint8Array([0x1f, 0x20, 0x03, 0xd5])); // nop
  assert.equal(await next(fake), 'breakpoint');
  assert.match(fake.client.outputText('console'), /Breakpoint \d+: the guest has rewritten the code of .*main.c:13/);
  const kinds = [...fake.target.points.values()].map(({ kind }) => kind);
  assert.deepEqual(kinds, ['hardware'], 'one stop point, which leaves the code alone');
});

test('breakpoint locations', async () => {
  const { client } = await atEntry();
  const locations = await client.request('breakpointLocations', { source: { path: main }, line: 10, endLine: 13 });
  assert.deepEqual(locations.breakpoints, [{ line: 10 }, { line: 11 }, { line: 12 }, { line: 13 }]);
  assert.deepEqual(await client.request('setExceptionBreakpoints', { filters: [] }), { breakpoints: [] });
});

test('a line of a listing takes a breakpoint, beside those of the disassembly view', async () => {
  const { client, target } = await atEntry({ target: fakeGuest(1, { mapped: true }) });
  const { stackFrames } = await client.request('stackTrace', { threadId: 1 });
  const { source, line } = stackFrames[0];
  const set = (lines: readonly number[]) =>
    client.request('setBreakpoints', { source, breakpoints: lines.map((each) => ({ line: each })) });
  await assert.rejects(set([line + 1]), /no source 1/, 'nobody has read it');
  await client.request('source', { source, sourceReference: source.sourceReference });
  const next = BigInt(stackFrames[0].instructionPointerReference) + 4n;
  const { breakpoints } = await set([line + 1]);
  assert.deepEqual(breakpoints, [
    { id: 1, verified: true, instructionReference: `0x${next.toString(16)}`, message: breakpoints[0].message },
  ]);
  await client.request('setInstructionBreakpoints', { breakpoints: [] });
  assert.equal(target.points.size, 1);
  await assert.rejects(set([100_000]), /there is no line 100000/);
  await set([]);
  assert.equal(target.points.size, 0);
});
