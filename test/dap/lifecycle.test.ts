import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SessionError, UserError } from '../../src/base/errors.ts';
import { addressOf, fakeGuest } from '../support/fakeKernel.ts';
import { atEntry, type FakeOptions, fakeSession, initialization, launchArguments } from '../support/fakeSession.ts';
import type { FakeTarget } from '../support/fakeTarget.ts';

const spinning = (): FakeTarget => {
  const target = fakeGuest(1, { mapped: true });
  target.set(0, 'pc', addressOf('secondary'));
  return target;
};

test('a stop id is stale after the guest ran, and ids are not reused', async () => {
  const { client } = await atEntry();
  const first = (await client.request('stackTrace', { threadId: 1 })).stackFrames[0].id;
  const scope = (await client.request('scopes', { frameId: first })).scopes[0].variablesReference;
  await client.request('stepIn', { threadId: 1, granularity: 'instruction' });
  await client.waitFor('stopped');
  assert.match(await client.refused('scopes', { frameId: first }), /stack frame 1 belongs to an earlier stop/);
  assert.match(
    await client.refused('variables', { variablesReference: scope }),
    /variable 1 belongs to an earlier stop/,
  );
  assert.match(await client.refused('scopes', { frameId: 4711 }), /no stack frame 4711/);
  assert.match(await client.refused('stackTrace', { threadId: 9 }), /no thread 9/);
  assert.match(await client.refused('stackTrace', {}), /"threadId" is missing/);
  assert.notEqual((await client.request('stackTrace', { threadId: 1 })).stackFrames[0].id, first);
});

test('unknown requests and requests before their time are errors', async () => {
  const { client } = fakeSession();
  assert.match(await client.refused('frobnicate'), /"frobnicate" is not known/);
  assert.match(await client.refused('toString'), /"toString" is not known/);
  for (const command of ['threads', 'continue', 'setBreakpoints', 'evaluate', 'configurationDone', 'pause']) {
    assert.match(await client.refused(command, { source: { path: '/a' }, expression: '1' }), /no guest yet/, command);
  }
  await client.request('initialize', initialization);
  assert.match(await client.refused('launch', { kernel: 7 }), /"kernel" must be a string, not 7/);
  assert.match(
    await client.refused('launch', { kernel: '/nowhere/Image' }),
    /"kernel" names \/nowhere\/Image, which does not exist/,
  );
  assert.match(await client.refused('attach', { pid: 1, remote: 'localhost:1' }), /exclude each other/);
  // The session lives: a launch that is right still works.
  await client.request('launch', launchArguments);
  assert.match(await client.refused('launch', launchArguments), /has a guest already/);
});

test('malformed arguments of requests are errors that name the field', async () => {
  const { client } = await atEntry();
  const cases: [string, object, RegExp][] = [
    [
      'setBreakpoints',
      { source: { path: '/a.c' }, breakpoints: [{ line: 'x' }] },
      /breakpoints\[0\].*"line" must be a whole number/,
    ],
    ['setBreakpoints', { source: 5 }, /source: an object is expected/],
    ['readMemory', { memoryReference: '0x0' }, /"count" is missing/],
    ['readMemory', { memoryReference: '0x0', count: -1 }, /"count" must be a whole number of at least 0/],
    ['writeMemory', { memoryReference: '0x0', data: '***' }, /"data" must be base64/],
    ['disassemble', { memoryReference: '0x0', instructionCount: 1e9 }, /"instructionCount"/],
    ['next', { threadId: 1, granularity: 'mile' }, /"granularity" must be one of/],
    ['variables', { variablesReference: 0 }, /no variable 0/],
    ['evaluate', {}, /"expression" is missing/],
    ['setInstructionBreakpoints', { breakpoints: [{ instructionReference: 'pc' }] }, /`pc` is not an address/],
    ['source', { sourceReference: 77 }, /no source 77/],
  ];
  for (const [command, args, message] of cases) assert.match(await client.refused(command, args), message);
});

test('disconnect: a launched VM ends, an attached one runs on, unless told otherwise', async () => {
  const cases: ['launch' | 'attach', boolean | undefined, FakeTarget['ended']][] = [
    ['launch', undefined, 'killed'],
    ['launch', false, 'detached'],
    ['launch', true, 'killed'],
    ['attach', undefined, 'detached'],
    ['attach', false, 'detached'],
    ['attach', true, 'killed'],
  ];
  for (const running of [false, true]) {
    for (const [request, terminateDebuggee, expected] of cases) {
      const { client, target, session } = fakeSession({ target: spinning() });
      await client.request('initialize', initialization);
      const args = request === 'launch' ? launchArguments : { pid: 4711, symbols: '/fake/vmlinux', stopOnEntry: true };
      await client.request(request, args);
      await client.waitFor('initialized');
      await client.request('configurationDone');
      await client.waitFor('stopped');
      if (running) await client.request('continue', { threadId: 1 });
      await client.request('disconnect', terminateDebuggee === undefined ? {} : { terminateDebuggee });
      assert.equal(target.ended, expected, `${request} ${running} ${terminateDebuggee}`);
      await session.finished;
      await client.closed;
    }
  }
});

