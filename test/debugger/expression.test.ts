import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Gva } from '../../src/base/address.ts';
import { MemoryFault, UserError } from '../../src/base/errors.ts';
import { complete, operandStart } from '../../src/debugger/completion.ts';
import { parseConditions, parseHitCondition } from '../../src/debugger/conditions.ts';
import { type EvaluationScope, evaluateInput } from '../../src/debugger/evaluate.ts';
import { requireFormat, resultText } from '../../src/debugger/presentation.ts';
import type { CompositeType, Member, Type } from '../../src/symbols/types.ts';
import { constantValue, memoryValue } from '../../src/symbols/value.ts';

const memory = new Uint8Array(64).map((_, n) => 0xf0 + n);
const registers = new Map([
  ['x0', 0xffff_ffff_ffff_fffen],
  ['v0', 1n << 100n],
]);

const unsignedChar: Type = { kind: 'base', name: 'unsigned char', size: 1, encoding: 'unsignedChar' };
const int: Type = { kind: 'base', name: 'int', size: 4, encoding: 'signed' };
const member = (name: string | undefined, type: Type, offset: number, bits?: [number, number]): Member => ({
  name,
  type,
  offset,
  bits: bits && { bitOffset: bits[0], bitSize: bits[1] },
});
const inner: Type = {
  kind: 'union',
  name: undefined,
  size: 4,
  incomplete: false,
  members: [member('whole', int, 0), member('byte', unsignedChar, 0)],
};
const colour: Type = {
  kind: 'enum',
  name: 'colour',
  size: 4,
  signed: false,
  incomplete: false,
  enumerators: [
    { name: 'RED', value: 1n },
    { name: 'BLUE', value: 2n },
  ],
};
/** `next` makes it a ring of types, as lists are. */
const thing: CompositeType & { members: Member[] } = {
  kind: 'struct',
  name: 'thing',
  size: 24,
  incomplete: false,
  members: [
    member('next', { kind: 'pointer', size: 8, target: { kind: 'void' } }, 0),
    member('low', int, 8, [64, 3]),
    member('high', int, 8, [67, 5]),
    member(undefined, inner, 12),
    member('name', { kind: 'array', element: unsignedChar, count: 4 }, 16),
    member('colour', colour, 20),
  ],
};
thing.members[0] = member('next', { kind: 'pointer', size: 8, target: thing }, 0);

const scope: EvaluationScope = {
  pointerSize: 8,
  access: {
    read: async (address, length) => {
      if (address < 0x1000n || address + BigInt(length) > 0x1040n)
        throw new MemoryFault('virtual', address, 'not mapped');
      return memory.slice(Number(address) - 0x1000, Number(address) - 0x1000 + length);
    },
    register: () => undefined,
  },
  write: async (address: Gva, bytes) => memory.set(bytes, Number(address) - 0x1000),
  register: async (name) => {
    const value = registers.get(name);
    if (value === undefined) throw new UserError(`no register ${name}`);
    return { value, bits: name.startsWith('v') ? 128 : 64 };
  },
  writeRegister: async (name, value) => void registers.set(name, value),
  registerName: () => undefined,
  symbolAddress: (name) => ({ table: 0x1000n, high: 0xffff_8000_0000_0000n })[name],
  variable: async (name, where) => {
    if (name === 'object') return memoryValue(thing, 0x1000n);
    if (name === 'pointer') return constantValue({ kind: 'pointer', size: 8, target: thing }, 0x1000n);
    return name === 'counter' && where === 'file.c' ? memoryValue(int, 0x1004n) : undefined;
  },
  type: (tag, name) => (tag === 'struct' && name === 'thing' ? thing : name === 'thing_t' ? thing : undefined),
  enumerator: (name) => (name === 'BLUE' ? { type: colour, value: 2n } : undefined),
  isType: (name) => name === 'thing_t',
  locateReferenced: async () => ({ kind: 'none', why: 'optimised out' }),
  describe: (address) => (address === 0x1008n ? 'table+0x8' : undefined),
};
const show = async (text: string): Promise<string> => {
  const result = await evaluateInput(text, scope);
  return resultText(result, scope, { format: requireFormat(result.format) });
};

