// Evaluates expressions in a frame: C's meaning, on values that are read from the guest when they are needed.

import { Gva, hex } from '../base/address.ts';
import { UserError } from '../base/errors.ts';
import { declaration, type Member, sizeOf, stripped, type Type } from '../symbols/types.ts';
import {
  addressOf,
  bytesOf,
  constantValue,
  elementOf,
  findMember,
  implicitPointerOf,
  integerBytes,
  integerOf,
  isScalar,
  memoryValue,
  type Value,
} from '../symbols/value.ts';
import { doubleWord, signedInt, signedLong, unsignedInt, unsignedLong, word } from './expression/builtinTypes.ts';
import { applyBinary, applyUnary, isPointer, type Scalar, scalar } from './expression/operators.ts';
import { parseExpression, parseInput } from './expression/parser.ts';
import type { Expression, PathStep } from './expression/syntax.ts';
import { arrayOf, pointerTo, resolveType, type TypeLookup } from './expression/typeNames.ts';
import { type PointerScope, pointee, targetOf } from './pointee.ts';

/** What expressions are about: the registers of one frame, memory, and names. */
export interface EvaluationScope extends TypeLookup, PointerScope {
  write(address: Gva, bytes: Uint8Array): Promise<void>;
  /** The register's value in the frame and its width in bits; UserError when there is none or it is not known. */
  register(name: string): Promise<{ readonly value: bigint; readonly bits: number }>;
  writeRegister(name: string, value: bigint): Promise<void>;
  /** The name of a DWARF register, for `writeRegister`. */
  registerName(number: number): string | undefined;
  /** A local, a static or a global, by the rules of C; `where` names a file or a function instead. Functions too. */
  variable(name: string, where: string | undefined): Promise<Value | undefined>;
  /** A symbol of the symbol table: its run-time address. */
  symbolAddress(name: string): bigint | undefined;
  enumerator(name: string): { readonly type: Type; readonly value: bigint } | undefined;
  /** `name+0x10` of a run-time address. */
  describe(address: bigint): string | undefined;
  /** Whether a name is a type's and no variable's. */
  isType(name: string): boolean;
}

/** What an expression stands for: a value, and what can be done to it. */
export interface Result {
  readonly value: Value;
  /** `$x0`: assignable by its name. */
  readonly register?: { readonly name: string; readonly bits: number };
  /** A symbol of unknown type, which stands for its address. */
  readonly symbol?: { readonly name: string; readonly address: Gva };
}

const sliceLimit = 1 << 20;

/** Parses and evaluates; UserError on what is wrong with the expression, MemoryFault on what it reads. */
export const evaluate = (text: string, scope: EvaluationScope): Promise<Result> =>
  evaluateExpression(
    parseExpression(text, (name) => scope.isType(name)),
    scope,
  );

/** As `evaluate`, with the format behind a comma: `jiffies,x`. */
export async function evaluateInput(
  text: string,
  scope: EvaluationScope,
): Promise<Result & { readonly format: string | undefined }> {
  const { expression, format } = parseInput(text, (name) => scope.isType(name));
  return { ...(await evaluateExpression(expression, scope)), format };
}

export const evaluateExpression = (expression: Expression, scope: EvaluationScope): Promise<Result> =>
  new Evaluator(scope).result(expression);

/** The number an expression comes to, for conditions and the like. */
export async function numberOf(expression: Expression, scope: EvaluationScope): Promise<bigint> {
  const evaluator = new Evaluator(scope);
  return (await evaluator.scalar(await evaluator.result(expression))).number;
}

class Evaluator {
  constructor(private readonly scope: EvaluationScope) {}

