// The guest's own breakpoint instructions, and the functions of a kernel that is lost.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Gva } from '../../src/base/address.ts';
import { addressOf, fakeGuest } from '../support/fakeKernel.ts';
import { atEntry, type FakeSession } from '../support/fakeSession.ts';

const pc = Gva(addressOf('helper'));
const trap = (immediate: number) => ({ kind: 'guestTrap', vcpu: 0, pc, immediate }) as const;

/** The next run ends with a trap, if the target was told to ask about it; the one after it as the guest ends. */
async function run(fake: FakeSession, immediate: number): Promise<string> {
  if (fake.target.trapFilter?.({ vcpu: 0, pc, immediate }) === true) fake.target.scripted.push([trap(immediate)]);
  await fake.client.request('continue', { threadId: 1 });
  const event = await Promise.race([fake.client.waitFor('stopped'), fake.client.waitFor('terminated')]);
  return event.event === 'terminated' ? 'ended' : event.body.reason;
}

test('a filter stops at its own class of instruction only', async () => {
  for (const [filter, own, other] of [
    ['bug', 0x800, 0x900],
    ['warn', undefined, 0x004],
    ['kasan', 0x9ab, 0x800],
    ['ubsan', 0x5501, 0x8000],
    ['cfi', 0x8123, 0x5500],
    ['kprobe', 0x004, 0x400],
    ['kgdb', 0x400, 0x004],
    ['brk', 0x100, 0x800],
  ] as const) {
    for (const [immediate, expected] of [
      [own, 'exception'],
      [other, 'ended'],
    ] as const) {
      if (immediate === undefined) continue;
      const fake = await atEntry();
      const { breakpoints } = await fake.client.request('setExceptionBreakpoints', { filters: [filter] });
      assert.equal(breakpoints[0].verified, true);
      assert.equal(await run(fake, immediate), expected, `${filter} and 0x${immediate.toString(16)}`);
      if (expected === 'ended') continue;
      const info = await fake.client.request('exceptionInfo', { threadId: 1 });
      assert.equal(info.exceptionId, filter);
      assert.match(info.details.message, /BRK #0x/);
    }
  }
});

test('conditions and hit counts; what they pass by goes on', async () => {
  for (const [options, expected] of [
    [{ condition: '$x0 == 1' }, 'ended'],
    [{ condition: '$x0 == 0' }, 'exception'],
  ] as const) {
    const fake = await atEntry();
    const filterOptions = [{ filterId: 'brk', ...options }];
    await fake.client.request('setExceptionBreakpoints', { filters: [], filterOptions });
    assert.equal(await run(fake, 0x100), expected, JSON.stringify(options));
  }
  const fake = await atEntry();
  const filterOptions = [{ filterId: 'brk', condition: '$x0 ==' }];
  const { breakpoints } = await fake.client.request('setExceptionBreakpoints', { filters: [], filterOptions });
  assert.equal(breakpoints[0].verified, false);
  assert.match(breakpoints[0].message, /condition is not valid/);
  assert.equal(fake.target.trapFilter, undefined, 'a filter that cannot decide takes nothing from the guest');
});

test('a filter whose functions the kernel does not have says which; one that is not there is refused', async () => {
  const fake = await atEntry();
  const { breakpoints } = await fake.client.request('setExceptionBreakpoints', { filters: ['panic', 'bug'] });
  assert.equal(breakpoints[0].verified, false);
  assert.match(breakpoints[0].message, /none of the functions panic in/);
  assert.equal(breakpoints[1].verified, true);
  await assert.rejects(fake.client.request('setExceptionBreakpoints', { filters: ['nothing'] }), /no filter "nothing"/);
  await assert.rejects(fake.client.request('exceptionInfo', { threadId: 1 }), /did not stop at an exception/);
});

test('a filter that the target cannot see the instructions of is not verified, and says why', async () => {
  const target = fakeGuest();
  target.capabilities = { ...target.capabilities, guestTraps: false };
  const { client } = await atEntry({ target });
  const { breakpoints } = await client.request('setExceptionBreakpoints', { filters: ['bug', 'kprobe'] });
  for (const { verified, message } of breakpoints) {
    assert.equal(verified, false);
    assert.match(message, /guest's own are not seen/);
  }
  assert.equal(target.trapFilter, undefined);
});
