// Arithmetic on integers and addresses as C has it on LP64 machines (C11 6.3.1, 6.5.3 to 6.5.14).

import { UserError } from '../../base/errors.ts';
import { declaration, sizeOf, stripped, type Type } from '../../symbols/types.ts';
import { isInteger, isSigned } from '../../symbols/value.ts';
import { signedInt, signedLong, unsignedInt } from './builtinTypes.ts';
import type { BinaryOperator } from './syntax.ts';

/** A number and its type: what is left of a value once it was loaded. */
export interface Scalar {
  readonly type: Type;
  /** Negative only when the type is signed. */
  readonly number: bigint;
}

export const isPointer = (type: Type): boolean => stripped(type).kind === 'pointer';

export function scalar(type: Type, number: bigint): Scalar {
  const real = stripped(type);
  if (real.kind === 'base' && real.encoding === 'boolean') return { type, number: number === 0n ? 0n : 1n };
  const bits = 8 * Math.max(sizeOf(type), 1);
  return { type, number: isSigned(type) ? BigInt.asIntN(bits, number) : BigInt.asUintN(bits, number) };
}

const truth = (yes: boolean): Scalar => scalar(signedInt, yes ? 1n : 0n);

/** Bytes a pointer moves by in one step; of void and functions one, as GNU C has it. */
export function stride(pointer: Type): bigint {
  const real = stripped(pointer);
  return real.kind === 'pointer' ? BigInt(Math.max(sizeOf(real.target), 1)) : 1n;
}

/** Integer promotion (6.3.1.1). */
function promoted(type: Type): Type {
  const real = stripped(type);
  if (real.kind === 'enum')
    return sizeOf(real) > 4 ? signedLong : real.signed || sizeOf(real) < 4 ? signedInt : unsignedInt;
  if (real.kind === 'pointer' || sizeOf(real) >= 4) return type;
  return signedInt;
}

/** The usual arithmetic conversions (6.3.1.8). */
function common(left: Type, right: Type): Type {
  const [a, b] = [promoted(left), promoted(right)];
  if (isPointer(a)) return a;
  if (isPointer(b)) return b;
  const [sizeA, sizeB] = [sizeOf(a), sizeOf(b)];
  if (sizeA !== sizeB) return sizeA > sizeB ? a : b;
  return isSigned(a) ? b : a;
}

export function applyUnary(operator: '-' | '+' | '~' | '!', operand: Scalar): Scalar {
  if (operator === '!') return truth(operand.number === 0n);
  requireInteger(operand.type, operator);
  const type = promoted(operand.type);
  const { number } = operand;
  return scalar(type, operator === '-' ? -number : operator === '~' ? ~number : number);
}

function requireInteger(type: Type, operator: string): void {
  if (!isInteger(type)) throw new UserError(`\`${operator}\` has no meaning for a ${declaration(type)}.`);
}

export function applyBinary(operator: BinaryOperator, left: Scalar, right: Scalar): Scalar {
  switch (operator) {
    case '&&':
      return truth(left.number !== 0n && right.number !== 0n);
    case '||':
      return truth(left.number !== 0n || right.number !== 0n);
    case '<<':
    case '>>':
      return shift(operator, left, right);
    case '+':
    case '-':
      if (isPointer(left.type) || isPointer(right.type)) return moved(operator, left, right);
      break;
  }
  const type = common(left.type, right.type);
  const [a, b] = [scalar(type, left.number).number, scalar(type, right.number).number];
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
      return scalar(type, arithmetic(operator, a, b));
  }
}

function shift(operator: '<<' | '>>', left: Scalar, right: Scalar): Scalar {
  requireInteger(left.type, operator);
  const type = promoted(left.type);
  const by = right.number;
  if (by < 0n || by >= BigInt(8 * sizeOf(type))) {
    throw new UserError(`A ${declaration(type)} cannot be shifted by ${by} bits; cast it to a wider type first.`);
  }
  return scalar(type, operator === '<<' ? left.number << by : left.number >> by);
}

/** Pointer arithmetic counts in elements (6.5.6). */
function moved(operator: '+' | '-', left: Scalar, right: Scalar): Scalar {
  const [first, second] = [isPointer(left.type), isPointer(right.type)];
  if (first && second) {
    if (operator === '+') throw new UserError('Two pointers cannot be added.');
    return scalar(signedLong, BigInt.asIntN(64, left.number - right.number) / stride(left.type));
  }
  if (first) {
    const by = right.number * stride(left.type);
    return scalar(left.type, operator === '+' ? left.number + by : left.number - by);
  }
  if (operator === '-') throw new UserError('A pointer cannot be subtracted from a number.');
  return scalar(right.type, right.number + left.number * stride(right.type));
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
