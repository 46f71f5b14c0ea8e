import { Gva, hex } from '../base/address.ts';
import { UserError } from '../base/errors.ts';
import type { VirtualMemory } from '../base/memory.ts';
import {
  type BinaryOperator,
  type Expression,
  type IntegerType,
  parseExpression,
  signedInt,
  unsignedLong,
} from './expression.ts';

/** What expressions are about: the registers of one frame, memory, and names. */
export interface EvaluationScope {
  readonly memory: VirtualMemory;
  /** The register's value in the frame and its width in bits; UserError when there is none or it is not known. */
  register(name: string): Promise<{ readonly value: bigint; readonly bits: number }>;
  writeRegister(name: string, value: bigint): Promise<void>;
  /** Run-time address of a symbol, or undefined. */
  symbolAddress(name: string): bigint | undefined;
}

/** Where a value lives, for assignment and for `&`. */
export type Place =
  | { readonly kind: 'register'; readonly name: string; readonly bits: number }
  | { readonly kind: 'memory'; readonly address: Gva }
  /** A name whose type is not known: it stands for its address. */
  | { readonly kind: 'symbol'; readonly name: string; readonly address: Gva };

/** `value` is a signed number when the type is signed, else unsigned. */
export interface Value {
  readonly value: bigint;
  readonly type: IntegerType;
  readonly place?: Place;
}

/** Parses and evaluates; UserError on what is wrong with the expression, MemoryFault on what it reads. */
export const evaluate = async (text: string, scope: EvaluationScope): Promise<Value> =>
  evaluateExpression(parseExpression(text), scope);

export async function evaluateExpression(expression: Expression, scope: EvaluationScope): Promise<Value> {
  switch (expression.kind) {
    case 'number':
      return make(expression.value, expression.type);
    case 'sizeof':
      return make(BigInt(sizeOf(expression.type)), unsignedLong);
    case 'register': {
      const { value, bits } = await scope.register(expression.name);
      const type = bits > 64 ? { ...unsignedLong, name: 'u128', bytes: bits / 8 } : unsignedLong;
      return { value, type, place: { kind: 'register', name: expression.name, bits } };
    }
    case 'symbol': {
      const address = scope.symbolAddress(expression.name);
      if (address === undefined) throw new UserError(`There is no symbol \`${expression.name}\`.`);
      return {
        ...make(address, unsignedLong),
        place: { kind: 'symbol', name: expression.name, address: Gva(address) },
      };
    }
    case 'cast': {
      const { value } = await evaluateExpression(expression.operand, scope);
      return make(value, expression.type);
    }
    case 'index': {
      const base = await evaluateExpression(expression.base, scope);
      const { value } = await evaluateExpression(expression.index, scope);
      return load(add(base, value), scope);
    }
    case 'conditional': {
      const { value } = await evaluateExpression(expression.test, scope);
      return evaluateExpression(value !== 0n ? expression.yes : expression.no, scope);
    }
    case 'unary':
      return unary(expression.operator, expression.operand, scope);
    case 'binary':
      return binary(expression.operator, expression.left, expression.right, scope);
    case 'assign':
      return assign(expression.target, expression.value, scope);
  }
}

const sizeOf = (type: IntegerType): number => (type.pointers > 0 ? 8 : type.bytes);

function make(value: bigint, type: IntegerType): Value {
  const bits = 8 * sizeOf(type);
  return { value: type.signed && type.pointers === 0 ? BigInt.asIntN(bits, value) : BigInt.asUintN(bits, value), type };
}

const pointee = (type: IntegerType): IntegerType => ({ ...type, pointers: type.pointers - 1 });

/** Pointer arithmetic counts in elements (C11 6.5.6); void pointers in bytes, as GNU C does. */
const scale = (type: IntegerType): bigint => (type.pointers > 0 ? BigInt(sizeOf(pointee(type))) : 1n);

const add = (base: Value, offset: bigint): Value => make(base.value + offset * scale(base.type), base.type);

async function load(pointer: Value, scope: EvaluationScope): Promise<Value> {
  // Without a type an address is taken to point at an unsigned long, as gdb's `x` would show it.
  const type = pointer.type.pointers > 0 ? pointee(pointer.type) : unsignedLong;
  const address = Gva(pointer.value);
  const bytes = await scope.memory.read(address, sizeOf(type));
  return { ...make(fromBytes(bytes), type), place: { kind: 'memory', address } };
}

async function unary(operator: string, operand: Expression, scope: EvaluationScope): Promise<Value> {
  const value = await evaluateExpression(operand, scope);
  switch (operator) {
    case '*':
      return load(value, scope);
    case '&':
      if (value.place?.kind === 'memory' || value.place?.kind === 'symbol') {
        const type =
          value.place.kind === 'memory' ? { ...value.type, pointers: value.type.pointers + 1 } : unsignedLong;
        return make(value.place.address, type);
      }
      throw new UserError('Only something in memory has an address.');
    case '!':
      return make(value.value === 0n ? 1n : 0n, signedInt);
    case '~':
      return make(~value.value, promote(value.type));
    case '-':
      return make(-value.value, promote(value.type));
    default:
      return make(value.value, promote(value.type));
  }
}

// Integer promotions and usual arithmetic conversions (C11 6.3.1.1, 6.3.1.8).
const promote = (type: IntegerType): IntegerType => (type.pointers === 0 && type.bytes < 4 ? signedInt : type);

