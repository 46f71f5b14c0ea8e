// Values as the user sees them: one line of text, and the parts it unfolds into.
import { hex } from '../base/address.ts';
import { UserError } from '../base/errors.ts';
import { formatValue, type Radix, unreadable, type ValueFormat, valueFormats } from '../symbols/format.ts';
import { type Member, sizeOf, stripped, type Type } from '../symbols/types.ts';
import { addressOf, elementOf, integerOf, memberOf, NoValueError, type Value } from '../symbols/value.ts';
import type { EvaluationScope, Result } from './evaluate.ts';
import { word } from './expression/builtinTypes.ts';
import { pointee } from './pointee.ts';
import { wordText } from './registerText.ts';

/** A part of a value: a member, an element, or what a pointer points to. */
export interface Part {
  readonly name: string;
  readonly value: Value;
  /** The expression that means the part, in the frame of the whole. */
  readonly expression: string;
}

/** How many parts a value has; undefined when it is shown whole. */
export interface Unfolding {
  readonly named: number;
  readonly indexed: number;
}

const depth = 2;
const limit = 200;
/** Of a pointer's string, and of characters in an array. */
const memberLimit = 4096;

export function requireFormat(format: string | undefined): ValueFormat | undefined {
  if (format === undefined) return undefined;
  if (valueFormats.includes(format)) return format as ValueFormat;
  throw new UserError(`There is no format \`,${format}\`; there are ,${valueFormats.join(' ,')}.`);
}

/** How numbers are shown: in the format that was asked for, else in the radix of the view. */
export interface Appearance {
  readonly format?: ValueFormat | undefined;
  /** Undefined: integers in decimal, machine words in both. */
  readonly radix?: Radix | undefined;
}

/** A value in one line; what cannot be read says so. */
export const valueText = (value: Value, scope: EvaluationScope, appearance: Appearance): Promise<string> =>
  oneLine(value, scope, appearance).catch(unreadable);

async function oneLine(value: Value, scope: EvaluationScope, { format, radix }: Appearance): Promise<string> {
  if (value.type === word && format === undefined) {
    const number = await integerOf(value, scope.access);
    return wordText(number, scope.describe(number), radix);
  }
  const describe = (address: bigint): string | undefined => scope.describe(address);
  return formatValue(value, scope.access, { format, radix, depth, limit, describe });
}

/** The result of an expression: a symbol of unknown type stands for its address. MemoryFault when it cannot be read. */
export async function resultText(
  { value, symbol }: Result,
  scope: EvaluationScope,
  appearance: Appearance,
): Promise<string> {
  const { format, radix } = appearance;
  if (symbol !== undefined && format === undefined) return `${hex(symbol.address)} <${symbol.name}>`;
  try {
    const text = await oneLine(value, scope, appearance);
    const real = stripped(value.type);
    const isNamed = real.kind === 'enum' || (real.kind === 'base' && real.encoding === 'boolean');
    // Who asks for a value wants the number too, for which the name stands.
    if (!isNamed || format !== undefined || /^-?(\d+|0x[\da-f]+)$/.test(text)) return text;
    const number = await integerOf(value, scope.access);
    return `${text} (${radix === 'hexadecimal' && number >= 0n ? hex(number) : number})`;
  } catch (error) {
    if (error instanceof NoValueError) return unreadable(error);
    throw error;
  }
}

/** What a value unfolds into. Nothing is read. */
export function unfolding(value: Value): Unfolding | undefined {
  if (value.location.kind === 'none') return undefined;
  const real = stripped(value.type);
  switch (real.kind) {
    case 'struct':
    case 'union':
    case 'class':
      return real.incomplete ? undefined : { named: members(real.members).length, indexed: 0 };
    case 'array':
      return real.count === undefined || real.count === 0 ? undefined : { named: 0, indexed: real.count };
    case 'pointer':
      return pointsToSomething(real.target) ? { named: 1, indexed: 0 } : undefined;
    default:
      return undefined;
  }
}

function pointsToSomething(target: Type): boolean {
  const real = stripped(target);
  if (real.kind === 'void' || real.kind === 'function') return false;
  return 'members' in real ? !real.incomplete : sizeOf(real) > 0;
}

/** Members, those of anonymous members among them: C names both alike (C11 6.7.2.1). */
function members(list: readonly Member[]): readonly (readonly Member[])[] {
  const paths: (readonly Member[])[] = [];
  for (const member of list) {
    const inner = member.name === undefined ? stripped(member.type) : undefined;
    if (inner !== undefined && 'members' in inner) {
      for (const path of members(inner.members)) paths.push([member, ...path]);
    } else paths.push([member]);
    if (paths.length > memberLimit) break;
  }
  return paths;
}

const isSimple = (expression: string): boolean => /^[\w$]+([.[\]>\w-]*)$/.test(expression);
const bracketed = (expression: string): string => (isSimple(expression) ? expression : `(${expression})`);

/** The parts of a value from `start` on. NoValueError when a pointer has no value. */
export async function parts(
  value: Value,
  expression: string,
  scope: EvaluationScope,
  start: number,
  count: number,
): Promise<readonly Part[]> {
  const real = stripped(value.type);
  switch (real.kind) {
    case 'struct':
    case 'union':
    case 'class':
      return membersOf(value, real.members, `${bracketed(expression)}.`).slice(start, start + count);
    case 'array': {
      const end = Math.min(start + count, real.count ?? 0);
      return Array.from({ length: Math.max(end - start, 0) }, (_, index) => ({
        name: `[${start + index}]`,
        value: elementOf(value, start + index),
        expression: `${bracketed(expression)}[${start + index}]`,
      }));
    }
    case 'pointer': {
      const target = await pointee(value, scope);
      if (addressOf(target) === 0n) throw new NoValueError('a null pointer points to nothing');
      const inner = stripped(real.target);
      if ('members' in inner)
        return membersOf(target, inner.members, `${bracketed(expression)}->`).slice(start, start + count);
      return [{ name: `*${bracketed(expression)}`, value: target, expression: `*${bracketed(expression)}` }];
    }
    default:
      return [];
  }
}

function membersOf(value: Value, list: readonly Member[], prefix: string): Part[] {
  return members(list).map((path) => {
    const name = path.at(-1)?.name ?? '';
    return { name, value: path.reduce(memberOf, value), expression: `${prefix}${name}` };
  });
}

/** Where a debugger's memory view begins for a value: what it points to, else where it is. */
export async function memoryReference(value: Value, scope: EvaluationScope): Promise<bigint | undefined> {
  const real = stripped(value.type);
  if (real.kind !== 'pointer' && value.type !== word) return addressOf(value);
  try {
    return await integerOf(value, scope.access);
  } catch {
    return undefined; // what cannot be read has no reference; its text says why
  }
}
