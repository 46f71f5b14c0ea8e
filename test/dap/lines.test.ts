import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LineGatherer } from '../../src/dap/lines.ts';

test('pieces of lines come out as lines', () => {
  const out: string[] = [];
  const lines = new LineGatherer((text) => out.push(text));
  for (const piece of ['GU', 'EST-', 'TICK 1\n', 'a\nb\nc']) lines.push(piece);
  assert.deepEqual(out, ['GUEST-TICK 1\n', 'a\nb\n']);
  lines.flush();
  assert.deepEqual(out, ['GUEST-TICK 1\n', 'a\nb\n', 'c']);
});

test('a prompt comes out when nothing follows it', async () => {
  const prompt = await new Promise<string>((resolve) => new LineGatherer(resolve, 1).push('login: '));
  assert.equal(prompt, 'login: ');
});

test('output without an end of line comes out all the same, in pieces', () => {
  const pieces: string[] = [];
  const gatherer = new LineGatherer((text) => pieces.push(text), 60_000);
  for (let count = 0; count < 100; count++) gatherer.push('x'.repeat(1000));
  assert.ok(pieces.join('').length > 90_000);
  gatherer.flush();
  assert.equal(pieces.join('').length, 100_000);
});
