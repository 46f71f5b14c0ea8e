import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import type { Client } from '../../src/dap/context.ts';
import { ConsoleRelay } from '../../src/dap/guestConsole.ts';

test('a terminal whose program never connects does not swallow the console', async () => {
  const printed = new PassThrough();
  const outputs: { category: string; output: string }[] = [];
  let show = (): void => undefined;
  const shown = new Promise<void>((resolve) => {
    show = resolve;
  });
  const client = {
    event: (_name: string, body: { category: string; output: string }) => {
      outputs.push(body);
      if (body.category === 'stdout') show();
    },
    request: async () => ({ processId: 1 }),
  } as unknown as Client;
  const relay = new ConsoleRelay({ output: printed, input: new PassThrough(), leave: () => undefined }, client, 1);
  relay.useTerminal('integrated', '/nowhere/console.js');
  printed.write('early\n');
  await shown;
  relay.close();
  assert.match(outputs[0]?.output ?? '', /not in a terminal.*did not connect/);
  assert.deepEqual(outputs[1], { category: 'stdout', output: 'early\n' });
});
