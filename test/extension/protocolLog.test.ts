import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ProtocolLog } from '../../src/extension/protocolLog.ts';

const lines = (log: ProtocolLog): Record<string, unknown>[] =>
  log
    .text()
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));

test('messages are kept in their order, with time and direction', () => {
  const log = new ProtocolLog('Guest kernel');
  log.add('to adapter', { seq: 1, type: 'request' }, new Date(0));
  log.add('from adapter', { seq: 1, type: 'response' }, new Date(1));
  assert.deepEqual(lines(log), [
    { title: 'Guest kernel' },
    { time: '1970-01-01T00:00:00.000Z', direction: 'to adapter', message: { seq: 1, type: 'request' } },
    { time: '1970-01-01T00:00:00.001Z', direction: 'from adapter', message: { seq: 1, type: 'response' } },
  ]);
});

test('the oldest messages go when there are too many, and how many is told', () => {
  const log = new ProtocolLog('long', 1000);
  for (let seq = 1; seq <= 500; seq++) log.add('from adapter', { seq }, new Date(seq));
  const [header, ...kept] = lines(log);
  assert.equal(header?.droppedMessages, 500 - kept.length);
  assert.ok(kept.length >= 5 && log.text().length < 1200);
  assert.deepEqual(
    kept.map(({ message }) => (message as { seq: number }).seq),
    Array.from({ length: kept.length }, (_, index) => 500 - kept.length + 1 + index),
  );
  // One that is larger than all is still the last.
  log.add('from adapter', { text: 'x'.repeat(5000) }, new Date(501));
  assert.equal(lines(log).length, 2);
});
