// Software breakpoints and a guest that rewrites its own code.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Gva } from '../../src/base/address.ts';
import { type BreakpointMode, Placement } from '../../src/debugger/placement.ts';
import { SerialTarget } from '../../src/debugger/serialTarget.ts';
import { StopContext } from '../../src/debugger/stopContext.ts';
import { KernelSymbols } from '../../src/debugger/symbols.ts';
import { TextPatching } from '../../src/debugger/textPatching.ts';
import { addressOf, fakeGuest, fakeSymbols, stackTop } from '../support/fakeKernel.ts';

/** A kernel whose function `helper` is ftrace_modify_all_code(), and `inner` jump_label_update(). Its `_start` begins with
 *  two NOPs. */
const patchers = new Map([
  ['ftrace_modify_all_code', 'helper'],
  ['jump_label_update', 'inner'],
]);
const tracing = new KernelSymbols({
  ...fakeSymbols,
  symbolsNamed: (name) => fakeSymbols.symbolsNamed(patchers.get(name) ?? name),
});
const start = Gva(addressOf('_start'));

function guest(vcpus = 1) {
  const fake = fakeGuest(vcpus, { mapped: true });
  const context = () => new StopContext(new SerialTarget(fake), tracing, [], 0);
  const points = (): string[] =>
    [...fake.points.values()].map(({ kind, address }) => `${kind} ${tracing.describe(address) ?? address}`);
  const placement = new Placement(tracing);
  const patching = new TextPatching(tracing, placement);
  const acquire = (address: bigint, mode: BreakpointMode = 'software') =>
    placement.acquire({ kind: 'code', address: Gva(address), mode }, context(), 0);
  /** A vCPU calls one of the functions that look at code. */
  const call = (name: string, from: bigint, vcpu = 0) => {
    fake.set(vcpu, 'x30', from);
    return patching.arrived(Gva(addressOf(name)), context(), vcpu);
  };
  return { fake, context, points, placement, patching, acquire, call };
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
  const { fake, context, points, placement, patching, acquire, call } = guest();
  await patching.prepare(context(), 0);
  assert.deepEqual(points(), [], 'nothing to hide');
  const site = await acquire(start);
  const other = await acquire(addressOf('asm_leaf'));
  await patching.prepare(context(), 0);
  assert.deepEqual(points(), ['software _start', 'software asm_leaf', 'software helper', 'software inner']);

  await call('helper', addressOf('start_kernel', 5));
  assert.deepEqual(points().slice(1), ['software helper', 'software inner', 'software start_kernel+0x14']);
  assert.ok(site.isHidden && !other.isHidden);
  const stack = fake.get(0, 'sp');
  fake.set(0, 'sp', stack - 64n);
  await patching.arrived(Gva(addressOf('start_kernel', 5)), context(), 0);
  assert.ok(site.isHidden, 'a deeper activation of the caller');
  fake.set(0, 'sp', stack);
  await patching.arrived(Gva(addressOf('start_kernel', 5)), context(), 0);
  assert.deepEqual(points(), ['software asm_leaf', 'software helper', 'software inner', 'software _start']);

  for (const each of [site, other]) await placement.release(each, context());
  await patching.prepare(context(), 0);
  assert.deepEqual(points(), []);
});

test('a breakpoint comes back when the last of several functions that rewrite code at once has returned', async () => {
  const { context, points, patching, acquire, call } = guest(2);
  await acquire(start);
  await patching.prepare(context(), 0);
  await call('inner', addressOf('start_kernel', 5), 0);
  await call('helper', addressOf('twice', 3), 1);
  await patching.arrived(Gva(addressOf('start_kernel', 5)), context(), 0);
  assert.ok(!points().includes('software _start'), 'vCPU 1 is still at it');
  await patching.arrived(Gva(addressOf('twice', 3)), context(), 1);
  assert.ok(points().includes('software _start'));
});

