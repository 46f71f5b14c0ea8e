/** A debugger of the fake guest, and its user. */
import assert from 'node:assert/strict';
import { Debugger, type Stop } from '../../src/debugger/debugger.ts';
import type { Granularity, StepKind } from '../../src/debugger/stepping.ts';
import { addressOf, fakeGuest, fakeSymbols } from './fakeKernel.ts';
import type { FakeTarget } from './fakeTarget.ts';

export function debug(target: FakeTarget, symbols = fakeSymbols) {
  const stops: Stop[] = [];
  let wake: (() => void) | undefined;
  const instance = new Debugger(
    target,
    symbols,
    { breakpointMode: 'auto', sourceMap: {} },
    {
      stopped: (stop) => {
        stops.push(stop);
        wake?.();
      },
      exited: () => assert.fail('exited'),
      resumed: () => undefined,
      breakpointChanged: () => undefined,
      output: () => undefined,
      failed: (error) => assert.fail(String(error)),
    },
  );
  const step = async (kind: StepKind, granularity: Granularity, vcpu = 0): Promise<Stop> => {
    const start = await instance.prepareStep(kind, granularity, vcpu);
    const stopped = new Promise<void>((resolve) => {
      wake = resolve;
    });
    start();
    await stopped;
    return stops.at(-1) as Stop;
  };
  return { instance, stops, step };
}

/** vCPU 0 in `helper` before its call of `inner`, called by start_kernel. */
export function inHelper(vcpus = 1): FakeTarget {
  const target = fakeGuest(vcpus, { mapped: true });
  target.set(0, 'pc', addressOf('start_kernel'));
  return target;
}