test('a client that is gone is as good as a disconnect', async () => {
  for (const running of [false, true]) {
    const { client, target, session } = await atEntry({ target: spinning() });
    if (running) await client.request('continue', { threadId: 1 });
    client.close();
    await session.finished;
    assert.equal(target.ended, 'killed');
  }
});

test('attach stops, and without stopOnEntry runs on', async () => {
  const { client, target, requests } = fakeSession({ target: spinning() });
  await client.request('initialize', initialization);
  await client.request('attach', { pid: '4711' });
  assert.deepEqual(requests, [{ pid: 4711, exitTrap: 'auto' }]);
  await client.waitFor('initialized');
  await client.request('configurationDone');
  await client.request('pause', { threadId: 1 });
  assert.equal((await client.waitFor('stopped')).body.reason, 'pause');
  assert.equal(target.resumes, 1);
});

test('a VM that powers off ends the session with its status', async () => {
  const { client, session, printed } = await atEntry({}, { console: 'internalConsole' });
  printed.write('reboot: Power down\r\n');
  await client.request('continue', { threadId: 1 });
  printed.end();
  assert.deepEqual((await client.waitFor('exited')).body, { exitCode: 0 });
  await client.waitFor('terminated');
  assert.equal(client.outputText('stdout'), 'reboot: Power down\n');
  assert.match(await client.refused('stackTrace', { threadId: 1 }), /has ended/);
  await client.request('disconnect', {});
  await session.finished;
});

test('a VMM that dies, running or stopped, ends the session', async () => {
  for (const running of [true, false]) {
    const { client, target, printed } = await atEntry({ target: spinning() });
    printed.end();
    if (running) await client.request('continue', { threadId: 1 });
    target.die({ code: undefined, signal: 9 });
    assert.deepEqual((await client.waitFor('exited')).body, { exitCode: 137 });
    await client.waitFor('terminated');
    assert.match(client.outputText('console'), /ended by signal 9/);
  }
});

test('terminate ends the VM, and says that it is over', async () => {
  const { client, target } = await atEntry({ target: spinning() });
  await client.request('continue', { threadId: 1 });
  await client.request('terminate');
  await client.waitFor('terminated');
  assert.equal(target.ended, 'killed');
  await client.request('disconnect');
});

test('terminate while the launch is under way ends it', async () => {
  let aborted = false;
  let begin = (): void => {};
  const begun = new Promise<void>((resolve) => {
    begin = resolve;
  });
  const { client } = fakeSession({
    connect: (signal) =>
      new Promise((_, reject) => {
        begin();
        signal.addEventListener('abort', () => {
          aborted = true;
          reject(new UserError('The launch was cancelled.'));
        });
      }),
  });
  await client.request('initialize', initialization);
  const launch = client.send('launch', launchArguments).response;
  await begun;
  await client.request('terminate');
  await client.waitFor('terminated');
  assert.equal(aborted, true);
  assert.equal((await launch).success, false);
  await client.closed;
});

test('a pause right behind continue stops the guest', async () => {
  const { client } = await atEntry({ target: spinning() });
  const continued = client.send('continue', { threadId: 1 }).response;
  const paused = client.send('pause', { threadId: 1 }).response;
  assert.deepEqual([(await continued).success, (await paused).success], [true, true]);
  assert.equal((await client.waitFor('stopped')).body.reason, 'pause');
});

test('a target that is lost ends the session, and the guest is let go of', async () => {
  const { client, target } = await atEntry({ target: spinning() });
  target.resume = async () => {
    throw new SessionError('guest memory could not be restored');
  };
  await client.request('continue', { threadId: 1 });
  await client.waitFor('terminated');
  assert.match(client.outputText('important'), /guest memory could not be restored/);
  assert.equal(target.ended, 'killed');
});

test('what the connector refuses is the answer to launch', async () => {
  const text = 'The VMM exited with status 1 at once: Fatal: no kernel';
  const { client } = fakeSession({ connect: () => Promise.reject(new UserError(text)) });
  await client.request('initialize', initialization);
  const response = await client.send('launch', launchArguments).response;
  assert.equal(response.success, false);
  assert.equal(response.message, text);
  assert.deepEqual(response.body.error, { id: 1, format: text, showUser: true });
});