test('where the return cannot be seen, breakpoints stay and say what the guest finds', async () => {
  const { fake, context, points, patching, acquire, call } = guest();
  fake.capabilities = { ...fake.capabilities, hardwareBreakpoints: 0 };
  const site = await acquire(start);
  await patching.prepare(context(), 0);
  const before = points();
  await call('helper', 0xffff_9000_0000_0000n); // no memory, no hardware breakpoint
  assert.deepEqual(points(), before);
  assert.ok(!site.isHidden);
  assert.match(
    site.notice ?? '',
    /finds this breakpoint in it: the end of helper cannot be seen\. No hardware breakpoint/,
  );
  await call('helper', addressOf('start_kernel', 5));
  assert.ok(site.isHidden);
  assert.equal(site.notice, undefined);
});

test('a return that another patching hides stays visible', async () => {
  const { fake, context, patching, acquire, call } = guest(2);
  fake.capabilities = { ...fake.capabilities, hardwareBreakpoints: 0 };
  const site = await acquire(start);
  const returnSite = await acquire(start + 4n);
  await patching.prepare(context(), 0);
  await call('inner', start + 4n, 0);
  assert.ok(site.isHidden && returnSite.placed?.kind === 'software');
  await call('helper', addressOf('twice', 3), 1);
  assert.equal(returnSite.placed?.kind, 'software');
  await patching.arrived(Gva(start + 4n), context(), 0);
  await patching.arrived(Gva(addressOf('twice', 3)), context(), 1);
  assert.equal(site.placed?.kind, 'software');
});

test('a CPU that has no register for the return address hides nothing', async () => {
  const { fake, context, points, patching, acquire, call } = guest();
  await acquire(start);
  await patching.prepare(context(), 0);
  const before = points();
  const { architecture } = fake;
  const unwind = { ...architecture.unwind, linkRegister: undefined };
  Object.defineProperty(fake, 'architecture', { value: { ...architecture, unwind } });
  await call('helper', addressOf('start_kernel', 5));
  assert.deepEqual(points(), before);
});

test('what is hidden when the kernel moves is shown to whoever holds it still', async () => {
  const { context, patching, acquire, call } = guest();
  const site = await acquire(start);
  await patching.prepare(context(), 0);
  await call('helper', addressOf('start_kernel', 5));
  await patching.rebind(context());
  assert.ok(!site.isHidden && site.placed?.kind === 'software');
});

test('a breakpoint at the first instruction of such a function is one to hide like others', async () => {
  const { fake, context, points, placement, patching, acquire } = guest();
  const site = await acquire(addressOf('helper'));
  const other = await acquire(start);
  await patching.prepare(context(), 0);
  await placement.release(other, context());
  await patching.prepare(context(), 0);
  const before = points();
  assert.ok(before.includes('software inner'));
  fake.calls.length = 0;
  await patching.prepare(context(), 0);
  assert.deepEqual([points(), fake.calls], [before, []]);
  await placement.release(site, context());
  await patching.prepare(context(), 0);
  assert.deepEqual(points(), []);
});

test('two names of one function', async () => {
  patchers.set('__jump_label_update', 'inner');
  try {
    const { context, points, placement, patching, acquire } = guest();
    const site = await acquire(start);
    for (let round = 0; round < 3; round++) await patching.prepare(context(), 0);
    await placement.release(site, context());
    await patching.prepare(context(), 0);
    assert.deepEqual(points(), []);
  } finally {
    patchers.delete('__jump_label_update');
  }
});

test('software breakpoints outside of the image, as in modules, are hidden as well', async () => {
  const { context, patching, acquire, call } = guest();
  const site = await acquire(stackTop - 0x100n);
  assert.equal(site.placed?.kind, 'software');
  await patching.prepare(context(), 0);
  await call('helper', addressOf('start_kernel', 5));
  assert.ok(site.isHidden);
});

test('a place is looked at once', async () => {
  const { fake, acquire } = guest();
  const { memory, translate } = fake;
  const looks: string[] = [];
  fake.memory = (vcpu) => ({
    ...memory.call(fake, vcpu),
    read: (address, length) => {
      looks.push(`read ${length}`);
      return memory.call(fake, vcpu).read(address, length);
    },
  });
  fake.translate = (vcpu, address) => {
    looks.push('walk');
    return translate.call(fake, vcpu, address);
  };
  await acquire(0xffff_9000_0000_0000n, 'auto');
  assert.deepEqual(looks, ['read 4096', 'read 4'], 'a page, and then exactly what was asked for');
});
