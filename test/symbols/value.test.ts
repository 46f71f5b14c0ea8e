// C types as C declares them, and values as gdb prints them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryFault } from '../../src/base/errors.ts';
import { formatValue, type ValueFormat } from '../../src/symbols/format.ts';
import { type CompositeType, declaration, type Member, sizeOf, type Type, voidType } from '../../src/symbols/types.ts';
import {
  constantValue,
  integerOf,
  locatedValue,
  memoryValue,
  type Value,
  type ValueAccess,
} from '../../src/symbols/value.ts';

const int: Type = { kind: 'base', name: 'int', size: 4, encoding: 'signed' };
const char: Type = { kind: 'base', name: 'char', size: 1, encoding: 'unsignedChar' };
const bool: Type = { kind: 'base', name: '_Bool', size: 1, encoding: 'boolean' };
const double: Type = { kind: 'base', name: 'double', size: 8, encoding: 'float' };
const pointer = (target: Type): Type => ({ kind: 'pointer', size: 8, target });
const array = (element: Type, count?: number): Type => ({ kind: 'array', element, count });
const qualified = (target: Type): Type => ({ kind: 'qualified', qualifier: 'const', target });
const member = (name: string | undefined, type: Type, offset: number, bits?: Member['bits']): Member => ({
  name,
  type,
  offset,
  bits,
});
const struct = (name: string | undefined, size: number, members: readonly Member[]): CompositeType => ({
  kind: 'struct',
  name,
  size,
  incomplete: false,
  members,
});
const enumeration = (entries: Record<string, bigint>): Type => ({
  kind: 'enum',
  name: 'e',
  size: 4,
  signed: false,
  incomplete: false,
  enumerators: Object.entries(entries).map(([name, value]) => ({ name, value })),
});

test('declarations', () => {
  const callback: Type = { kind: 'function', returns: int, parameters: [pointer(voidType), int], variadic: false };
  const table: [Type, string, string][] = [
    [int, '', 'int'],
    [pointer(int), 'p', 'int *p'],
    [array(pointer(char), 4), 'names', 'char *names[4]'],
    [pointer(array(int, 4)), 'p', 'int (*p)[4]'],
    [array(array(int, 3), 2), 'm', 'int m[2][3]'],
    [array(int), 'tail', 'int tail[]'],
    [pointer(callback), 'call', 'int (*call)(void *, int)'],
    [array(pointer(callback), 2), 'calls', 'int (*calls[2])(void *, int)'],
    [{ kind: 'function', returns: voidType, parameters: [], variadic: false }, 'f', 'void f(void)'],
    [{ ...callback, variadic: true }, 'f', 'int f(void *, int, ...)'],
    [pointer({ kind: 'qualified', qualifier: 'const', target: char }), 's', 'const char *s'],
    [{ kind: 'qualified', qualifier: 'const', target: pointer(char) }, 's', 'char *const s'],
    [qualified(array(qualified(char))), 'banner', 'const char banner[]'],
    [qualified(array(pointer(char), 2)), 'names', 'const char *names[2]'],
    [struct('task', 8, []), 't', 'struct task t'],
    [struct(undefined, 8, []), 't', 'struct {...} t'],
    [{ kind: 'typedef', name: 'u64', target: int }, 'x', 'u64 x'],
  ];
  for (const [type, name, expected] of table) assert.equal(declaration(type, name), expected);
  const ring = { kind: 'typedef', name: 'ring' } as { kind: 'typedef'; name: string; target: Type };
  ring.target = ring;
  assert.equal(sizeOf(ring), 0, 'a ring of typedefs ends');
});

const bytes = new Uint8Array(256);
bytes.set([0xff, 0xff, 0xff, 0xff, 7, 0, 0, 0], 0);
bytes.set(new TextEncoder().encode('swapper\0tail\n"x"'), 16);
new DataView(bytes.buffer).setBigUint64(40, 0x1010n, true);
new DataView(bytes.buffer).setFloat64(48, 1.5, true);
const access: ValueAccess = {
  read: async (address, length) => {
    if (address < 0x1000n || address + BigInt(length) > 0x1100n)
      throw new MemoryFault('virtual', address, 'not mapped');
    return bytes.slice(Number(address) - 0x1000, Number(address) - 0x1000 + length);
  },
  register: (number) => (number === 0 ? 0x8877665544332211n : undefined),
};
const show = (value: Value, format?: ValueFormat, depth = 4): Promise<string> =>
  formatValue(value, access, {
    format,
    depth,
    limit: 200,
    describe: (address) => (address === 0x1010n ? 'text' : undefined),
  });

