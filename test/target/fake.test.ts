/** The fake guest of the DAP and debugger tests does what a Target must. */
import { test } from 'node:test';
import { Gva } from '../../src/base/address.ts';
import { FakeTarget } from '../support/fakeTarget.ts';
import { contract } from './contract.ts';

for (const { name, needs, run } of contract) {
  if (needs !== undefined) continue;
  test(name, async () => {
    const target = new FakeTarget(1);
    target.load(0x1000n, new Uint8Array(0x2000));
    await run({ target, code: Gva(0x1000n), data: Gva(0x2000n), unmapped: Gva(0x10_0000n) });
  });
}