  async result(expression: Expression): Promise<Result> {
    switch (expression.kind) {
      case 'number':
        return constant(literal(expression));
      case 'character':
        return constant(scalar(signedInt, expression.value));
      case 'register':
        return this.#register(expression.name);
      case 'name':
        return this.#name(expression.name, expression.where);
      case 'sizeofType':
        return size(resolveType(expression.type, this.scope));
      case 'sizeof':
        return size((await this.result(expression.operand)).value.type);
      case 'offsetof':
        return constant(scalar(unsignedLong, await this.#offset(expression)));
      case 'containerOf':
        return this.#containerOf(expression);
      case 'cast':
        return this.#cast(resolveType(expression.type, this.scope), await this.result(expression.operand));
      case 'unary':
        return this.#unary(expression);
      case 'binary':
        return this.#binary(expression);
      case 'conditional':
        return this.result((await this.#truth(expression.test)) ? expression.yes : expression.no);
      case 'member':
        return this.#member(expression);
      case 'index':
        return this.#index(expression);
      case 'slice':
        return this.#slice(expression);
      case 'assign':
        return this.#assign(expression);
    }
  }

  /** The number that a result comes to in arithmetic: arrays and functions stand for their addresses (C11 6.3.2.1). */
  async scalar({ value }: Result): Promise<Scalar> {
    const real = stripped(value.type);
    if (real.kind === 'array' || real.kind === 'function') {
      const address = addressOf(value);
      if (address === undefined) throw new UserError('An array that is not in memory has no address.');
      const type = pointerTo(real.kind === 'array' ? real.element : value.type, this.scope.pointerSize);
      return { type, number: address };
    }
    if (!isScalar(value.type)) throw new UserError(`A ${declaration(value.type)} is no number.`);
    if (implicitPointerOf(value) !== undefined) {
      throw new UserError('The pointer was optimised away: it has no value, but what it points to can be shown.');
    }
    return { type: value.type, number: await integerOf(value, this.scope.access) };
  }

  async #number(expression: Expression): Promise<Scalar> {
    return this.scalar(await this.result(expression));
  }

  async #truth(expression: Expression): Promise<boolean> {
    return (await this.#number(expression)).number !== 0n;
  }

  async #register(name: string): Promise<Result> {
    const { value, bits } = await this.scope.register(name);
    const type = bits > 64 ? doubleWord : word;
    return { value: constantValue(type, value), register: { name, bits } };
  }

  async #name(name: string, where: string | undefined): Promise<Result> {
    const variable = await this.scope.variable(name, where);
    if (variable !== undefined) return { value: variable };
    if (where !== undefined) throw new UserError(`There is no \`${name}\` in \`${where}\`.`);
    const enumerator = this.scope.enumerator(name);
    if (enumerator !== undefined) return { value: constantValue(enumerator.type, enumerator.value) };
    const address = this.scope.symbolAddress(name);
    if (address === undefined) throw new UserError(`There is no symbol \`${name}\`.`);
    return { value: constantValue(word, address), symbol: { name, address: Gva(address) } };
  }

  /** The member that a path leads to, as if the object were at address 0. */
  async #walk(type: Type, path: readonly PathStep[]): Promise<Value> {
    let current = memoryValue(type, 0n);
    for (const step of path) {
      if (step.kind === 'member') current = required(current, step.name);
      else current = elementOf(current, Number((await this.#number(step.index)).number));
    }
    return current;
  }

  async #offset({ type, path }: Expression & { kind: 'offsetof' | 'containerOf' }): Promise<bigint> {
    const found = await this.#walk(resolveType(type, this.scope), path);
    const offset = addressOf(found);
    if (offset === undefined) throw new UserError('A bit field has no offset.');
    return offset;
  }

  async #containerOf(expression: Expression & { kind: 'containerOf' }): Promise<Result> {
    const { number } = await this.#number(expression.pointer);
    const type = pointerTo(resolveType(expression.type, this.scope), this.scope.pointerSize);
    return constant(scalar(type, number - (await this.#offset(expression))));
  }

  async #cast(type: Type, operand: Result): Promise<Result> {
    const real = stripped(type);
    if (real.kind === 'void') throw new UserError('Nothing can be cast to void; cast to a pointer to it.');
    // gdb too lets an object be looked at as another type.
    if (!isScalar(type)) {
      const address = addressOf(operand.value) ?? operand.symbol?.address;
      if (address === undefined) throw new UserError(`Only something in memory can be seen as a ${declaration(type)}.`);
      return { value: memoryValue(type, address) };
    }
    // What a pointer points to stays known when only its type changes.
    const isPlace = implicitPointerOf(operand.value) !== undefined && sizeOf(type) === sizeOf(operand.value.type);
    if (isPlace) return { value: { ...operand.value, type } };
    return constant(scalar(type, (await this.scalar(operand)).number));
  }

  async #unary({ operator, operand }: Expression & { kind: 'unary' }): Promise<Result> {
    const result = await this.result(operand);
    if (operator === '*') return { value: await pointee(await this.#pointer(result), this.scope) };
    if (operator !== '&') return constant(applyUnary(operator, await this.scalar(result)));
    const address = addressOf(result.value);
    if (address !== undefined) return constant(scalar(pointerTo(result.value.type, this.scope.pointerSize), address));
    if (result.symbol !== undefined) return constant(scalar(word, result.symbol.address));
    throw new UserError(
      result.value.bits === undefined ? 'Only something in memory has an address.' : 'A bit field has no address.',
    );
  }

  /** What stands for a pointer, or for an address: as it is when it was optimised away, otherwise loaded. */
  async #pointer(result: Result): Promise<Value> {
    return implicitPointerOf(result.value) === undefined ? constant(await this.scalar(result)).value : result.value;
  }

  async #binary({ operator, left, right }: Expression & { kind: 'binary' }): Promise<Result> {
    const first = await this.#number(left);
    // Short circuit: the right side may read memory that only the left side makes valid.
    const decided = operator === '&&' ? first.number === 0n : operator === '||' && first.number !== 0n;
    const second = decided ? first : await this.#number(right);
    return constant(applyBinary(operator, first, second));
  }

  async #member({ base, name, arrow }: Expression & { kind: 'member' }): Promise<Result> {
    const result = await this.result(base);
    const pointer = isPointer(result.value.type);
    // `.` on a pointer is followed, as gdb does; the other way round is a mistake of the user's.
    if (arrow && !pointer && stripped(result.value.type).kind !== 'array') {
      throw new UserError(`A ${declaration(result.value.type)} is no pointer; use \`.${name}\`.`);
    }
    const object = arrow || pointer ? await pointee(await this.#pointer(result), this.scope) : result.value;
    return { value: required(object, name) };
  }

  async #index({ base, index }: Expression & { kind: 'index' }): Promise<Result> {
    const result = await this.result(base);
    const { number } = await this.#number(index);
    const real = stripped(result.value.type);
    if (real.kind === 'array') return { value: elementOf(result.value, Number(number)) };
    return { value: await pointee(await this.#pointer(result), this.scope, number) };
  }

  async #slice({ base, from, to }: Expression & { kind: 'slice' }): Promise<Result> {
    const [start, end] = [(await this.#number(from)).number, (await this.#number(to)).number];
    const count = Number(end - start);
    if (count <= 0 || count > sliceLimit) {
      throw new UserError(`A slice has its end behind its start, and at most ${sliceLimit} elements.`);
    }
    const result = await this.result(base);
    const real = stripped(result.value.type);
    if (real.kind === 'array') {
      const first = elementOf(result.value, Number(start));
      return { value: { ...first, type: arrayOf(real.element, count) } };
    }
    const pointer = await this.#pointer(result);
    return { value: await pointee(pointer, this.scope, start, arrayOf(targetOf(pointer.type), count)) };
  }

  async #assign({ target, value, operator }: Expression & { kind: 'assign' }): Promise<Result> {
    const place = await this.result(target);
    const source = await this.#number(value);
    const { number } = operator === undefined ? source : applyBinary(operator, await this.scalar(place), source);
    await assign(place, number, this.scope);
    return place.register === undefined ? place : this.#register(place.register.name);
  }
}

/** Stores a number in a register, a variable, a member or a bit field. UserError when it does not fit. */
export async function assign(place: Result, number: bigint, scope: EvaluationScope): Promise<void> {
  const { value, register, symbol } = place;
  if (register !== undefined) {
    checkWidth(number, register.bits, register.name);
    await scope.writeRegister(register.name, BigInt.asUintN(register.bits, number));
    return;
  }
  if (symbol !== undefined) {
    throw new UserError(
      `The type of \`${symbol.name}\` is not known; assign through a cast: *(u64 *)${symbol.name} = …`,
    );
  }
  const { location, bits } = value;
  if ((location.kind !== 'memory' && location.kind !== 'register') || !isScalar(value.type)) {
    throw new UserError('Only registers and memory can be assigned to.');
  }
  const width = bits?.size ?? 8 * sizeOf(value.type);
  checkWidth(number, width, `a ${declaration(value.type)}${bits === undefined ? '' : ` of ${bits.size} bits`}`);
  const bytes = bits === undefined ? integerBytes(number, width / 8) : await bitFieldBytes(value, number, scope);
  if (location.kind === 'memory') {
    await scope.write(Gva(BigInt.asUintN(64, location.address + BigInt(value.offset))), bytes);
    return;
  }
  const name = scope.registerName(location.number);
  if (name === undefined) throw new UserError('Its register cannot be written.');
  const whole = integerBytes((await scope.register(name)).value, 8);
  if (value.offset < 0 || value.offset + bytes.length > whole.length) {
    throw new UserError('It is beyond the end of its register.');
  }
  whole.set(bytes, value.offset);
  await scope.writeRegister(
    name,
    whole.reduceRight((all, byte) => (all << 8n) | BigInt(byte), 0n),
  );
}

/** The bytes that hold a bit field, with its bits replaced. */
async function bitFieldBytes(value: Value, number: bigint, scope: EvaluationScope): Promise<Uint8Array> {
  const { shift, size: bitSize } = value.bits ?? { shift: 0, size: 0 };
  const length = Math.ceil((shift + bitSize) / 8);
  const bytes = await bytesOf({ ...value, bits: undefined }, scope.access, length);
  const mask = ((1n << BigInt(bitSize)) - 1n) << BigInt(shift);
  const old = bytes.reduceRight((all, byte) => (all << 8n) | BigInt(byte), 0n);
  return integerBytes((old & ~mask) | ((number << BigInt(shift)) & mask), length);
}

// A negative number means its two's complement; anything wider would be cut silently.
function checkWidth(number: bigint, bits: number, what: string): void {
  if (number >= 1n << BigInt(bits) || number < -(1n << BigInt(bits - 1))) {
    const text = number < 0n ? `${number}` : hex(number);
    throw new UserError(`${text} is too wide for ${what}${what.startsWith('a ') ? '' : `, which has ${bits} bits`}.`);
  }
}

const constant = ({ type, number }: Scalar): Result => ({ value: constantValue(type, number) });

const size = (type: Type): Result => constant(scalar(unsignedLong, BigInt(sizeOf(type))));

function required(value: Value, name: string): Value {
  const found = findMember(value, name);
  if (found !== undefined) return found;
  const real = stripped(value.type);
  if (!('members' in real)) throw new UserError(`A ${declaration(value.type)} has no members.`);
  if (real.incomplete) throw new UserError(`The members of ${declaration(value.type)} are not known.`);
  const names = memberNames(real.members).slice(0, 12);
  throw new UserError(`There is no \`${name}\` in ${declaration(value.type)}; it has ${names.join(', ')}, …`);
}

const memberNames = (members: readonly Member[]): string[] =>
  members.flatMap(({ name }) => (name === undefined ? [] : [name]));

/** C11 6.4.4.1: the first of int, unsigned, long, unsigned long that holds it; a decimal one stays signed. */
function literal({ value, decimal, suffix }: Expression & { kind: 'number' }): Scalar {
  const unsigned = suffix.includes('u');
  const long = suffix.includes('l');
  const types = [
    ...(long ? [] : [...(unsigned ? [] : [signedInt]), ...(unsigned || !decimal ? [unsignedInt] : [])]),
    ...(unsigned ? [] : [signedLong]),
    unsignedLong,
  ];
  const type = types.find((each) => scalar(each, value).number === value) ?? unsignedLong;
  return scalar(type, value);
}
