import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Gva } from '../../src/base/address.ts';
import { TargetError } from '../../src/base/errors.ts';
import { type StopEvent, UnplantedBreakpoints } from '../../src/target/target.ts';
import { debug, inHelper } from '../support/fakeDebugger.ts';
import { addressOf, base, data, fakeGuest, fakeSymbols, stackTop } from '../support/fakeKernel.ts';
import type { FakeTarget } from '../support/fakeTarget.ts';

test('the return of another activation, or of another task, does not end a step over a call', async () => {
  const target = inHelper(2);
  const { step } = debug(target);
  for (let count = 0; count < 4; count++) await step('in', 'instruction');
  assert.equal(target.get(0, 'pc'), addressOf('start_kernel', 4));
  const sp = target.get(0, 'sp');
  // Another task passes the return address on vCPU 1 while the call runs.
  target.set(1, 'pc', addressOf('start_kernel', 4));
  target.set(1, 'sp', stackTop - 0x800n);
  const stop = await step('next', 'instruction');
  assert.equal(stop.vcpu, 0);
  assert.equal(stop.reason, 'step');
  assert.equal(target.get(0, 'pc'), addressOf('start_kernel', 5));
  assert.equal(target.get(0, 'sp'), sp);
  assert.equal(target.points.size, 0);
});

test('a step follows its task to another vCPU', async () => {
  const target = inHelper(2);
  const { step } = debug(target);
  for (let count = 0; count < 4; count++) await step('in', 'instruction');
  const sp = target.get(0, 'sp');
  const original = target.resume.bind(target);
  // The scheduler brings the task back on vCPU 1.
  target.resume = async (): Promise<readonly StopEvent[]> => {
    target.resume = original;
    target.set(1, 'pc', addressOf('start_kernel', 5));
    target.set(1, 'sp', sp);
    const [[id, point] = assert.fail('nothing is planted')] = target.points;
    return [{ kind: 'breakpoint', vcpu: 1, pc: point.address, ids: [id] }];
  };
  const stop = await step('next', 'instruction');
  assert.equal(stop.vcpu, 1);
  assert.equal(stop.reason, 'step');
});

test('a breakpoint within a step over a call wins, and nothing of the step stays', async () => {
  const target = inHelper();
  const { instance, step } = debug(target);
  for (let count = 0; count < 4; count++) await step('in', 'instruction');
  const [status] = await instance.setBreakpoints([{ kind: 'source', path: '/x/lib/helper.c', line: 31 }], () => true);
  const stop = await step('next', 'line');
  assert.equal(stop.reason, 'breakpoint');
  assert.deepEqual(stop.breakpointIds, [status?.id]);
  assert.equal(target.points.size, 1);
  const out = await step('out', 'line');
  assert.equal(target.get(0, 'pc'), addressOf('helper', 4));
  assert.equal(out.reason, 'step');
});

test('a step that arrives at a breakpoint counts as its hit', async () => {
  const target = inHelper();
  const { instance, step } = debug(target);
  const address = addressOf('start_kernel', 1) as never;
  await instance.setBreakpoints([{ kind: 'instruction', address, hitCondition: '1' }], () => true);
  const stop = await step('in', 'instruction');
  assert.equal(stop.reason, 'instruction breakpoint');
});

test('an instruction step is one target step and nothing else', async () => {
  const target = inHelper();
  const { step } = debug(target);
  await step('in', 'instruction');
  assert.equal(target.get(0, 'pc'), addressOf('start_kernel', 1));
  assert.equal(target.resumes, 0);
  assert.deepEqual(target.calls, []);
});

test('stepping out of the outermost frame says why it cannot', async () => {
  const target = fakeGuest(1, { mapped: true });
  const { instance } = debug(target);
  await assert.rejects(
    instance.prepareStep('out', 'line', 0),
    /Cannot step out: there is no calling frame \(outermost frame\)/,
  );
});

test('stepping out of a function that never returns says so instead of waiting', async () => {
  const { instance } = debug(inHelper(), { ...fakeSymbols, neverReturns: () => true });
  await assert.rejects(instance.prepareStep('out', 'line', 0), /Cannot step out: start_kernel never returns/);
});

