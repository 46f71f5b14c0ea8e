// kvm/kernelLog: what the client gets of the guest's log.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SessionSymbols } from '../../src/dap/context.ts';
import { addressOf, fakeGuest, fakeSymbols } from '../support/fakeKernel.ts';
import { atEntry } from '../support/fakeSession.ts';
import { logSymbols, PrintkRing, prbSymbol } from '../support/printkRing.ts';

const symbolFile: SessionSymbols = {
  ...fakeSymbols,
  symbolsNamed: (name) => (name === 'prb' ? logSymbols : fakeSymbols).symbolsNamed(name),
  typeNamed: logSymbols.typeNamed,
};

/** Stopped, with a log in memory. */
async function session(ring: PrintkRing) {
  const target = fakeGuest(1, { mapped: true });
  for (const [address, bytes] of ring.memory) target.load(address, bytes);
  return atEntry({ target, symbolFile });
}

test('the log, as records and as dmesg prints it', async () => {
  const ring = new PrintkRing();
  ring.store({ text: 'Booting Linux', caller: 0, level: 5 });
  ring.store({ text: 'Call trace:\n start_kernel', time: 1_500_000_000n, facility: 1, caller: 0x8000_0001 });
  ring.store({ text: 'eth0: up', time: 2_000_000_500n, subsystem: 'net', device: 'n2' });
  const { client } = await session(ring);
  assert.deepEqual(await client.request('kvm/kernelLog'), {
    records: [
      { seq: 0, time: 0, level: 5, facility: 0, caller: 'T0', text: 'Booting Linux' },
      { seq: 1, time: 1.5, level: 6, facility: 1, caller: 'C1', text: 'Call trace:\n start_kernel' },
      {
        seq: 2,
        time: 2.0000005,
        level: 6,
        facility: 0,
        caller: 'T1',
        text: 'eth0: up',
        subsystem: 'net',
        device: 'n2',
      },
    ],
    text: '[    0.000000] Booting Linux\n[    1.500000] Call trace:\n                start_kernel\n[    2.000000] eth0: up\n',
  });
});

test('an empty log', async () => {
  const { client } = await session(new PrintkRing());
  assert.deepEqual(await client.request('kvm/kernelLog'), { records: [], text: '' });
});

test('one sentence where there is none to read', async () => {
  const plain = await atEntry();
  assert.match(
    await plain.client.refused('kvm/kernelLog'),
    /^\/fake\/vmlinux does not describe a log .* 5\.10 or later\.$/,
  );
  const without = await atEntry({}, { symbols: undefined });
  assert.match(await without.client.refused('kvm/kernelLog'), /^There are no symbols; name the vmlinux/);
  const ring = new PrintkRing();
  ring.at(prbSymbol).setBigUint64(0, 0n, true);
  assert.match(await (await session(ring)).client.refused('kvm/kernelLog'), /^The kernel has no log yet/);
  ring.at(prbSymbol).setBigUint64(0, 0x10n, true);
  assert.match(
    await (await session(ring)).client.refused('kvm/kernelLog'),
    /^The kernel's log cannot be read: Cannot access virtual memory at 0x10/,
  );
});

test('not while the guest runs', async () => {
  const { client, target } = await session(new PrintkRing());
  target.set(0, 'pc', addressOf('secondary'));
  await client.request('continue', { threadId: 1 });
  assert.match(await client.refused('kvm/kernelLog'), /running; pause it first/);
  await client.request('disconnect');
});
