import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Gpa, Gva } from '../../src/base/address.ts';
import { MemoryFault } from '../../src/base/errors.ts';
import { type Journal, noJournal } from '../../src/target/kvm/journal.ts';
import type { SlotMemory } from '../../src/target/kvm/memorySlots.ts';
import { breakInstruction, StopPoints } from '../../src/target/kvm/stopPoints.ts';
import { UnplantedBreakpoints } from '../../src/target/target.ts';

const places = [0x1000n, 0x2000n, 0x3000n].map(Gpa);
const [first = Gpa(0n), second = Gpa(0n), third = Gpa(0n)] = places;
const original = Uint8Array.of(1, 2, 3, 4);

/** Guest memory of some words, of which one may become inaccessible. */
class Words {
  readonly words = new Map<Gpa, Uint8Array>(places.map((gpa) => [gpa, original]));
  lost: { readonly gpa: Gpa; readonly to: 'reads' | 'writes' } | undefined;
  readonly slots = { find: (gpa: Gpa) => (this.words.has(gpa) ? {} : undefined) };

  #check(gpa: Gpa, what: 'reads' | 'writes'): void {
    if (this.lost?.gpa === gpa && this.lost.to === what) throw new MemoryFault('host', gpa, 'gone');
  }

  hva(gpa: Gpa): bigint {
    return gpa;
  }

  readNow(gpa: Gpa): Uint8Array {
    this.#check(gpa, 'reads');
    return this.words.get(gpa) ?? assert.fail();
  }

  writeNow(gpa: Gpa, bytes: Uint8Array): void {
    this.#check(gpa, 'writes');
    this.words.set(gpa, bytes);
  }

  readEach(addresses: readonly Gpa[]): readonly Uint8Array[] {
    return addresses.map((gpa) => this.readNow(gpa));
  }

  writeEach(pieces: ReadonlyMap<Gpa, Uint8Array>): void {
    for (const [gpa, bytes] of pieces) this.writeNow(gpa, bytes);
  }
}

function withBreakpoints(journal: Journal = noJournal) {
  const memory = new Words();
  const points = new StopPoints(
    memory as unknown as SlotMemory,
    { hardwareBreakpoints: 0, hardwareWatchpoints: 0 },
    journal,
  );
  for (const gpa of places) points.addSoftware(Gva(gpa), gpa);
  return { memory, points };
}

for (const to of ['reads', 'writes'] as const) {
  test(`a place that is lost to ${to} keeps no other breakpoint in guest memory`, () => {
    const { memory, points } = withBreakpoints();
    points.plant();
    assert.deepEqual([...memory.words.values()], [breakInstruction, breakInstruction, breakInstruction]);
    memory.lost = { gpa: second, to };
    assert.throws(() => points.lift(), { name: 'SessionError', message: /0x2000 cannot be taken out/ });
    assert.deepEqual([memory.words.get(first), memory.words.get(third)], [original, original]);
    assert.deepEqual(points.takeRewritten(), []);
    memory.lost = undefined;
    points.plant();
    assert.deepEqual([...memory.words.values()], [breakInstruction, breakInstruction, breakInstruction]);
    points.lift();
    assert.deepEqual([...memory.words.values()], [original, original, original]);
    assert.deepEqual(points.takeRewritten(), []);
  });
}

test('without the journal nothing is planted, and nothing counts as rewritten', () => {
  let isOpen = true;
  const enter = (): void => {
    if (!isOpen) throw new Error('no guardian');
  };
  const { memory, points } = withBreakpoints({ ...noJournal, enter });
  isOpen = false;
  assert.throws(() => points.plant(), /no guardian/);
  points.lift();
  assert.deepEqual([...memory.words.values()], [original, original, original]);
  assert.deepEqual(points.takeRewritten(), []);
});

test('a place that cannot be written says so, with the cause, and is not planted', () => {
  const { memory, points } = withBreakpoints();
  memory.lost = { gpa: second, to: 'writes' };
  assert.throws(
    () => points.plant(),
    (thrown: Error) => {
      assert.ok(thrown instanceof UnplantedBreakpoints && thrown.cause instanceof MemoryFault);
      assert.match(thrown.message, /0x2000/);
      assert.deepEqual(
        thrown.ids,
        [second, third].flatMap((gpa) => points.softwareAt(gpa)),
      );
      return true;
    },
  );
  points.lift();
  assert.deepEqual([...memory.words.values()], [original, original, original]);
});

test('an access is that of the watchpoints for its kind', () => {
  const points = new StopPoints(
    new Words() as unknown as SlotMemory,
    { hardwareBreakpoints: 0, hardwareWatchpoints: 4 },
    noJournal,
  );
  const add = (access: 'read' | 'write' | 'readWrite') =>
    points.addWatch({ kind: 'watch', address: Gva(0x1000n), length: 8, access });
  const [read, write, both] = [add('read'), add('write'), add('readWrite')];
  assert.deepEqual(points.watchNear(Gva(0x1004n), false), [read, both]);
  assert.deepEqual(points.watchNear(Gva(0x1004n), true), [write, both]);
});
