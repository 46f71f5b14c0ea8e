// dist/lab.js as a process, played by a script.
import assert from 'node:assert/strict';
import { getEventListeners, once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { LabError, LabProgram } from '../../src/extension/labProgram.ts';

const scratch = mkdtempSync(join(tmpdir(), 'kvm-debug-program-'));
after(() => rmSync(scratch, { recursive: true }));

/** A lab.js that does `body`; its process ends with its standard input. */
function program(body: string): LabProgram {
  const path = join(scratch, `${Math.abs(hash(body))}.cjs`);
  writeFileSync(
    path,
    `const tell = (message) => console.log(JSON.stringify(message));\nprocess.stdin.on('end', () => process.exit(1)).resume();\n${body}`,
  );
  return new LabProgram(path);
}
const hash = (text: string): number => [...text].reduce((sum, each) => (sum * 31 + each.charCodeAt(0)) | 0, 7);
const never = new AbortController().signal;

test('steps are told, and what comes in the end', async () => {
  const steps: string[] = [];
  const body = `tell({ is: 'step', text: process.argv[2] }); tell({ is: 'prepared', sources: '/s' }); process.exit(0);`;
  const prepared = await program(body).prepare((text) => steps.push(text), never);
  assert.deepEqual([steps, prepared.sources], [['prepare'], '/s']);
});

test('a lab runs until it is stopped, and nothing cancels it later', async () => {
  const controller = new AbortController();
  const lab = await program(`tell({ is: 'ready', port: 4711 });`).run(() => undefined, controller.signal);
  const listeners = getEventListeners(controller.signal, 'abort').length;
  lab.stop();
  await lab.ended;
  assert.deepEqual([lab.ready.port, listeners], [4711, 0]);
});

test('cancelled while it boots, its process ends', async () => {
  // The connection lasts as long as the process.
  const server = createServer().listen(0, '127.0.0.1');
  try {
    await once(server, 'listening');
    const connected = once(server, 'connection') as Promise<[Socket]>;
    const { port } = server.address() as AddressInfo;
    const controller = new AbortController();
    const body = `require('node:net').connect(${port}, '127.0.0.1', () => tell({ is: 'step', text: 'booting' }));`;
    const booting = program(body).run(() => controller.abort(), controller.signal);
    const [socket] = await connected;
    const gone = once(socket.resume(), 'close');
    await assert.rejects(booting, { name: 'AbortError' });
    await gone;
  } finally {
    server.close();
  }
});

test('a failure is told as the lab says it; a lab that just dies says what it complained of', async () => {
  const failing = program(`tell({ is: 'failed', message: 'no\\nmore' }); process.exit(1);`);
  await assert.rejects(failing.plan(), (error) => error instanceof LabError && error.message === 'no\nmore');
  const dying = program(`console.error('out of memory'); process.exit(3);`);
  await assert.rejects(dying.plan(), (error) => error instanceof LabError && /out of memory/.test(error.message));
});

test('a lab that ends says why it did', async () => {
  const ready = `tell({ is: 'ready', port: 1 });`;
  const step = () => undefined;
  const running = await program(`${ready} tell({ is: 'failed', message: 'QEMU has died' }); process.exit(1);`).run(
    step,
    new AbortController().signal,
  );
  assert.equal(await running.ended, 'QEMU has died');
  const silent = await program(`${ready} console.error('Killed'); process.exit(1);`).run(
    step,
    new AbortController().signal,
  );
  assert.match(await silent.ended, /Killed/);
});

test('what is no message, and a program that cannot be started, are failures of the lab', async () => {
  for (const line of ['npm notice', '7', 'null', '{}']) {
    const babbling = program(`console.log(${JSON.stringify(line)});`);
    await assert.rejects(babbling.plan(), (error) => error instanceof LabError && error.message.includes(`\n${line}`));
  }
  const path = process.execPath;
  try {
    process.execPath = join(scratch, 'gone');
    await assert.rejects(program('').plan(), (error) => error instanceof LabError && /ENOENT/.test(error.message));
  } finally {
    process.execPath = path;
  }
});
