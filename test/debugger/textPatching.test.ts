// Software breakpoints and a guest that rewrites its own code.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Gva } from '../../src/base/address.ts';
import { Placement } from '../../src/debugger/placement.ts';
import { SerialTarget } from '../../src/debugger/serialTarget.ts';
import { StopContext } from '../../src/debugger/stopContext.ts';
import { KernelSymbols } from '../../src/debugger/symbols.ts';
import { TextPatching } from '../../src/debugger/textPatching.ts';
import { addressOf, fakeGuest, fakeSymbols } from '../support/fakeKernel.ts';

/** A kernel whose function `helper` is ftrace_modify_all_code(). Its `_start` begins with two NOPs. */
const tracing = new KernelSymbols({
  ...fakeSymbols,
  symbolsNamed: (name) => fakeSymbols.symbolsNamed(name === 'ftrace_modify_all_code' ? 'helper' : name),
});

function guest() {
  const fake = fakeGuest(1, { mapped: true });
  const context = () => new StopContext(new SerialTarget(fake), tracing, [], 0);
  const points = (): string[] =>
    [...fake.points.values()].map(({ kind, address }) => `${kind} ${tracing.describe(address)}`);
  return { fake, context, points, placement: new Placement(tracing) };
}

test('room for ftrace gets a hardware breakpoint as long as there is one, other code a software one', async () => {
  const { context, points, placement } = guest();
  for (const address of [addressOf('_start'), addressOf('_start', 1), addressOf('inner')]) {
    await placement.acquire({ kind: 'code', address: Gva(address), mode: 'auto' }, context(), 0);
  }
  assert.deepEqual(points(), ['hardware _start', 'hardware _start+0x4', 'software inner']);
  await placement.reconsider(context(), 0);
  assert.deepEqual(points(), ['hardware _start', 'hardware _start+0x4', 'software inner']);
});

test('software breakpoints are out of sight until the function that rewrites code has returned', async () => {
  const { fake, context, points, placement } = guest();
  const patching = new TextPatching(tracing, placement);
  await patching.prepare(context(), 0);
  assert.deepEqual(points(), [], 'nothing to hide');
  const site = await placement.acquire(
    { kind: 'code', address: Gva(addressOf('_start')), mode: 'software' },
    context(),
    0,
  );
  const other = await placement.acquire(
    { kind: 'code', address: Gva(addressOf('inner')), mode: 'software' },
    context(),
    0,
  );
  await patching.prepare(context(), 0);
  assert.deepEqual(points(), ['software _start', 'software inner', 'software helper']);

  fake.set(0, 'x30', addressOf('start_kernel', 5));
  await patching.arrived(Gva(addressOf('helper')), context(), 0);
  assert.deepEqual(points(), ['software inner', 'software helper', 'software start_kernel+0x14']);
  assert.ok(site.isHidden && !other.isHidden);
  const stack = fake.get(0, 'sp');
  fake.set(0, 'sp', stack - 64n);
  await patching.arrived(Gva(addressOf('start_kernel', 5)), context(), 0);
  assert.ok(site.isHidden, 'a deeper activation of the caller');
  fake.set(0, 'sp', stack);
  await patching.arrived(Gva(addressOf('start_kernel', 5)), context(), 0);
  assert.deepEqual(points(), ['software inner', 'software helper', 'software _start']);

  for (const each of [site, other]) await placement.release(each, context());
  await patching.prepare(context(), 0);
  assert.deepEqual(points(), []);
});