test('a step that needs a breakpoint it cannot have ends with a reason', async () => {
  const target = inHelper();
  target.capabilities = { ...target.capabilities, hardwareBreakpoints: 0 };
  const { step } = debug(target);
  for (let count = 0; count < 4; count++) await step('in', 'instruction');
  // Not what the image has, as after patching: no software breakpoint, and no hardware one is there.
  target.load(addressOf('start_kernel', 5), Uint8Array.of(0x63, 0x04, 0x00, 0x91));
  const stop = await step('next', 'instruction');
  assert.match(stop.description, /The step needs a breakpoint at 0x.*0 of the vCPU's 0 hardware breakpoints/);
  assert.equal(target.get(0, 'pc'), addressOf('start_kernel', 4));
});

test('a line that waits for another vCPU is left when that has had its turn', async () => {
  const target = inHelper(2);
  const { step } = debug(target);
  target.set(0, 'pc', addressOf('waiter'));
  target.set(0, 'x5', 1n);
  target.set(0, 'x2', data);
  target.set(1, 'pc', addressOf('secondary'));
  const original = target.resume.bind(target);
  let turns = 0;
  target.resume = () => {
    turns += 1;
    // What the other one is to do.
    target.set(0, 'x5', 0n);
    return original();
  };
  const stop = await step('next', 'line');
  assert.equal(stop.reason, 'step');
  assert.equal(target.get(0, 'pc'), addressOf('waiter', 2));
  assert.equal(turns, 1);
  assert.ok(target.get(1, 'x4') > 0n, 'the other vCPU runs');
  assert.equal(target.points.size, 0);
});

test('a step arrives where the access to data that is watched, but not to be stopped for, has ended', async () => {
  const target = inHelper(1);
  const { instance, step } = debug(target);
  target.set(0, 'pc', addressOf('waiter'));
  target.set(0, 'x5', 1n);
  target.set(0, 'x2', data);
  const request = { kind: 'data', address: Gva(data), length: 8, access: 'write', condition: '0' } as const;
  await instance.setBreakpoints([request], () => true);
  const original = target.resume.bind(target);
  target.resume = () => {
    target.set(0, 'x5', 0n);
    return original();
  };
  const stop = await step('next', 'line');
  assert.equal(stop.reason, 'step');
  assert.equal(target.get(0, 'pc'), addressOf('waiter', 2));
});

test('a line is stepped by stretches of its code, of which none passes a breakpoint', async () => {
  const target = inHelper();
  const { instance, step } = debug(target);
  const from = addressOf('start_kernel');
  for (const { breakpoint, end, steps } of [
    { breakpoint: undefined, end: addressOf('start_kernel', 2), steps: 1 },
    { breakpoint: Gva(from + 4n), end: addressOf('start_kernel', 1), steps: 1 },
  ]) {
    target.set(0, 'pc', from);
    target.steps = 0;
    if (breakpoint !== undefined) {
      await instance.setBreakpoints([{ kind: 'instruction', address: breakpoint }], () => true);
    }
    const stop = await step('next', 'line');
    assert.equal(stop.reason, breakpoint === undefined ? 'step' : 'instruction breakpoint');
    assert.equal(target.get(0, 'pc'), end);
    assert.equal(target.steps, steps);
  }
});

/** Lets the next step of vCPU 0 take an exception at `from`. A function with lines of its own stands for the handler, which returns
 *  to `to`. */
function takeException(target: FakeTarget, from: bigint, to: bigint, before = (): void => undefined): void {
  const handler = Gva(addressOf('inner'));
  target.set(0, 'vbar_el1', handler - 0x200n);
  const original = target.step.bind(target);
  target.step = (vcpu) => {
    target.step = original;
    before();
    target.set(0, 'elr_el1', from);
    target.set(0, 'spsr_el1', 0x5n);
    target.set(0, 'x30', to);
    target.set(0, 'pc', handler);
    return Promise.resolve([{ kind: 'step', vcpu, pc: handler }]);
  };
}

test('a line whose instruction takes an exception is gone on with when that has been dealt with', async () => {
  const target = inHelper();
  const { step } = debug(target);
  const from = addressOf('start_kernel', 2);
  target.set(0, 'pc', from);
  // Behind the instruction, as that of WARN does.
  takeException(target, from, from + 4n, () => {
    target.set(0, 'sp', target.get(0, 'sp') - 16n); // by what was executed before it
  });
  const stop = await step('next', 'line');
  assert.equal(stop.reason, 'step');
  assert.equal(target.get(0, 'pc'), addressOf('start_kernel', 4));
  assert.equal(target.points.size, 0);
});

test('a line whose branch is carried out by a handler, as with a kprobe on it, is left by that branch', async () => {
  const target = inHelper();
  const { step } = debug(target);
  const from = addressOf('.loop', 2);
  target.set(0, 'pc', from);
  target.set(0, 'x1', 3n);
  takeException(target, from, addressOf('.loop'));
  const stop = await step('next', 'line');
  assert.equal(stop.reason, 'step');
  assert.deepEqual([target.get(0, 'pc'), target.get(0, 'x1')], [addressOf('.loop'), 3n], 'the first time round');
});

test('a call with a breakpoint on it that was not hit yet is left by a step', async () => {
  const target = inHelper();
  const { instance, step } = debug(target);
  const call = Gva(addressOf('start_kernel', 4));
  target.set(0, 'pc', call);
  await instance.setBreakpoints([{ kind: 'instruction', address: call }], () => true);
  // Unlike this target, one may report a stop point where a vCPU stands that was not reported there.
  const original = target.resume.bind(target);
  target.resume = () => {
    const [id] = [...target.points].find(([, point]) => point.address === target.get(0, 'pc')) ?? [];
    if (id === undefined) return original();
    return Promise.resolve([{ kind: 'breakpoint', vcpu: 0, pc: call, ids: [id] }]);
  };
  const stop = await step('next', 'instruction');
  assert.equal(stop.reason, 'step');
  assert.equal(target.get(0, 'pc'), addressOf('start_kernel', 5));
});

test('another program of user space with the same stack does not end a step', async () => {
  const target = inHelper(2);
  const { step } = debug(target);
  for (let count = 0; count < 4; count++) await step('in', 'instruction');
  for (const vcpu of target.vcpus) target.set(vcpu, 'pstate', 0n);
  target.set(0, 'ttbr0_el1', 0x0003_0000_4000_0001n);
  target.set(1, 'ttbr0_el1', 0x0004_0000_5000_0001n);
  // A fork of it is about to return from the same call, on vCPU 1.
  target.set(1, 'pc', addressOf('inner', 4));
  target.set(1, 'x30', addressOf('start_kernel', 5));
  target.set(1, 'sp', target.get(0, 'sp'));
  const original = target.resume.bind(target);
  const seen = new Set<number>();
  target.resume = async () => {
    // Its own number may have changed when it comes back.
    target.set(0, 'ttbr0_el1', 0x0005_0000_4000_0001n);
    const events = await original();
    for (const event of events) if (event.kind === 'breakpoint') seen.add(event.vcpu);
    return events;
  };
  const stop = await step('next', 'instruction');
  assert.equal(stop.vcpu, 0);
  assert.equal(target.get(0, 'pc'), addressOf('start_kernel', 5));
  assert.ok(seen.has(1), 'the other one came by first');
});

test('a line step of the kernel ends where it goes back to user space', async () => {
  const target = inHelper();
  const { step } = debug(target);
  const program = Gva(0x40_0000n);
  const original = target.step.bind(target);
  target.step = (vcpu) => {
    target.step = original;
    // In a function that is not going to return to its caller.
    target.set(vcpu, 'pc', program);
    target.set(vcpu, 'pstate', 0n);
    target.set(vcpu, 'x30', addressOf('start_kernel', 4));
    return Promise.resolve([{ kind: 'step', vcpu, pc: program }]);
  };
  target.resume = () => assert.fail('to wait for the return');
  const stop = await step('next', 'line');
  assert.equal(stop.reason, 'step');
  assert.equal(target.get(0, 'pc'), program);
});

test('a breakpoint that cannot be planted any more becomes a hardware one', async () => {
  const target = inHelper();
  const { instance, step } = debug(target);
  const address = Gva(addressOf('inner'));
  await instance.setBreakpoints([{ kind: 'instruction', address }], () => true);
  const [id] = [...target.points.keys()];
  assert.ok(id !== undefined && target.points.get(id)?.kind === 'software');
  const [insert, resume] = [target.insert.bind(target), target.resume.bind(target)];
  const lost = (): boolean => [...target.points.values()].some(({ kind }) => kind === 'software');
  target.insert = (point) => {
    if (point.kind !== 'software') return insert(point);
    return Promise.reject(new TargetError('there is no RAM any more'));
  };
  target.resume = () => (lost() ? Promise.reject(new UnplantedBreakpoints('there is no RAM', [id])) : resume());
  target.set(0, 'pc', addressOf('start_kernel', 4));
  const stop = await step('next', 'instruction');
  assert.equal(stop.reason, 'instruction breakpoint');
  assert.deepEqual(
    [...target.points.values()].map(({ kind }) => kind),
    ['hardware'],
  );
});

test('next runs through a tail call to where that returns', async () => {
  const functions = ['start_kernel', 'helper', 'inner', 'asm_leaf', 'tail'].map((name) => addressOf(name));
  const symbols = {
    ...fakeSymbols,
    inlinesAt: (address: bigint) => {
      const entry = functions.filter((start) => start <= address).reduce((a, b) => (a > b ? a : b), 0n);
      const begins = entry === address;
      return [{ kind: 'function', name: '', die: Number(entry - base), entry, call: undefined, begins } as const];
    },
  };
  for (const [kind, end] of [
    ['next', addressOf('start_kernel', 5)],
    ['in', addressOf('inner')],
  ] as const) {
    const target = inHelper();
    const { step } = debug(target, symbols);
    target.set(0, 'pc', addressOf('tail'));
    target.set(0, 'x30', addressOf('start_kernel', 5));
    assert.equal((await step(kind, 'line')).reason, 'step');
    assert.equal(target.get(0, 'pc'), end, kind);
  }
});

test('stops that nobody sees, one at once after another, leave the user his turn', async () => {
  const target = fakeGuest(1, { mapped: true });
  const { instance, stops } = debug(target);
  target.resume = async () => {
    target.resumes += 1;
    if (target.resumes > 1e6) throw new Error('the user is not heard');
    return [{ kind: 'interrupted', vcpu: 0 }];
  };
  instance.continue();
  setTimeout(() => instance.pause(), 20);
  while (stops.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  assert.equal(stops[0]?.reason, 'pause');
});