test('values', async () => {
  const table: [string, string][] = [
    ['1 + 2 * 3', '7'],
    ['(1 + 2) * 3 - 10', '-1'],
    ['10 - 2 - 3', '5'],
    ['7 / 2 + 7 % 4', '6'],
    ['-7 / 2', '-3'],
    ['0x10', '16'],
    ['010', '8'],
    ['0b101', '5'],
    ['0xffffffff', '4294967295'],
    ['18446744073709551615', '18446744073709551615'],
    ["'A'", '65'],
    ["'\\n'", '10'],
    ['1 == 1 && 2 > 3 || !0', '1'],
    ['0 && *(u8 *)0', '0'],
    ['1 || *(u8 *)0', '1'],
    ['1 ? 2 : *(u8 *)0', '2'],
    ['5 & 6 | 8 ^ 1', '13'],
    ['~0', '-1'],
    ['~0UL', '18446744073709551615'],
    ['-1 < 0u', '0'],
    ['(u8)300', '44'],
    ['(signed char)200', "-56 '\\310'"],
    ['(unsigned long long)-1,x', '0xffffffffffffffff'],
    ['1UL << 40,x', '0x10000000000'],
    ['-8 >> 1', '-4'],
    ['5,b', '0b101'],
    ['sizeof(long) + sizeof(u16)', '10'],
    ['sizeof(struct thing)', '24'],
    ['sizeof object', '24'],
    ['$x0', '0xfffffffffffffffe'],
    ['$x0,d', '18446744073709551614'],
    ['$x0 + 2 == 0', '1'],
    ['(int)$x0', '-2'],
    ['$v0,x', '0x10000000000000000000000000'],
    ['table', '0x1000 <table>'],
    ['table + 8', '0x1008 <table+0x8>'],
    ['*(u8 *)table', '240'],
    ['*(s16*)(table + 1)', '-3343'],
    ['*(const unsigned int *)0x1000,x', '0xf3f2f1f0'],
    ['*table', '0xf7f6f5f4f3f2f1f0'],
    ['((u16 *)table)[1],x', '0xf3f2'],
    ['&((u32 *)table)[2]', '0x1008 <table+0x8>'],
    ['(u32 *)table + 2', '0x1008 <table+0x8>'],
    ['(u32 *)0x1008 - (u32 *)0x1000', '2'],
    ['(void *)0x1000 + 8', '0x1008 <table+0x8>'],
    ['((u8 *)table)[0..4],x', '{0xf0, 0xf1, 0xf2, 0xf3}'],
  ];
  for (const [text, expected] of table) assert.equal(await show(text), expected, text);
});

test('objects, pointers, members, bit fields, enumerators', async () => {
  const table: [string, string][] = [
    ['object.whole,x', '0xfffefdfc'],
    ['pointer->whole == object.whole', '1'],
    ['pointer.byte', "252 '\\374'"], // a dot on a pointer is followed
    ['object.low', '0'], // bits 0 to 2 of 0xf8
    ['object.high', '-1'], // bits 3 to 7 of 0xf8
    ['object.name', '"\\000\\001\\002\\003"'],
    ['offsetof(struct thing, name[2])', '18'],
    ['offsetof(thing_t, byte)', '12'],
    ['container_of(0x1010, struct thing, name) == pointer', '1'],
    ['((thing_t *)0x1000)->byte', "252 '\\374'"],
    ['(thing_t *)-1 == (struct thing *)-1', '1'],
    ['sizeof(thing_t) - 1', '23'],
    ['BLUE', 'BLUE (2)'],
    ['BLUE + 1', '3'],
    ['(int)BLUE', '2'],
    ["'file.c'::counter,x", '0xf7f6f5f4'],
  ];
  for (const [text, expected] of table) assert.equal(await show(text), expected, text);
});

