// Whole conversations, compared message by message with test/dap/golden/. UPDATE_GOLDEN=1 writes them anew: read the
// difference before it is committed.
import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import type { DapClient } from '../support/dapClient.ts';
import { addressOf, data, fakeGuest } from '../support/fakeKernel.ts';
import { fakeSession, initialization, launchArguments } from '../support/fakeSession.ts';

const hex = (value: bigint): string => `0x${value.toString(16)}`;
const path = '/home/someone/linux/init/main.c';

async function configured(client: DapClient, request: string, args: object, breakpoints: () => Promise<unknown>) {
  await client.request('initialize', initialization);
  await client.request(request, args);
  await client.waitFor('initialized');
  await breakpoints();
  await client.request('configurationDone');
}

const conversations: Record<string, (client: DapClient) => Promise<void>> = {
  'launch-break-step': async (client) => {
    const set = () =>
      client.request('setBreakpoints', { source: { path }, breakpoints: [{ line: 11 }, { line: 900 }] });
    await configured(client, 'launch', launchArguments, set);
    await client.waitFor('stopped');
    await client.request('threads');
    await client.request('continue', { threadId: 1 });
    await client.waitFor('stopped');
    const { stackFrames } = await client.request('stackTrace', { threadId: 1, startFrame: 0, levels: 20 });
    const { scopes } = await client.request('scopes', { frameId: stackFrames[0].id });
    await client.request('variables', { variablesReference: scopes[0].variablesReference });
    await client.request('evaluate', { expression: '$pc', frameId: stackFrames[0].id, context: 'watch' });
    for (const command of ['next', 'stepIn', 'stepOut']) {
      await client.request(command, { threadId: 1 });
      await client.waitFor('stopped');
      await client.request('stackTrace', { threadId: 1 });
    }
    await client.request('continue', { threadId: 1 });
    await client.waitFor('terminated');
    await client.request('disconnect', {});
  },
  'attach-inspect-detach': async (client) => {
    await configured(client, 'attach', { pid: 4711, symbols: '/fake/vmlinux', stopOnEntry: true }, async () => {
      await client.request('setFunctionBreakpoints', { breakpoints: [{ name: 'helper' }, { name: 'nowhere' }] });
      await client.request('setExceptionBreakpoints', { filters: [] });
    });
    await client.waitFor('stopped');
    await client.request('dataBreakpointInfo', { name: 'jiffies' });
    await client.request('setDataBreakpoints', {
      breakpoints: [{ dataId: `${hex(data)}/8`, accessType: 'readWrite' }],
    });
    const instructionReference = hex(addressOf('helper'));
    await client.request('setInstructionBreakpoints', { breakpoints: [{ instructionReference, offset: 8 }] });
    await client.request('disassemble', {
      memoryReference: instructionReference,
      instructionOffset: -1,
      instructionCount: 4,
    });
    await client.request('readMemory', { memoryReference: hex(data), count: 16 });
    await client.refused('readMemory', { memoryReference: 'jiffies', count: 16 });
    await client.refused('restart');
    await client.request('disconnect', { terminateDebuggee: false });
  },
};

for (const [name, talk] of Object.entries(conversations)) {
  test(`golden: ${name}`, async () => {
    const { client } = fakeSession({ target: fakeGuest(1, { mapped: name.startsWith('attach') }) });
    await talk(client);
    await client.closed;
    const text = `${client.transcript.map((message) => JSON.stringify(message)).join('\n')}\n`;
    const file = new URL(`golden/${name}.jsonl`, import.meta.url);
    if (process.env.UPDATE_GOLDEN === '1') writeFileSync(file, text);
    assert.ok(existsSync(file), `${file.pathname} is missing; UPDATE_GOLDEN=1 writes it`);
    assert.deepEqual(parse(text), parse(readFileSync(file, 'utf8')));
  });
}

function parse(text: string): unknown[] {
  return text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown);
}
