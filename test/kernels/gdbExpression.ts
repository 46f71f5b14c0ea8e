/** DWARF expressions as gdb lists them, evaluated in a made-up frame (DWARF 5, 2.5): a second opinion on those of the
 *  symbols' reader, and written apart from it. */
import type { FrameAccess } from '../../src/symbols/image.ts';
import type { Operation } from './gdbScopes.ts';

const cfa = 0x7f00_0000_0000n;
/** All different, and neither small nor negative: the expressions of compilers compare them with such. */
const registerValue = (register: number): bigint => (BigInt(register + 1) << 32n) + BigInt(register * 0x1111);
/** The least significant byte is different in each word. */
const byteAt = (address: bigint): number => Number((address * 7n + 3n) & 0xffn);
const memoryAt = (address: bigint, length: number): Uint8Array =>
  Uint8Array.from({ length }, (_, index) => byteAt(address + BigInt(index)));

/** A frame without a caller. */
export const frameAt = (pc: bigint): FrameAccess => ({
  pc,
  bias: 0n,
  register: registerValue,
  cfa: async () => cfa,
  read: async (address, length) => memoryAt(BigInt.asUintN(64, address), length),
  caller: async () => undefined,
});

/** Little endian. */
export const integer = (bytes: Uint8Array): bigint => bytes.reduceRight((all, byte) => (all << 8n) | BigInt(byte), 0n);

const unsigned = (value: bigint): bigint => BigInt.asUintN(64, value);
const signed = (value: bigint): bigint => BigInt.asIntN(64, value);
const truth = (yes: boolean): bigint => (yes ? 1n : 0n);
const shift = (by: bigint): bigint => (by > 64n ? 64n : by);

/** The generic type has no sign, but division, comparisons and DW_OP_shra are signed (2.5.1.4, 2.5.1.5). */
const binary: Readonly<Record<string, (a: bigint, b: bigint) => bigint>> = {
  plus: (a, b) => a + b,
  minus: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => signed(a) / signed(b),
  mod: (a, b) => a % b,
  and: (a, b) => a & b,
  or: (a, b) => a | b,
  xor: (a, b) => a ^ b,
  shl: (a, b) => a << shift(b),
  shr: (a, b) => a >> shift(b),
  shra: (a, b) => signed(a) >> shift(b),
  eq: (a, b) => truth(a === b),
  ne: (a, b) => truth(a !== b),
  lt: (a, b) => truth(signed(a) < signed(b)),
  le: (a, b) => truth(signed(a) <= signed(b)),
  gt: (a, b) => truth(signed(a) > signed(b)),
  ge: (a, b) => truth(signed(a) >= signed(b)),
};

const unary: Readonly<Record<string, (a: bigint, operand: bigint) => bigint>> = {
  neg: (a) => -a,
  not: (a) => ~a,
  abs: (a) => (signed(a) < 0n ? -a : a),
  plus_uconst: (a, operand) => a + operand,
  deref: (a) => integer(memoryAt(a, 8)),
  deref_size: (a, size) => integer(memoryAt(a, Number(size))),
};

/** What is left of the stack, the top last. */
const stackOperations: Readonly<Record<string, (a: bigint, b: bigint) => readonly bigint[]>> = {
  over: (a, b) => [a, b, a],
  swap: (a, b) => [b, a],
};

/** What is pushed, whatever is on the stack. */
function pushed(name: string, operand: string): bigint | undefined {
  const [, kind, number] = /^(lit|breg)(\d+)$/.exec(name) ?? [];
  if (kind === 'lit') return BigInt(number ?? 0);
  // `-8 [$x29]`
  const value = /^(?:lit|const|fbreg|breg|addr$)/.test(name) ? BigInt(operand.split(' ')[0] ?? '0') : 0n;
  if (kind === 'breg') return registerValue(Number(number)) + value;
  if (name === 'fbreg') return cfa + value;
  return /^const(?:\d?[us])$|^addr$/.test(name) ? value : undefined;
}

export interface Result {
  /** DW_OP_stack_value: `number` is the object's value, otherwise its address. */
  readonly isValue: boolean;
  readonly number: bigint;
}

/** What operations come to; undefined where one of them is not known here: those with types. */
export function evaluate(operations: readonly Operation[]): Result | undefined {
  const stack: bigint[] = [];
  const pop = (): bigint => {
    const top = stack.pop();
    if (top === undefined) throw new Error(`nothing is on the stack: ${operations.map(({ name }) => name)}`);
    return top;
  };
  let isValue = false;
  for (let index = 0; index < operations.length; index++) {
    const { name, operand } = operations[index] ?? { name: '', operand: '' };
    const push = pushed(name, operand);
    const [one, two, rearranged] = [unary[name], binary[name], stackOperations[name]];
    if (push !== undefined) stack.push(unsigned(push));
    else if (one !== undefined) stack.push(unsigned(one(pop(), BigInt(operand.split(' ')[0] || '0'))));
    else if (two !== undefined) {
      const right = pop();
      stack.push(unsigned(two(pop(), right)));
    } else if (name === 'drop') pop();
    else if (name === 'dup') {
      const top = pop();
      stack.push(top, top);
    } else if (rearranged !== undefined) {
      const top = pop();
      stack.push(...rearranged(pop(), top));
    } else if (name === 'bra' || name === 'skip') {
      // gdb shows where to, or the end.
      const target = operations.findIndex(({ at }) => at === Number(operand.replace('to ', '')));
      if (name === 'skip' || pop() !== 0n) index = (target < 0 ? operations.length : target) - 1;
    } else if (name === 'stack_value') isValue = true;
    else return undefined;
  }
  return { isValue, number: pop() };
}
