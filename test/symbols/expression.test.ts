// The stack machine of DWARF expressions, operation by operation (DWARF 5, 2.5 and 2.6).
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FormatError } from '../../src/base/errors.ts';
import { DW_AT } from '../../src/symbols/dwarf/constants.ts';
import type { Die, Dies } from '../../src/symbols/dwarf/dies.ts';
import { type ExpressionContext, evaluateLocation, evaluateNumber } from '../../src/symbols/dwarf/expression.ts';
import type { Location } from '../../src/symbols/dwarf/location.ts';
import { isStaticPlace } from '../../src/symbols/dwarf/operations.ts';
import type { Unit } from '../../src/symbols/dwarf/unit.ts';

const bias = 0x100_0000n;
/** Register n holds 0x1000 * n, but for 9, which is not known. */
const register = (number: number): bigint | undefined => (number === 9 ? undefined : BigInt(0x1000 * number));
/** Base types by the offset of their entries: size, encoding (5 signed, 7 unsigned, 4 float). */
const baseTypes: Readonly<Record<number, readonly [bigint, bigint]>> = { 32: [4n, 5n], 33: [4n, 7n], 34: [8n, 4n] };

const dies = {
  units: {
    info: { name: '.debug_info' },
    sections: { address: (_base: number, index: number) => 0x5000n + BigInt(index) },
  },
  at: (offset: number) => ({ offset }),
  constant: (die: Die, attribute: number) => baseTypes[die.offset]?.[attribute === DW_AT.byteSize ? 0 : 1],
} as unknown as Dies;

const unit = { offset: 0, version: 5, addressSize: 8, offsetSize: 4, addrBase: 8 } as Unit;

const context: ExpressionContext = {
  dies,
  unit,
  frame: {
    pc: 0n,
    bias,
    register,
    cfa: async () => 0xf000n,
    // Memory at address n holds the low bytes of n, counted up.
    read: async (address, length) => Uint8Array.from({ length }, (_, n) => Number(address & 0xffn) + n),
    caller: async () => undefined,
  },
  frameBase: async () => 0xe000n,
  entryValue: async (expression) => (expression[0] === 0x50 ? 77n : undefined),
  parameterValue: async ({ offset }) => BigInt(offset),
  expressionOf: ({ offset }) =>
    offset === 0x40 ? Uint8Array.of(0x35) : offset === 0x41 ? Uint8Array.of(0x98, 0x41, 0) : undefined,
  objectAddress: 0xd000n,
};

const locate = (...bytes: number[]): Promise<Location> => evaluateLocation(Uint8Array.from(bytes), context);
/** What an expression leaves, by making it the value. */
async function value(...bytes: number[]): Promise<bigint> {
  const location = await locate(...bytes, 0x9f);
  if (location.kind !== 'value') throw new Error(JSON.stringify(location));
  return location.bytes.reduceRight((all, byte) => (all << 8n) | BigInt(byte), 0n);
}
const minus = (number: bigint): bigint => BigInt.asUintN(64, -number);