test('a launch that is under way can be cancelled, or ended with the session', async () => {
  for (const how of ['cancel', 'disconnect', 'close']) {
    let aborted = false;
    const connect: FakeOptions['connect'] = (signal) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          aborted = true;
          reject(new UserError('launch aborted'));
        });
      });
    const { client, session } = fakeSession({ connect });
    await client.request('initialize', initialization);
    const { seq, response } = client.send('launch', launchArguments);
    await new Promise((resolve) => setTimeout(resolve, 20));
    if (how === 'cancel') await client.request('cancel', { requestId: seq });
    else if (how === 'disconnect') await client.request('disconnect');
    else {
      client.close();
      response.catch(() => undefined);
      await session.finished;
    }
    assert.ok(aborted, how);
    if (how !== 'close') assert.equal((await response).success, false);
  }
});

test('a queued request can be cancelled, and one that is over cannot', async () => {
  const { client } = await atEntry();
  const slow = client.send('disassemble', { memoryReference: '0x0', instructionCount: 2000 });
  const queued = client.send('threads');
  await client.request('cancel', { requestId: queued.seq });
  await slow.response;
  const cancelled = await queued.response;
  assert.equal(cancelled.success, false);
  assert.equal(cancelled.message, 'cancelled');
  await client.request('cancel', { requestId: queued.seq });
  await client.request('cancel', { requestId: 99999 });
});

test('exactly one response for each request, in their order', async () => {
  const { client } = await atEntry();
  const commands = [
    'threads',
    'stackTrace',
    'nothing',
    'evaluate',
    'threads',
    'scopes',
    'readMemory',
    'continue',
    'threads',
  ];
  const sent = commands.map((command) => client.send(command, { threadId: 1, expression: '1' }));
  await Promise.all(sent.map(({ response }) => response));
  const answered = client.transcript
    .filter(({ type }) => type === 'response')
    .map(({ request_seq }) => request_seq ?? 0);
  assert.equal(new Set(answered).size, answered.length);
  const mine = answered.filter((seq) => sent.some((each) => each.seq === seq));
  assert.deepEqual(
    mine,
    sent.map(({ seq }) => seq),
  );
});

test('the guest console: as output events, or in a terminal of the client', async () => {
  const events = await atEntry({}, { console: 'integratedTerminal' });
  events.printed.write(Buffer.from('caf\u00e9\r\n').subarray(0, 4));
  events.printed.write(Buffer.from('caf\u00e9\r\n').subarray(4));
  await events.client.waitFor('output', ({ body }) => body.category === 'stdout' && body.output.includes('\u00e9'));
  assert.equal(events.client.outputText('stdout'), 'caf\u00e9\n');

  const { connect } = await import('node:net');
  const fake = fakeSession();
  let relay: ReturnType<typeof connect> | undefined;
  const received: Buffer[] = [];
  fake.client.onRequest = (command, args) => {
    assert.equal(command, 'runInTerminal');
    const [, program, path] = (args as { args: string[] }).args;
    // Its shell stays when the session has ended.
    assert.equal((args as { cwd: string }).cwd, process.cwd());
    assert.equal(program, '/nowhere/console.js');
    relay = connect(path ?? '');
    relay.on('data', (chunk) => received.push(chunk));
    return { processId: 1 };
  };
  fake.printed.write('early ');
  await fake.client.request('initialize', { ...initialization, supportsRunInTerminalRequest: true });
  await fake.client.request('launch', launchArguments);
  while (!relay) await new Promise((resolve) => setTimeout(resolve, 5));
  relay.write('typed');
  while (!fake.typed.readableLength) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(fake.typed.read().toString(), 'typed');
  fake.printed.write('late');
  while (Buffer.concat(received).toString() !== 'early late') await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(fake.client.outputText('stdout'), '');
  await fake.client.request('disconnect');

  const refusing = fakeSession();
  await refusing.client.request('initialize', { ...initialization, supportsRunInTerminalRequest: true });
  await refusing.client.request('launch', launchArguments);
  refusing.printed.write('hello');
  await refusing.client.waitFor('output', ({ body }) => body.category === 'stdout');
  assert.match(refusing.client.outputText('console'), /not in a terminal \(runInTerminal is not supported\)/);
  await refusing.client.request('disconnect');
});

test('a target that is lost while the guest is stopped ends the session', async () => {
  const target = fakeGuest();
  let lose: (error: Error) => void = () => undefined;
  const exited = new Promise<never>((_resolve, reject) => {
    lose = reject;
  });
  Object.defineProperty(target, 'exited', { value: exited });
  const { client } = await atEntry({ target });
  lose(new SessionError('The connection is lost.'));
  await client.waitFor('terminated');
  assert.match(client.outputText('important'), /The session has ended: The connection is lost\./);
});
