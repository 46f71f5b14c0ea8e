// Functions that the compiler has inlined, as the user sees them: at their call, in them, and in steps.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { BreakpointRequest } from '../../src/debugger/breakpoints.ts';
import type { StepKind } from '../../src/debugger/stepping.ts';
import { debug, inHelper } from '../support/fakeDebugger.ts';
import { addressOf, data } from '../support/fakeKernel.ts';
import { inlined, inlinedCall } from '../support/inlinedKernel.ts';

test('next passes over a function that is inlined, a step in enters it', async () => {
  for (const [kind, end] of [
    ['next', addressOf('.loop', 2)],
    ['in', addressOf('.loop')],
  ] as const) {
    const target = inHelper();
    const { step } = debug(target, inlined);
    target.set(0, 'pc', addressOf('.loop') - 4n);
    target.set(0, 'x2', data);
    assert.equal((await step(kind, 'line')).reason, 'step');
    assert.equal(target.get(0, 'pc'), end, kind);
  }
});

test('the call of an inlined function is a place to stop at, is stepped over as one, and entered where it stands', async () => {
  const starting = (at: bigint) => {
    const target = inHelper();
    const { step, instance } = debug(target, inlinedCall);
    target.set(0, 'pc', at);
    target.set(0, 'x2', data);
    const after = async (kind: StepKind) => {
      assert.equal((await step(kind, 'line')).reason, 'step');
      return [target.get(0, 'pc'), await instance.stopped().innermost(0)];
    };
    return after;
  };
  const [call, behind] = [addressOf('.loop'), addressOf('.loop', 2)];
  assert.deepEqual(await starting(call - 4n)('next'), [call, 1], 'before the call');
  const step = starting(call - 4n);
  assert.deepEqual(await step('in'), [call, 1], 'before the call');
  assert.deepEqual(await step('in'), [call, 0], 'in the function, of which nothing is executed yet');
  assert.deepEqual(await step('out'), [behind, 0]);
  assert.deepEqual(await starting(call)('next'), [behind, 0], 'over the call');
});

test('a step out of an inlined function ends in the function that it is inlined into', async () => {
  const target = inHelper();
  const { step } = debug(target, inlined);
  target.set(0, 'pc', addressOf('.loop', 1));
  target.set(0, 'x2', data);
  assert.equal((await step('out', 'line')).reason, 'step');
  assert.equal(target.get(0, 'pc'), addressOf('.loop', 2));
});

test("a step out ends before another call of the caller's that is inlined", async () => {
  const target = inHelper();
  const symbols = {
    ...inlinedCall,
    // What is inlined in front of the call.
    inlinesAt: (address: bigint) => {
      const [outer] = inlined.inlinesAt(addressOf('start_kernel'));
      assert.ok(outer);
      return address === addressOf('.loop') - 4n
        ? [{ ...outer, kind: 'inlined', name: 'other', die: 3, call: undefined, begins: true } as const, outer]
        : inlinedCall.inlinesAt(address);
    },
  };
  const { step, instance } = debug(target, symbols);
  target.set(0, 'pc', addressOf('.loop') - 4n);
  assert.equal((await step('out', 'line')).reason, 'step');
  assert.deepEqual([target.get(0, 'pc'), await instance.stopped().innermost(0)], [addressOf('.loop'), 1]);
});

/** Where the guest stops at the call of `body` with these breakpoints, and which function is seen. */
async function seenWith(requests: readonly BreakpointRequest[]) {
  const target = inHelper();
  const symbols = { ...inlinedCall, functionBreakpoint: () => inlinedCall.locationsOf('init/main.c', 15) };
  const { step, instance } = debug(target, symbols);
  await instance.setBreakpoints(requests, () => true);
  target.set(0, 'pc', addressOf('.loop') - 4n);
  target.set(0, 'x2', data);
  const { breakpointIds } = await step('next', 'instruction');
  const context = instance.stopped();
  return { context, target, ids: breakpointIds, inline: await context.innermost(0) };
}

test('a breakpoint on an inlined function is seen from that function, and one on its call from the caller', async () => {
  const onLine = { kind: 'source', path: '/x/init/main.c', line: 15 } as const;
  const onFunction = { kind: 'function', name: 'body' } as const;
  for (const [requests, ids, inline] of [
    [[onLine], 1, 1],
    [[onFunction], 1, 0],
    [[{ ...onFunction, name: 'init/main.c:body' }], 1, 0],
    [[onLine, onFunction], 2, 0],
    // One that does not stop is not seen.
    [[onLine, { ...onFunction, condition: '0' }], 1, 1],
    [[{ ...onFunction, condition: '0' }, onLine], 1, 1],
  ] as const) {
    const seen = await seenWith(requests);
    assert.deepEqual([seen.ids.length, seen.inline], [ids, inline], JSON.stringify(requests));
  }
});

test('a function is seen no longer once the program counter is written', async () => {
  const { context, inline } = await seenWith([{ kind: 'function', name: 'body' }]);
  assert.equal(inline, 0);
  await context.writeRegister(0, 'pc', addressOf('.loop'));
  assert.equal(await context.innermost(0), 1);
});
