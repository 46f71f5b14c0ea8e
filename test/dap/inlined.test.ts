import assert from 'node:assert/strict';
import { test } from 'node:test';
import { atEntry } from '../support/fakeSession.ts';
import { inlinedCall } from '../support/inlinedKernel.ts';

test('frames at the call of an inlined function, and in it, page by page', async () => {
  const { client } = await atEntry({ symbolFile: inlinedCall });
  const source = { path: '/x/init/main.c' };
  await client.request('setBreakpoints', { source, breakpoints: [{ line: 15 }] });
  await client.request('continue', { threadId: 1 });
  await client.waitFor('stopped');
  const frames = async (startFrame: number, levels: number) => {
    const { stackFrames, totalFrames } = await client.request('stackTrace', { threadId: 1, startFrame, levels });
    return [totalFrames, ...stackFrames.map(({ name, line }: { name: string; line: number }) => `${name}:${line}`)];
  };
  assert.deepEqual(await frames(0, 20), [1, 'start_kernel:15'], 'before the call');
  assert.deepEqual(await frames(1, 20), [1]);
  await client.request('stepIn', { threadId: 1 });
  await client.waitFor('stopped');
  assert.deepEqual(await frames(0, 1), [2, 'body:80']);
  assert.deepEqual(await frames(1, 1), [2, 'start_kernel:15']);
});
