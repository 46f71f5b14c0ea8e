// kvm/pageWalk: what the client gets of a walk.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PageTables, ttbr } from '../arch/pageTables.ts';
import { addressOf, base, fakeGuest } from '../support/fakeKernel.ts';
import { atEntry } from '../support/fakeSession.ts';

const hex = (value: bigint): string => `0x${value.toString(16)}`;
const tableAddress = 0x4000_0000n;
const physical = 0x8020_0000n;
const unmapped = 0xffff_a000_0000_0000n;

/** A guest whose tables map the page of its code, at vCPU 0; the MMU of vCPU 1 is off. */
async function session() {
  const names = ['sctlr_el1', 'ttbr1_el1', 'mair_el1', 'id_aa64mmfr0_el1'];
  const registers = names.map((name) => ({ name, group: 'system', topic: 'translation', bits: 64 }) as const);
  const target = fakeGuest(2, { mapped: true, registers });
  const tables = new PageTables({ granule: '4K', vaBits: 48, large: false }, tableAddress);
  tables.map(base, physical, 3, (1n << 10n) | (3n << 8n));
  for (const [address, descriptor] of tables.memory) {
    target.load(address, new Uint8Array(new BigUint64Array([descriptor]).buffer));
  }
  // TCR_EL1: T0SZ and T1SZ 16, TG1 4 KiB, IPS 44 bits.
  target.set(0, 'tcr_el1', 16n | (16n << 16n) | (2n << 30n) | (4n << 32n));
  target.set(0, 'sctlr_el1', 1n);
  target.set(0, 'ttbr1_el1', ttbr(tables.root, false));
  target.set(0, 'mair_el1', 0xffn);
  for (const vcpu of [0, 1]) target.set(vcpu, 'id_aa64mmfr0_el1', 5n);
  return { ...(await atEntry({ target })), tables };
}

test('a mapping, level by level', async () => {
  const { client, tables } = await session();
  const body = await client.request('kvm/pageWalk', { address: '$pc + 4' });
  const { levels, lines, ...rest } = body;
  assert.deepEqual(rest, {
    address: hex(base + 4n),
    threadId: 1,
    mmu: true,
    regime: {
      register: 'ttbr1_el1',
      value: hex(ttbr(tableAddress, false)),
      granule: 4096,
      addressBits: 48,
      outputBits: 44,
    },
    target: {
      address: hex(physical + 4n),
      pageSize: 4096,
      remaining: 4092,
      permissions: { writable: true, user: false, executable: true, userExecutable: true },
    },
  });
  assert.deepEqual(
    levels.map(({ level, kind, index }: Record<string, unknown>) => [level, kind, index]),
    [
      [0, 'table', 256],
      [1, 'table', 0],
      [2, 'table', 64],
      [3, 'page', 16],
    ],
  );
  const page = levels[3];
  assert.deepEqual(
    [page.table, page.address, page.descriptor, page.output],
    [hex(tables.slotOf(base, 3) & ~0xfffn), hex(tables.slotOf(base, 3)), hex(physical | 0x703n), hex(physical)],
  );
  assert.deepEqual(page.attributes.slice(0, 2), [
    { name: 'AttrIndx', value: '0x0', meaning: 'Normal write-back' },
    { name: 'SH', value: '0x3', meaning: 'inner shareable' },
  ]);
  assert.deepEqual(page.attributes.at(-1), { name: 'software', value: '0x0' });
  assert.equal(lines.length, 7);
  assert.match(lines.at(-1), new RegExp(`^Physical address ${hex(physical + 4n)}, `));
});

test('any expression that comes to an address', async () => {
  const { client } = await session();
  const walked = async (address: string) => (await client.request('kvm/pageWalk', { address })).address;
  assert.equal(await walked(hex(base)), hex(base));
  assert.equal(await walked(`${base}`), hex(base));
  assert.equal(await walked('start_kernel'), hex(addressOf('start_kernel')));
  assert.equal(await walked('&start_kernel + 8'), hex(addressOf('start_kernel', 2)));
  assert.equal(await walked('-1'), '0xffffffffffffffff');
  assert.match(await client.refused('kvm/pageWalk', { address: 'nonsense' }), /no symbol `nonsense`/);
  assert.match(await client.refused('kvm/pageWalk', { address: '$x1 = 5' }), /debug console only/);
  assert.match(await client.refused('kvm/pageWalk', {}), /kvm\/pageWalk: "address" is missing/);
  assert.match(await client.refused('kvm/pageWalk', { address: 5 }), /"address" must be a string/);
  assert.match(await client.refused('kvm/pageWalk', { address: '0', frameId: 99 }), /no stack frame 99/);
});

test('a fault says at which level and why; the debugger may know better', async () => {
  const { client, target } = await session();
  const body = await client.request('kvm/pageWalk', { address: hex(unmapped) });
  assert.equal(body.target, undefined);
  assert.equal(body.debuggerAddress, undefined);
  assert.deepEqual(body.fault, {
    kind: 'translation',
    level: 0,
    message: 'translation fault, level 0: bit 0 of the descriptor is 0',
  });
  assert.deepEqual(body.levels[0].attributes, []);
  assert.equal('output' in body.levels[0], false);
  // As with the tables of user space (KPTI).
  target.load(unmapped, Uint8Array.of(1));
  const known = await client.request('kvm/pageWalk', { address: hex(unmapped) });
  assert.equal(known.debuggerAddress, hex(unmapped));
  assert.match(known.lines.at(-1), /kernel's own tables/);
});

test('the frame says which vCPU is meant', async () => {
  const { client } = await session();
  const { stackFrames } = await client.request('stackTrace', { threadId: 2 });
  const body = await client.request('kvm/pageWalk', { address: '0x80200000', frameId: stackFrames[0].id });
  assert.deepEqual([body.threadId, body.mmu, body.levels, body.regime], [2, false, [], undefined]);
  assert.equal(body.target.address, '0x80200000');
  assert.match(body.lines[0], /the MMU is off/);
});

test('not while the guest runs, and not without the registers', async () => {
  const { client, target } = await session();
  target.set(0, 'pc', addressOf('secondary'));
  await client.request('continue', { threadId: 1 });
  assert.match(await client.refused('kvm/pageWalk', { address: '0' }), /running; pause it first/);
  await client.request('disconnect');
  const without = await atEntry();
  assert.match(await without.client.refused('kvm/pageWalk', { address: '0' }), /does not tell its sctlr_el1/);
});
