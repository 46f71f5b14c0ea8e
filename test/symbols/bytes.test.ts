import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Cursor } from '../../src/base/bytes.ts';
import { FormatError } from '../../src/base/errors.ts';
import { Bytes } from '../support/elfBuilder.ts';

const cursor = (...bytes: number[]): Cursor => new Cursor(Uint8Array.from(bytes), '.test', 0x100);

test('LEB128 examples of the standard (DWARF 5, 7.6, tables 7.7 and 7.8)', () => {
  for (const [value, ...bytes] of [
    [2, 2],
    [127, 127],
    [128, 0x80, 1],
    [129, 0x81, 1],
    [12857, 0xb9, 0x64],
  ] as const) {
    assert.equal(cursor(...bytes).uleb(), value);
    assert.equal(cursor(...bytes).ulebBig(), BigInt(value));
  }
  for (const [value, ...bytes] of [
    [2, 2],
    [-2, 0x7e],
    [127, 0xff, 0],
    [-127, 0x81, 0x7f],
    [128, 0x80, 1],
    [-128, 0x80, 0x7f],
    [129, 0x81, 1],
    [-129, 0xff, 0x7e],
  ] as const) {
    assert.equal(cursor(...bytes).sleb(), value);
    assert.equal(cursor(...bytes).slebBig(), BigInt(value));
  }
});

test('LEB128 of every length, there and back', () => {
  for (let bit = 0n; bit < 63n; bit++) {
    for (const value of [(1n << bit) - 1n, 1n << bit, (1n << bit) + 1n]) {
      const unsigned = new Cursor(new Bytes().uleb(value).done(), '.test');
      assert.equal(unsigned.ulebBig(), value);
      for (const signed of [value, -value]) {
        const bytes = new Bytes().sleb(signed).done();
        assert.equal(new Cursor(bytes, '.test').slebBig(), signed);
        if (value < 1n << 53n) assert.equal(new Cursor(bytes, '.test').sleb(), Number(signed));
      }
      if (value < 1n << 53n) {
        unsigned.position = 0;
        assert.equal(unsigned.uleb(), Number(value));
      }
    }
  }
  assert.equal(cursor(...new Array(9).fill(0xff), 1).ulebBig(), 0xffff_ffff_ffff_ffffn);
  assert.equal(cursor(0x80, 0x80, 0).uleb(), 0, 'padding');
});

test('a LEB128 number that does not end, or is too large, is malformed', () => {
  assert.throws(() => cursor(0x80).uleb(), FormatError);
  assert.throws(() => cursor(...new Array(40).fill(0x80), 0).uleb(), FormatError);
  assert.throws(() => cursor(...new Array(40).fill(0x80), 0).skipLeb(), FormatError);
  assert.throws(() => cursor(...new Array(8).fill(0xff), 0x7f).uleb(), FormatError);
});

test('reads are little endian and say where they failed', () => {
  const bytes = cursor(1, 2, 3, 4, 5, 6, 7, 0x88);
  assert.equal(bytes.u24(), 0x030201);
  bytes.position = 0;
  assert.equal(bytes.u64(), 0x8807_0605_0403_0201n);
  bytes.position = 0;
  assert.throws(() => bytes.u64AsNumber(), FormatError);
  bytes.position = 6;
  assert.throws(
    () => bytes.u32(),
    (error) => error instanceof FormatError && error.where === '.test' && error.offset === 0x106,
  );
  for (const bad of [-1, Number.NaN, 3, Number.POSITIVE_INFINITY]) {
    bytes.position = 6;
    assert.throws(() => bytes.advance(bad), FormatError);
  }
  bytes.position = 99;
  assert.throws(() => bytes.u8(), FormatError);
  assert.throws(() => bytes.string(), FormatError);
});

test('strings end at NUL', () => {
  const bytes = cursor(0x61, 0xc3, 0xa9, 0, 0x62);
  assert.equal(bytes.string(), 'aé');
  assert.throws(() => bytes.string(), /\.test\+0x104/);
});
