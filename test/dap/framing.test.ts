import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encodeMessage, FramingError, MessageReader } from '../../src/dap/framing.ts';
import { fakeSession, initialization } from '../support/fakeSession.ts';

const frame = (body: string): Buffer => Buffer.from(`Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);

test('messages cut anywhere come out whole', () => {
  const bytes = Buffer.concat([encodeMessage({ a: 'é' }), encodeMessage({ b: 2 })]);
  for (let cut = 0; cut <= bytes.length; cut++) {
    const reader = new MessageReader();
    const messages = [...reader.push(bytes.subarray(0, cut)), ...reader.push(bytes.subarray(cut))];
    assert.deepEqual(messages, [{ message: { a: 'é' } }, { message: { b: 2 } }]);
    assert.equal(reader.incomplete, false);
  }
});

test('what is no DAP is a framing error, with bounded memory', () => {
  const bad = [
    'GET / HTTP/1.1\r\n\r\n',
    'Content-Length: 99999999999\r\n\r\n',
    'Content-Length: -1\r\n\r\n',
    'Content-Length: ten\r\n\r\n',
    'Content-Type: x\r\n\r\n',
    'x'.repeat(9000),
  ];
  for (const text of bad)
    assert.throws(() => [...new MessageReader().push(Buffer.from(text))], FramingError, text.slice(0, 40));
});

test('a body that is no JSON object is skipped, and the session goes on', async () => {
  const { client } = fakeSession();
  for (const body of ['{"seq":1,', '[]', '5', 'null', '{}', '{"seq":"x","command":1}'])
    client.output.write(frame(body));
  await client.request('initialize', initialization);
  assert.equal(client.events('output').length, 6);
  client.output.write(frame('{"seq":70,"type":"request","command":"threads","arguments":[1]}'));
  await client.request('cancel');
  const refused = client.transcript.find(({ request_seq }) => request_seq === 70);
  assert.match(refused?.message ?? '', /threads: an object is expected/);
});

test('garbage ends the connection cleanly and lets go of the guest', async () => {
  const { client, session, target } = fakeSession();
  await client.request('initialize', initialization);
  await client.request('attach', { pid: 1 });
  client.output.write('complete garbage\r\n\r\n');
  await session.finished;
  assert.equal(target.ended, 'detached');
  assert.match(client.outputText('important'), /not the Debug Adapter Protocol/);
});
