// Breakpoints of a kernel that moves itself, once or twice.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Gva } from '../../src/base/address.ts';
import { Breakpoints } from '../../src/debugger/breakpoints.ts';
import { SerialTarget } from '../../src/debugger/serialTarget.ts';
import { SourcePaths } from '../../src/debugger/sourcePaths.ts';
import { StopContext } from '../../src/debugger/stopContext.ts';
import { KernelSymbols } from '../../src/debugger/symbols.ts';
import { addressOf, base, fakeGuest, fakeSymbols } from '../support/fakeKernel.ts';

test('breakpoints move with the kernel each time it moves; those outside of it stay', async () => {
  const sections = [{ name: '.text', address: base, size: 0x1000n, isCode: true }];
  const symbols = new KernelSymbols({ ...fakeSymbols, sections });
  const fake = fakeGuest();
  fake.capabilities = { ...fake.capabilities, hardwareBreakpoints: 8 };
  const target = new SerialTarget(fake);
  const context = new StopContext(target, symbols, [], 0);
  const loaded = 0x4021_0000n - base;
  symbols.bias = BigInt.asUintN(64, loaded);
  const breakpoints = new Breakpoints(symbols, new SourcePaths(), 'hardware');
  const inKernel = Gva(addressOf('helper', 4) + symbols.bias);
  const { statuses } = await breakpoints.set(
    [
      { kind: 'function', name: 'inner' },
      { kind: 'instruction', address: inKernel },
      { kind: 'instruction', address: Gva(0x1000n) },
    ],
    () => true,
    context,
    0,
  );
  const addresses = (): string[] => [...fake.points.values()].map(({ address }) => address.toString(16)).sort();
  const moved = (bias: bigint): string[] =>
    [addressOf('inner', 2) + bias, addressOf('helper', 4) + bias, 0x1000n]
      .map((address) => BigInt.asUintN(64, address).toString(16))
      .sort();
  assert.deepEqual(addresses(), moved(loaded));
  for (const bias of [0n, 0x1234_0000n]) {
    symbols.bias = bias;
    await breakpoints.rebind(context, 0);
    assert.deepEqual(addresses(), moved(bias));
    const told = await breakpoints.reconsider(context, 0);
    assert.ok(
      told.every(({ id }) => statuses.some((status) => status.id === id)),
      'the ids stay',
    );
  }
});
