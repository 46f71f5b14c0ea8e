// What is said of breakpoints.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Gva } from '../../src/base/address.ts';
import { type BreakpointRequest, Breakpoints } from '../../src/debugger/breakpoints.ts';
import { SerialTarget } from '../../src/debugger/serialTarget.ts';
import { SourcePaths } from '../../src/debugger/sourcePaths.ts';
import { StopContext } from '../../src/debugger/stopContext.ts';
import { KernelSymbols } from '../../src/debugger/symbols.ts';
import { addressOf, data, fakeGuest, fakeSymbols } from '../support/fakeKernel.ts';

function guest() {
  const fake = fakeGuest(1, { mapped: true });
  const symbols = new KernelSymbols(fakeSymbols);
  const breakpoints = new Breakpoints(symbols, new SourcePaths(), 'auto');
  const context = () => new StopContext(new SerialTarget(fake), symbols, [], 0);
  const set = async (...requests: BreakpointRequest[]) =>
    (await breakpoints.set(requests, () => true, context(), 0)).statuses;
  return { fake, breakpoints, context, set };
}

const at = (label: string, mode: 'auto' | 'software' | 'hardware'): BreakpointRequest => ({
  kind: 'instruction',
  address: Gva(addressOf(label)),
  mode,
});

test('one that is out of the guest for the moment, with nothing in its stead, is not verified and says so', async () => {
  for (const [mode, left, standsIn] of [
    ['software', 2, false],
    ['auto', 0, false],
    ['auto', 2, true],
  ] as const) {
    const { fake, breakpoints, context, set } = guest();
    fake.capabilities = { ...fake.capabilities, hardwareBreakpoints: left };
    const [status] = await set(at('inner', mode));
    assert.deepEqual([status?.verified, status?.message], [true, undefined]);
    await breakpoints.reconsider(context(), 0);
    const { placement } = breakpoints;
    const sites = placement.software;
    await placement.hide(sites, context(), 0);
    const [hidden] = await breakpoints.reconsider(context(), 0);
    assert.equal(hidden?.verified, standsIn);
    assert.match(hidden?.message ?? '', standsIn ? /A hardware breakpoint/ : /out of .* memory .* now are not seen/);
    await placement.show(sites, context(), 0);
    const [shown] = await breakpoints.reconsider(context(), 0);
    assert.deepEqual([shown?.verified, shown?.message], [true, undefined]);
  }
});

test('one that is out of the guest for the moment and then asked for in hardware is in place at once', async () => {
  const { fake, breakpoints, context, set } = guest();
  await set(at('inner', 'auto'));
  const { placement } = breakpoints;
  const sites = placement.software;
  const { capabilities } = fake;
  fake.capabilities = { ...capabilities, hardwareBreakpoints: 0 };
  await placement.hide(sites, context(), 0);
  fake.capabilities = capabilities;
  const request = { kind: 'code', address: Gva(addressOf('inner')), mode: 'hardware' } as const;
  const site = await placement.acquire(request, context(), 0);
  assert.equal(site.placed?.kind, 'hardware');
  await placement.show(sites, context(), 0);
  assert.equal(site.placed?.kind, 'hardware');
});

test('one that the guest finds in its code says so, and stays verified', async () => {
  const { breakpoints, context, set } = guest();
  await set(at('inner', 'software'));
  await breakpoints.reconsider(context(), 0);
  breakpoints.placement.expose(breakpoints.placement.software, 'The guest finds it.');
  const [status] = await breakpoints.reconsider(context(), 0);
  assert.deepEqual([status?.verified, status?.message], [true, 'The guest finds it.']);
});

test('the hardware breakpoint that a step takes for its length is not counted', async () => {
  const { breakpoints, context, set } = guest();
  const [status] = await set(at('inner', 'hardware'));
  assert.match(status?.message ?? '', /1 of the vCPU's 2/);
  await breakpoints.reconsider(context(), 0);
  const waypoint = { kind: 'code', address: Gva(addressOf('helper')), mode: 'hardware' } as const;
  const site = await breakpoints.placement.acquire(waypoint, context(), 0);
  assert.deepEqual(await breakpoints.reconsider(context(), 0), []);
  await breakpoints.placement.release(site, context());
  assert.deepEqual(await breakpoints.reconsider(context(), 0), []);
});

test('data breakpoints say how many are set and what the vCPU has', async () => {
  const { fake, set } = guest();
  fake.capabilities = { ...fake.capabilities, hardwareWatchpoints: 4 };
  const on = (address: bigint): BreakpointRequest => ({
    kind: 'data',
    address: Gva(address),
    length: 8,
    access: 'write',
  });
  const [one] = await set(on(data));
  assert.equal(one?.message, 'A watchpoint; the vCPU has 4, and 1 data breakpoint is set.');
  for (const status of await set(on(data), on(data + 8n)))
    assert.equal(status.message, 'A watchpoint; the vCPU has 4, and 2 data breakpoints are set.');
});