test('what operations leave on the stack', async () => {
  const table: [string, number[], bigint][] = [
    ['lit0', [0x30], 0n],
    ['lit31', [0x4f], 31n],
    ['addr', [0x03, 1, 2, 0, 0, 0, 0, 0, 0], 0x201n + bias],
    ['addrx', [0xa1, 3], 0x5003n + bias],
    ['constx', [0xa2, 3], 0x5003n],
    ['const1u', [0x08, 0xff], 255n],
    ['const1s', [0x09, 0xff], minus(1n)],
    ['const2u', [0x0a, 1, 2], 0x201n],
    ['const2s', [0x0b, 0xff, 0xff], minus(1n)],
    ['const4u', [0x0c, 1, 2, 3, 4], 0x4030201n],
    ['const4s', [0x0d, 0xfe, 0xff, 0xff, 0xff], minus(2n)],
    ['const8u', [0x0e, 1, 0, 0, 0, 0, 0, 0, 0x80], 0x8000_0000_0000_0001n],
    ['const8s', [0x0f, 1, 0, 0, 0, 0, 0, 0, 0x80], 0x8000_0000_0000_0001n],
    ['constu', [0x10, 0x80, 0x01], 128n],
    ['consts', [0x11, 0x7f], minus(1n)],
    ['dup plus', [0x35, 0x12, 0x22], 10n],
    ['drop', [0x35, 0x36, 0x13], 5n],
    ['over', [0x35, 0x36, 0x14], 5n],
    ['pick 2', [0x35, 0x36, 0x37, 0x15, 2], 5n],
    ['swap minus', [0x35, 0x3a, 0x16, 0x1c], 5n],
    ['rot', [0x31, 0x32, 0x33, 0x17], 2n],
    ['abs', [0x11, 0x7b, 0x19], 5n],
    ['and', [0x3c, 0x3a, 0x1a], 8n],
    ['div is signed', [0x11, 0x7a, 0x32, 0x1b], minus(3n)],
    ['minus', [0x32, 0x35, 0x1c], minus(3n)],
    ['mod', [0x37, 0x34, 0x1d], 3n],
    ['mul', [0x37, 0x34, 0x1e], 28n],
    ['neg', [0x37, 0x1f], minus(7n)],
    ['not', [0x30, 0x20], minus(1n)],
    ['or', [0x38, 0x31, 0x21], 9n],
    ['plus_uconst', [0x38, 0x23, 0x81, 0x01], 137n],
    ['shl', [0x31, 0x34, 0x24], 16n],
    ['shl by too much', [0x31, 0x08, 64, 0x24], 0n],
    ['shr', [0x11, 0x7f, 0x08, 60, 0x25], 15n],
    ['shra', [0x11, 0x7e, 0x31, 0x26], minus(1n)],
    ['xor', [0x3c, 0x3a, 0x27], 6n],
    ['eq', [0x31, 0x31, 0x29], 1n],
    ['ge is signed', [0x11, 0x7f, 0x30, 0x2a], 0n],
    ['gt', [0x32, 0x31, 0x2b], 1n],
    ['le', [0x32, 0x31, 0x2c], 0n],
    ['lt is signed', [0x11, 0x7f, 0x30, 0x2d], 1n],
    ['ne', [0x31, 0x31, 0x2e], 0n],
    ['bra taken', [0x35, 0x31, 0x28, 1, 0, 0x36], 5n],
    ['bra not taken', [0x35, 0x30, 0x28, 1, 0, 0x36], 6n],
    ['skip', [0x35, 0x2f, 1, 0, 0x36], 5n],
    ['breg2', [0x72, 0x7f], 0x1fffn],
    ['bregx', [0x92, 33, 4], 0x21004n],
    ['fbreg', [0x91, 0x70], 0xdff0n],
    ['call_frame_cfa', [0x9c], 0xf000n],
    ['push_object_address', [0x97], 0xd000n],
    ['deref', [0x34, 0x06], 0x0b0a090807060504n],
    ['deref_size', [0x34, 0x94, 2], 0x0504n],
    ['deref_type', [0x34, 0xa6, 4, 0x21], 0x07060504n],
    ['const_type', [0xa4, 0x20, 4, 0xff, 0xff, 0xff, 0xff], 0xffff_ffffn],
    ['regval_type', [0xa5, 2, 0x21], 0x2000n],
    ['convert of a signed type extends its sign', [0xa4, 0x20, 4, 0xff, 0xff, 0xff, 0xff, 0xa8, 0], minus(1n)],
    ['convert of an unsigned type does not', [0xa4, 0x21, 4, 0xff, 0xff, 0xff, 0xff, 0xa8, 0], 0xffff_ffffn],
    ['reinterpret', [0xa4, 0x20, 4, 0xff, 0xff, 0xff, 0xff, 0xa9, 0], 0xffff_ffffn],
    ['arithmetic of a type wraps in it', [0xa4, 0x21, 4, 0xff, 0xff, 0xff, 0xff, 0xa4, 0x21, 4, 1, 0, 0, 0, 0x22], 0n],
    ['entry_value', [0xa3, 1, 0x50], 77n],
    ['GNU_entry_value', [0xf3, 1, 0x50], 77n],
    ['GNU_parameter_ref', [0xfa, 0x34, 0x12, 0, 0], 0x1234n],
    ['call2', [0x98, 0x40, 0], 5n],
    ['call4', [0x99, 0x40, 0, 0, 0], 5n],
    ['nop, GNU_uninit', [0x35, 0x96, 0xf0], 5n],
  ];
  for (const [name, bytes, expected] of table) assert.equal(await value(...bytes), expected, name);
});