test('assignment', async () => {
  assert.equal(await show('$x0 = -1'), '0xffffffffffffffff');
  assert.equal(await show('*(u32 *)(table + 0x20) = 0x12345678'), '305419896');
  assert.deepEqual([...memory.subarray(0x20, 0x24)], [0x78, 0x56, 0x34, 0x12]);
  assert.equal(await show('*(u32 *)(table + 0x20) += 1,x'), '0x12345679');
  assert.equal(await show('((u8 *)table)[0x21] = $x0 & 0xff'), '255');
  const before = memory[8];
  assert.equal(await show('object.high = 5'), '5');
  assert.deepEqual([memory[8], await show('object.low')], [((before ?? 0) & 7) | (5 << 3), '0']);
  memory[8] = before ?? 0;
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
    ['(u32 *', /`\)` is expected at column 7/],
    ['1 / 0', /Division by zero/],
    ['&1', /Only something in memory has an address/],
    ['1 = 2', /Only registers and memory can be assigned/],
    ['table = 2', /type of `table` is not known/],
    ['object.nothing', /no `nothing` in struct thing; it has next, low/],
    ['object->low', /is no pointer; use `.low`/],
    ['object + 1', /struct thing is no number/],
    ['(struct nothing *)0', /no type `struct nothing`/],
    ['&object.low', /bit field has no address/],
    ['object.high = 100', /too wide for a int of 5 bits/],
    ['pointer[3..1]', /slice has its end/],
    ['1,z', /no format `,z`/],
    ['*(u8 *)0x1000 = 256', /0x100 is too wide for a u8/],
    ['$x99', /no register x99/],
    ['nowhere', /no symbol `nowhere`/],
    ['('.repeat(1000), /too deeply/],
    ['-'.repeat(1000), /too deeply/],
    ['1'.repeat(5000), /longer than/],
  ];
  for (const [text, message] of table) {
    await assert.rejects(show(text), (error: Error) => {
      assert.ok(error instanceof UserError, text.slice(0, 20));
      assert.match(error.message, message);
      return true;
    });
  }
  await assert.rejects(show('*(u64 *)0x1039'), MemoryFault);
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

test('completion: registers, names in scope, symbols, members', async () => {
  const completing = {
    ...scope,
    registerNames: ['x0', 'x1', 'sp', 'pc'],
    variables: [
      { name: 'object', kind: 'local', type: thing },
      { name: 'origin', kind: 'argument', type: int },
    ],
    fileVariables: [{ name: 'order', type: int }],
    symbolsBeginningWith: (prefix: string) =>
      [
        { name: 'open_file', kind: 'function' },
        { name: 'object', kind: 'object' },
      ].filter(({ name }) => name.startsWith(prefix)),
  };
  const registersBefore = registers.get('x0');
  const table: [text: string, choices: string[]][] = [
    ['$', ['$x0', '$x1', '$sp', '$pc']],
    ['1 + $x', ['$x0', '$x1']],
    ['o', ['object', 'origin', 'order', 'open_file']],
    ['*(ob', ['object']],
    ['object.', ['next', 'low', 'high', 'whole', 'byte', 'name', 'colour']],
    ['object.n', ['next', 'name']],
    ['5 + pointer->next->co', ['colour']],
    ['pointer[0] . lo', ['low']],
    ['((struct thing *)0x1000)->hi', ['high']],
    ['object.low.', []],
    ['unheard_of->', []],
    ['table[$x0 = 3].', []],
    ['object.name[object.low = 1].', []],
    ['object.low = object.', ['next', 'low', 'high', 'whole', 'byte', 'name', 'colour']],
    ['0x', []],
    ['', []],
  ];
  for (const [text, names] of table) {
    const { choices, replaced } = await complete(text, completing);
    assert.deepEqual(
      choices.map(({ name }) => name),
      names,
      text,
    );
    if (names.length > 0) assert.equal(replaced, /\$?\w*$/.exec(text)?.[0].length, text);
  }
  assert.equal(registers.get('x0'), registersBefore, 'nothing is written');
  const { choices } = await complete('o', completing);
  assert.deepEqual(
    choices.map(({ kind, detail }) => [kind, detail]),
    [
      ['variable', 'struct thing'],
      ['argument', 'int'],
      ['variable', 'int'],
      ['function', undefined],
    ],
  );
});

test('where the operand of a member access begins', () => {
  for (const [text, operand] of [
    ['a + b->c[i + 1]', 'b->c[i + 1]'],
    ['f(a, (b))[2].x', 'f(a, (b))[2].x'],
    ['(struct s *)p', 'p'],
    ['$x0', '$x0'],
    ['a->b .c', 'a->b .c'],
    [')', ''],
    ['a + ', ''],
  ] as const) {
    assert.equal(text.slice(operandStart(text)), operand, text);
  }
});
