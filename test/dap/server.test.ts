import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DapServer } from '../../src/dap/server.ts';
import { DapClient } from '../support/dapClient.ts';
import { fakeGuest } from '../support/fakeKernel.ts';
import { fakeServices, initialization, launchArguments } from '../support/fakeSession.ts';

test('one session after another: a refused launch, a lost client and a dead VM do not end the server', async () => {
  const targets = Array.from({ length: 3 }, () => fakeGuest(1, { mapped: true }));
  let next = 0;
  const { services, printed } = fakeServices({ connect: async () => targets[next++] ?? fakeGuest() });
  const server = new DapServer(services);
  const { port, address } = await server.listen({ host: '127.0.0.1', port: 0 });
  assert.equal(address, '127.0.0.1');
  const begin = async () => {
    const client = await DapClient.connect(port);
    await client.request('initialize', initialization);
    return client;
  };

  const refused = await begin();
  assert.match(await refused.refused('launch', { kernel: '/nowhere/Image' }), /does not exist/);
  await refused.request('disconnect');
  await refused.closed;

  const lost = await begin();
  await lost.request('launch', launchArguments);
  // A second client waits for its turn.
  const early = begin();
  lost.input.destroy();
  const client = await early;
  assert.equal(targets[0]?.ended, 'killed');

  await client.request('launch', launchArguments);
  await client.waitFor('initialized');
  await client.request('configurationDone');
  await client.waitFor('stopped');
  printed.end();
  targets[1]?.die({ code: 1, signal: undefined });
  assert.deepEqual((await client.waitFor('exited')).body, { exitCode: 1 });
  await client.request('disconnect');
  await client.closed;

  const last = await begin();
  await last.request('attach', { pid: 5 });
  await server.close();
  await last.closed;
  assert.equal(targets[2]?.ended, 'detached');
  await assert.rejects(DapClient.connect(port));
});

test('a port that is taken is told', async () => {
  const server = new DapServer(fakeServices().services);
  const { port } = await server.listen({ host: '127.0.0.1', port: 0 });
  const other = new DapServer(fakeServices().services);
  await assert.rejects(other.listen({ host: '127.0.0.1', port }), /Cannot listen at 127\.0\.0\.1:/);
  await server.close();
});