test('places', async () => {
  assert.deepEqual(await locate(0x91, 0), { kind: 'memory', address: 0xe000n });
  assert.deepEqual(await locate(0x53), { kind: 'register', number: 3 });
  assert.deepEqual(await locate(0x90, 65), { kind: 'register', number: 65 });
  assert.deepEqual(await locate(0x9e, 2, 7, 8), { kind: 'value', bytes: Uint8Array.of(7, 8) });
  assert.deepEqual(await locate(0xa0, 4, 3, 2, 1, 0x7f), { kind: 'implicitPointer', die: 0x01020304, offset: -1n });
  assert.deepEqual(await locate(), { kind: 'none', why: 'optimised out' });
  // Eight bytes of register 1, four that are gone, three bits of memory.
  assert.deepEqual(await locate(0x51, 0x93, 8, 0x93, 4, 0x34, 0x9d, 3, 5), {
    kind: 'pieces',
    pieces: [
      { location: { kind: 'register', number: 1 }, bitSize: 64, bitOffset: 0 },
      { location: { kind: 'none', why: 'optimised out' }, bitSize: 32, bitOffset: 0 },
      { location: { kind: 'memory', address: 4n }, bitSize: 3, bitOffset: 5 },
    ],
  });
});

test('what the frame does not know is no value, and says why', async () => {
  assert.deepEqual(await locate(0x79, 0), { kind: 'none', why: 'its register was not saved' });
  const entry = await locate(0xa3, 1, 0x51, 0x9f);
  assert.match(entry.kind === 'none' ? entry.why : '', /entry to the function/);
  const thread = await locate(0x30, 0x9b);
  assert.match(thread.kind === 'none' ? thread.why : '', /thread-local/);
  const float = await locate(0xa4, 0x22, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x22, 0x9f);
  assert.match(float.kind === 'none' ? float.why : '', /floating point/);
  assert.equal(await evaluateNumber(Uint8Array.of(0x79, 0), context), undefined);
  assert.equal(await evaluateNumber(Uint8Array.of(0x52), context), 0x2000n, 'a register means its content');
  assert.equal(await evaluateNumber(Uint8Array.of(0x38, 0x22), context, [2n]), 10n, 'what is on the stack before');
});

test('damaged expressions end in an error, and soon', async () => {
  const table: [string, number[], RegExp][] = [
    ['an empty stack', [0x22], /stack is empty/],
    ['a pick beyond the stack', [0x30, 0x15, 3], /1 operands/],
    ['cut short', [0x0c, 1], /4 bytes wanted/],
    ['unknown', [0x01], /operation 0x1 is not supported/],
    ['a loop', [0x2f, 0xfd, 0xff], /steps/],
    ['a growing loop', [0x30, 0x2f, 0xfc, 0xff], /operands/],
    ['a call of itself', [0x98, 0x41, 0], /calls/],
    ['a branch out', [0x2f, 0, 0x40], /branch to/],
    ['a division by zero', [0x31, 0x30, 0x1b], /division by zero/],
    ['a huge dereference', [0x31, 0x94, 200], /value of 200 bytes/],
    ['a type that is none', [0xa4, 0x7f, 0], /base type of 0 bytes/],
  ];
  for (const [name, bytes, message] of table) {
    await assert.rejects(
      locate(...bytes),
      (error: unknown) => error instanceof FormatError && message.test(error.message),
      name,
    );
  }
});

test('places of variables of static storage', () => {
  const address = [0x03, 1, 2, 3, 4, 5, 6, 7, 0x9f];
  const table: [string, number[], boolean][] = [
    ['an address', address, true],
    ['an address of 4 bytes', [0x03, 1, 2, 3, 4], true],
    ['an indexed address', [0xa1, 0x81, 1], true],
    ['one of a split unit', [0xfb, 3], true],
    ['behind an empty piece', [0x93, 0x84, 0, 0xa1, 3, 0x93, 4], true],
    ['computed from what is there', [0xa1, 3, 0x94, 1, 0x9f], true],
    ['an address that is the value', [...address, 0x9f], false],
    ['one of 4 bytes', [0x03, 1, 2, 3, 4, 0x9f], false],
    ['an indexed one', [0xa1, 0x81, 1, 0x9f], false],
    ['on the stack', [0x91, 0x10], false],
    ['an empty piece only', [0x93, 4], false],
    ['cut short', [0x93, 0x80], false],
    ['nothing', [], false],
  ];
  for (const [name, bytes, expected] of table) assert.equal(isStaticPlace(Uint8Array.from(bytes)), expected, name);
});