test('values as text', async () => {
  const flags = enumeration({ A: 1n, B: 2n, C: 8n });
  const plain = enumeration({ ZERO: 0n, ONE: 1n, TWO: 2n, THREE: 3n });
  const point = struct('point', 8, [member('x', int, 0), member('y', int, 4)]);
  const list: CompositeType & { members: Member[] } = { ...struct('list', 8, []), members: [] };
  list.members.push(member('next', pointer(list), 0));
  const table: [Value, string][] = [
    [memoryValue(int, 0x1000n), '-1'],
    [memoryValue(bool, 0x1008n), 'false'],
    [memoryValue(double, 0x1030n), '1.5'],
    [memoryValue(char, 0x1010n), "115 's'"],
    [memoryValue(array(char, 8), 0x1010n), '"swapper"'],
    [memoryValue(array(char, 16), 0x1010n), '"swapper\\000tail\\n\\"x\\""'],
    [memoryValue(pointer(char), 0x1028n), '0x1010 "swapper"'],
    [memoryValue(pointer(int), 0x1028n), '0x1010 <text>'],
    [memoryValue(pointer(list), 0x1060n), '0x0'],
    [memoryValue(point, 0x1000n), '{x = -1, y = 7}'],
    [memoryValue(array(int, 3), 0x1060n), '{0, 0, 0}'],
    [memoryValue(array(int, 20), 0x1060n), '{0 <repeats 20 times>}'],
    [constantValue(flags, 3n), 'A | B'],
    [constantValue(flags, 8n), 'C'],
    [constantValue(flags, 0x11n), 'A | unknown: 0x10'],
    [constantValue(plain, 2n), 'TWO'],
    [constantValue(plain, 5n), '5'],
    [locatedValue(int, { kind: 'register', number: 0 }), '1144201745'],
    [
      locatedValue(struct('pair', 8, [member('a', int, 0), member('b', int, 4)]), {
        kind: 'none',
        why: 'optimised out',
      }),
      '{a = <optimised out>, b = <optimised out>}',
    ],
    [memoryValue(struct('far', 8, [member('x', int, 0)]), 0x9000n), '{x = <cannot access memory at 0x9000>}'],
  ];
  for (const [value, expected] of table) assert.equal(await show(value), expected);
  assert.equal(await show(memoryValue(int, 0x1000n), 'x'), '0xffffffff');
  assert.equal(await show(memoryValue(int, 0x1004n), 'b'), '0b111');
  assert.equal(
    await show(memoryValue(struct('deep', 8, [member('inner', point, 0)]), 0x1000n), undefined, 1),
    '{inner = {…}}',
  );
  await assert.rejects(show(memoryValue(int, 0x9000n)), MemoryFault);
});

test('plain integers in hexadecimal; names, texts and pointers stay', async () => {
  const plain = enumeration({ ZERO: 0n, TWO: 2n, THREE: 3n });
  const hexadecimal = (value: Value, format?: ValueFormat): Promise<string> =>
    formatValue(value, access, {
      format,
      radix: 'hexadecimal',
      depth: 4,
      limit: 200,
      describe: (address) => (address === 0x1010n ? 'text' : undefined),
    });
  const all = struct('all', 0x38, [
    member('minus', int, 0),
    member('seven', int, 4),
    member('field', int, 4, { bitOffset: 32, bitSize: 2 }),
    member('no', bool, 8),
    member('letter', char, 0x10),
    member('text', array(char, 8), 0x10),
    member('to', pointer(int), 0x28),
    member('half', double, 0x30),
  ]);
  assert.equal(
    await hexadecimal(memoryValue(all, 0x1000n)),
    `{minus = 0xffffffff, seven = 0x7, field = 0x3, no = false, letter = 0x73 's', text = "swapper", to = 0x1010 <text>, half = 1.5}`,
  );
  assert.equal(await hexadecimal(constantValue(plain, 2n)), 'TWO');
  assert.equal(await hexadecimal(constantValue(plain, 10n)), '0xa');
  assert.equal(await hexadecimal(memoryValue(int, 0x1000n), 'd'), '-1', 'a format that was asked for comes first');
});

test('a string at the end of what memory has', async () => {
  const end: ValueAccess = {
    ...access,
    read: (address, length) =>
      address + BigInt(length) > 0x101dn
        ? Promise.reject(new MemoryFault('virtual', address, 'behind the end'))
        : access.read(address, length),
  };
  const options = { depth: 1, limit: 200, describe: () => undefined };
  // `swapper` and `tail` begin at 0x1010 and 0x1018; nothing ends `tail`.
  assert.equal(await formatValue(constantValue(pointer(char), 0x1010n), end, options), '0x1010 "swapper"');
  assert.equal(await formatValue(constantValue(pointer(char), 0x1017n), end, options), '0x1017 ""');
  const unbounded = memoryValue(array(qualified(char)), 0x1010n);
  assert.equal(await formatValue(unbounded, end, options), '0x1010 "swapper"', 'extern char text[]');
  const behind = await formatValue(constantValue(pointer(char), 0x1018n), end, options);
  assert.equal(behind, '0x1018 <cannot access memory at 0x101d>', 'without an end');
});

test('bit fields, and objects in pieces', async () => {
  const field = (bitOffset: number, bitSize: number): Value => ({
    type: int,
    location: { kind: 'value', bytes: Uint8Array.of(0b1011_0100, 0b0000_0011) },
    offset: 0,
    bits: { shift: bitOffset, size: bitSize },
  });
  assert.equal(await integerOf(field(2, 3), access), -3n, '0b101 is negative');
  assert.equal(await integerOf(field(6, 4), access), -2n, 'across bytes: 0b1110');
  const pieces = locatedValue(struct('pair', 8, [member('a', int, 0), member('b', int, 4)]), {
    kind: 'pieces',
    pieces: [
      { location: { kind: 'register', number: 0 }, bitSize: 32, bitOffset: 32 },
      { location: { kind: 'memory', address: 0x1004n }, bitSize: 32, bitOffset: 0 },
    ],
  });
  assert.equal(await show(pieces, 'x'), '{a = 0x88776655, b = 0x7}');
});
