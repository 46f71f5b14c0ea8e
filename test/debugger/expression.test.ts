import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Gva } from '../../src/base/address.ts';
import { MemoryFault, UserError } from '../../src/base/errors.ts';
import { parseConditions, parseHitCondition } from '../../src/debugger/conditions.ts';
import { type EvaluationScope, evaluate, format } from '../../src/debugger/evaluate.ts';

const memory = new Uint8Array(64).map((_, n) => 0xf0 + n);
const registers = new Map([
  ['x0', 0xffff_ffff_ffff_fffen],
  ['v0', 1n << 100n],
]);
const scope: EvaluationScope = {
  memory: {
    read: async (address, length) => {
      if (address < 0x1000n || address + BigInt(length) > 0x1040n)
        throw new MemoryFault('virtual', address, 'not mapped');
      return memory.slice(Number(address) - 0x1000, Number(address) - 0x1000 + length);
    },
    write: async (address: Gva, bytes) => memory.set(bytes, Number(address) - 0x1000),
  },
  register: async (name) => {
    const value = registers.get(name);
    if (value === undefined) throw new UserError(`no register ${name}`);
    return { value, bits: name.startsWith('v') ? 128 : 64 };
  },
  writeRegister: async (name, value) => void registers.set(name, value),
  symbolAddress: (name) => ({ table: 0x1000n, high: 0xffff_8000_0000_0000n })[name],
};
const show = async (text: string): Promise<string> => {
  return format(await evaluate(text, scope), (address) => (address === 0x1008n ? 'table+0x8' : undefined));
};

test('values', async () => {
  const table: [string, string][] = [
    ['1 + 2 * 3', '7 (0x7)'],
    ['(1 + 2) * 3 - 10', '-1 (0xffffffff)'],
    ['7 / 2 + 7 % 4', '6 (0x6)'],
    ['-7 / 2', '-3 (0xfffffffd)'],
    ['0x10', '16 (0x10)'],
    ['010', '8 (0x8)'],
    ['0xffffffff', '0xffffffff (4294967295)'],
    ['0xffff800000000000', '0xffff800000000000'],
    ['18446744073709551615', '0xffffffffffffffff'],
    ["'A'", '65 (0x41)'],
    ["'\\n'", '10 (0xa)'],
    ['1 == 1 && 2 > 3 || !0', '1 (0x1)'],
    ['0 && *(u8 *)0', '0 (0x0)'],
    ['1 || *(u8 *)0', '1 (0x1)'],
    ['1 ? 2 : *(u8 *)0', '2 (0x2)'],
    ['5 & 6 | 8 ^ 1', '13 (0xd)'],
    ['~0', '-1 (0xffffffff)'],
    ['~0UL', '0xffffffffffffffff'],
    ['-1 < 0u', '0 (0x0)'],
    ['(u8)300', '0x2c (44)'],
    ['(signed char)200', '-56 (0xc8)'],
    ['(unsigned long long)-1', '0xffffffffffffffff'],
    ['1UL << 40', '0x10000000000 (1099511627776)'],
    ['-8 >> 1', '-4 (0xfffffffc)'],
    ['sizeof(long) + sizeof(u16)', '0xa (10)'],
    ['$x0', '0xfffffffffffffffe'],
    ['$x0 + 2 == 0', '1 (0x1)'],
    ['(int)$x0', '-2 (0xfffffffe)'],
    ['$v0', '0x10000000000000000000000000'],
    ['table', '0x1000 <table>'],
    ['&table', '0x1000 (4096)'],
    ['table + 8', '0x1008 <table+0x8>'],
    ['*(u8 *)table', '0xf0 (240)'],
    ['*(s16*)(table + 1)', '-3343 (0xf2f1)'],
    ['*(const unsigned int *)0x1000', '0xf3f2f1f0 (4092785136)'],
    ['*table', '0xf7f6f5f4f3f2f1f0'],
    ['((u16 *)table)[1]', '0xf3f2 (62450)'],
    ['*((u16 *)table + 1)', '0xf3f2 (62450)'],
    ['&((u32 *)table)[2]', '0x1008 <table+0x8>'],
    ['(u32 *)table + 2', '0x1008 <table+0x8>'],
    ['(u32 *)0x1008 - (u32 *)0x1000', '2 (0x2)'],
    ['(void *)0x1000 + 8', '0x1008 <table+0x8>'],
  ];
  for (const [text, expected] of table) assert.equal(await show(text), expected, text);
});

test('assignment', async () => {
  assert.equal(await show('$x0 = -1'), '0xffffffffffffffff');
  assert.equal(await show('*(u32 *)(table + 0x20) = 0x12345678'), '0x12345678 (305419896)');
  assert.deepEqual([...memory.subarray(0x20, 0x24)], [0x78, 0x56, 0x34, 0x12]);
  assert.equal(await show('((u8 *)table)[0x21] = $x0 & 0xff'), '0xff (255)');
});

test('what is wrong is told, with its place', async () => {
  const table: [string, RegExp][] = [
    ['', /Cannot parse ``: the expression ends where a value or an operator is expected at column 1/],
    ['1 +', /column 4/],
    ['(1', /`\)` is expected at column 3/],
    ['1 2', /`2` stands where/],
    ['a @ b', /`@` is not understood at column 3/],
    ['0x', /is not understood/],
    ['08', /no octal number/],
    ['99999999999999999999', /wider than 64 bits/],
    ['(u32 *', /`\)` after the type/],
    ['1 / 0', /Division by zero/],
    ['&1', /Only something in memory has an address/],
    ['1 = 2', /Only registers and memory can be assigned/],
    ['table = 2', /type of `table` is not known/],
    ['*(u8 *)0x1000 = 256', /0x100 is too wide for a u8/],
    ['$x99', /no register x99/],
    ['nowhere', /no symbol `nowhere`/],
    ['('.repeat(1000), /too deeply/],
    ['-'.repeat(1000), /too deeply/],
    ['1'.repeat(5000), /longer than/],
  ];
  for (const [text, message] of table) {
    await assert.rejects(evaluate(text, scope), (error: Error) => {
      assert.ok(error instanceof UserError, text.slice(0, 20));
      assert.match(error.message, message);
      return true;
    });
  }
  await assert.rejects(evaluate('*(u64 *)0x1039', scope), MemoryFault);
});

test('hit conditions', () => {
  const table: [string, number[]][] = [
    ['3', [3]],
    ['== 3', [3]],
    ['= 3', [3]],
    ['>= 4', [4, 5, 6]],
    ['>4', [5, 6]],
    ['< 2', [1]],
    ['<= 2', [1, 2]],
    ['!= 2', [1, 3, 4, 5, 6]],
    [' % 3 ', [3, 6]],
  ];
  for (const [text, expected] of table) {
    const condition = parseHitCondition(text);
    assert.deepEqual([1, 2, 3, 4, 5, 6].filter(condition), expected, text);
  }
  for (const bad of ['x', '3 4', '-1', '% 0', '>']) assert.throws(() => parseHitCondition(bad), /hit condition/);
});

test('log messages', () => {
  assert.deepEqual(parseConditions({ logMessage: 'a \\{b\\}' }).log, [
    { text: 'a ' },
    { text: '{' },
    { text: 'b' },
    { text: '}' },
  ]);
  assert.throws(() => parseConditions({ logMessage: 'a {b' }), /log message is not valid.*without its/);
  assert.throws(() => parseConditions({ logMessage: 'a {1 +}' }), /log message is not valid.*column/);
});