function common(left: IntegerType, right: IntegerType): IntegerType {
  const [a, b] = [promote(left), promote(right)];
  if (a.pointers > 0) return a;
  if (b.pointers > 0) return b;
  if (a.bytes !== b.bytes) return a.bytes > b.bytes ? a : b;
  return a.signed ? b : a;
}

async function binary(
  operator: BinaryOperator,
  leftExpression: Expression,
  rightExpression: Expression,
  scope: EvaluationScope,
): Promise<Value> {
  const left = await evaluateExpression(leftExpression, scope);
  const truth = (yes: boolean): Value => make(yes ? 1n : 0n, signedInt);
  // Short circuit: the right side may read memory that only the left side makes valid.
  if (operator === '&&' && left.value === 0n) return truth(false);
  if (operator === '||' && left.value !== 0n) return truth(true);
  const right = await evaluateExpression(rightExpression, scope);
  if (operator === '&&' || operator === '||') return truth(right.value !== 0n);

  if (operator === '+' || operator === '-') {
    const sign = operator === '+' ? 1n : -1n;
    if (left.type.pointers > 0 && right.type.pointers > 0 && operator === '-') {
      const bytes = BigInt.asIntN(64, left.value - right.value);
      return make(bytes / scale(left.type), { ...unsignedLong, name: 'long', signed: true });
    }
    if (left.type.pointers > 0) return add(left, sign * right.value);
    if (right.type.pointers > 0 && operator === '+') return add(right, left.value);
  }
  if (operator === '<<' || operator === '>>') {
    const type = promote(left.type);
    const by = right.value;
    if (by < 0n || by >= BigInt(8 * sizeOf(type))) {
      throw new UserError(`A ${typeName(type)} cannot be shifted by ${by} bits; cast it to a wider type first.`);
    }
    return make(operator === '<<' ? left.value << by : left.value >> by, type);
  }
  const type = common(left.type, right.type);
  const [a, b] = [make(left.value, type).value, make(right.value, type).value];
  switch (operator) {
    case '==':
      return truth(a === b);
    case '!=':
      return truth(a !== b);
    case '<':
      return truth(a < b);
    case '<=':
      return truth(a <= b);
    case '>':
      return truth(a > b);
    case '>=':
      return truth(a >= b);
    default:
      return make(arithmetic(operator, a, b), type);
  }
}

function arithmetic(operator: BinaryOperator, a: bigint, b: bigint): bigint {
  switch (operator) {
    case '+':
      return a + b;
    case '-':
      return a - b;
    case '*':
      return a * b;
    case '&':
      return a & b;
    case '|':
      return a | b;
    case '^':
      return a ^ b;
    default:
      if (b === 0n) throw new UserError('Division by zero.');
      return operator === '/' ? a / b : a % b;
  }
}

async function assign(target: Expression, source: Expression, scope: EvaluationScope): Promise<Value> {
  const { value } = await evaluateExpression(source, scope);
  if (target.kind === 'register') {
    const { bits } = await scope.register(target.name);
    // A negative number means its two's complement; anything wider would be cut silently.
    if (value >= 1n << BigInt(bits) || value < -(1n << BigInt(bits - 1))) {
      throw new UserError(`${hex(value)} is too wide for ${target.name}, which has ${bits} bits.`);
    }
    const stored = BigInt.asUintN(bits, value);
    await scope.writeRegister(target.name, stored);
    return { value: stored, type: unsignedLong, place: { kind: 'register', name: target.name, bits } };
  }
  const current = await evaluateExpression(target, scope);
  if (current.place?.kind === 'symbol') {
    throw new UserError(
      `The type of \`${current.place.name}\` is not known; assign through a cast: *(u64 *)${current.place.name} = …`,
    );
  }
  if (current.place?.kind !== 'memory') throw new UserError('Only registers and memory can be assigned to.');
  const bits = 8 * sizeOf(current.type);
  if (value >= 1n << BigInt(bits) || value < -(1n << BigInt(bits - 1))) {
    throw new UserError(`${hex(value)} is too wide for a ${typeName(current.type)}.`);
  }
  await scope.memory.write(current.place.address, toBytes(value, bits / 8));
  return { ...make(value, current.type), place: current.place };
}

export const typeName = (type: IntegerType): string =>
  type.pointers > 0 ? `${type.name} ${'*'.repeat(type.pointers)}` : type.name;

// Every supported guest is little endian.
export const fromBytes = (bytes: Uint8Array): bigint =>
  bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);

export const toBytes = (value: bigint, length: number): Uint8Array =>
  Uint8Array.from({ length }, (_, n) => Number((value >> BigInt(8 * n)) & 0xffn));

/** Shows a value: hexadecimal first, then the symbol it points to or the decimal number. */
export function format({ value, type, place }: Value, describe: (address: bigint) => string | undefined): string {
  const raw = hex(BigInt.asUintN(8 * sizeOf(type), value));
  if (type.signed && type.pointers === 0) return value < 0n ? `${value} (${raw})` : `${value} (${raw})`;
  const symbol = place?.kind === 'symbol' ? place.name : sizeOf(type) === 8 ? describe(value) : undefined;
  if (symbol !== undefined) return `${raw} <${symbol}>`;
  return value > 9n && value < 1n << 53n && type.pointers === 0 ? `${raw} (${value})` : raw;
}
