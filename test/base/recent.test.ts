import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Recent } from '../../src/base/recent.ts';

test('answers are kept, and the one asked for longest ago goes first', () => {
  const asked: string[] = [];
  const recent = new Recent<string, string | undefined>(2);
  const ask = (key: string): string | undefined =>
    recent.of(key, () => {
      asked.push(key);
      return key === 'none' ? undefined : key.toUpperCase();
    });
  assert.deepEqual(['a', 'none', 'a', 'none'].map(ask), ['A', undefined, 'A', undefined]);
  assert.deepEqual(asked, ['a', 'none']);
  ask('a');
  ask('c'); // in the place of 'none'
  assert.deepEqual(['a', 'none'].map(ask), ['A', undefined]);
  assert.deepEqual(asked, ['a', 'none', 'c', 'none']);
});

test('what fails is asked again', () => {
  const recent = new Recent<number, number>(1);
  assert.throws(() =>
    recent.of(1, () => {
      throw new Error('no');
    }),
  );
  assert.equal(
    recent.of(1, () => 2),
    2,
  );
});
