// Values as text, as gdb prints them: one line, nested braces, strings in quotes, enumerators and functions by name.

import { MemoryFault } from '../base/errors.ts';
import { type EnumType, sizeOf, stripped, type Type } from './types.ts';
import {
  bytesOf,
  elementOf,
  floatOf,
  integerOf,
  memberOf,
  NoValueError,
  type Value,
  type ValueAccess,
} from './value.ts';

/** `,x` hexadecimal, `,d` decimal, `,o` octal, `,b` binary, `,s` text, `,c` character. */
export type ValueFormat = 'x' | 'd' | 'o' | 'b' | 's' | 'c';
export const valueFormats: readonly string[] = ['x', 'd', 'o', 'b', 's', 'c'] satisfies readonly ValueFormat[];

/** How plain integers are shown that no format was asked for. Names of enumerators, texts and pointers stay what they are. */
export type Radix = 'hexadecimal' | 'decimal';

export interface FormatOptions {
  readonly format?: ValueFormat | undefined;
  /** Decimal unless given. */
  readonly radix?: Radix | undefined;
  /** Levels of structs and arrays that are shown; what lies deeper is `{…}`. */
  readonly depth: number;
  /** Elements, members and characters shown of each; gdb's `print elements`. */
  readonly limit: number;
  /** `name+0x10` of a run-time address. */
  describe(address: bigint): string | undefined;
}

/** One value as text. A part that cannot be read stands in the text, in angle brackets: `<optimised out>`. Where the whole
 *  cannot be read the error is the caller's. */
export async function formatValue(value: Value, access: ValueAccess, options: FormatOptions): Promise<string> {
  return new Formatter(access, options).text(value, options.depth);
}

/** The text that stands for what cannot be read. */
export function unreadable(error: unknown): string {
  if (error instanceof NoValueError) return `<${error.message}>`;
  if (error instanceof MemoryFault) return `<cannot access memory at 0x${error.address.toString(16)}>`;
  throw error;
}

class Formatter {
  constructor(
    private readonly access: ValueAccess,
    private readonly options: FormatOptions,
  ) {}

  async text(value: Value, depth: number): Promise<string> {
    const real = stripped(value.type);
    switch (real.kind) {
      case 'struct':
      case 'union':
      case 'class':
        return this.#composite(value, depth);
      case 'array':
        return this.#array(value, depth);
      case 'function':
        return value.location.kind === 'memory' ? this.#pointer(value.location.address + BigInt(value.offset)) : '{…}';
      case 'void':
        return 'void';
      case 'pointer':
        return this.#pointerValue(await integerOf(value, this.access), real.target);
      case 'enum':
        return this.#enumeration(await integerOf(value, this.access), real, value);
      case 'base':
        break;
    }
    if (real.encoding === 'other') return this.#raw(value);
    if (real.encoding === 'float') return floatText(await floatOf(value, this.access));
    const number = await integerOf(value, this.access);
    const { format } = this.options;
    if (format !== undefined && format !== 's') return this.#integer(number, value);
    if (real.encoding === 'boolean') return number === 0n ? 'false' : number === 1n ? 'true' : `${number}`;
    const character = real.encoding === 'signedChar' || real.encoding === 'unsignedChar';
    const text = this.#plain(number, value);
    return character && real.size === 1 && value.bits === undefined ? `${text} ${quotedCharacter(number)}` : text;
  }

  /** A negative number is in hexadecimal its two's complement, as wide as the value. */
  #plain(number: bigint, value: Value): string {
    return this.options.radix === 'hexadecimal' ? hexadecimal(number, value) : `${number}`;
  }

  #integer(number: bigint, value: Value): string {
    const raw = BigInt.asUintN(bitSize(value), number);
    switch (this.options.format) {
      case 'x':
        return hexadecimal(number, value);
      case 'o':
        return raw === 0n ? '0' : `0${raw.toString(8)}`;
      case 'b':
        return `0b${raw.toString(2)}`;
      case 'c':
        return `${number} ${quotedCharacter(raw & 0xffn)}`;
      default:
        return `${number}`;
    }
  }

  #enumeration(number: bigint, type: EnumType, value: Value): string {
    const { format } = this.options;
    if (format !== undefined && format !== 's') return this.#integer(number, value);
    const exact = type.enumerators.find((each) => each.value === number);
    if (exact !== undefined) return exact.name;
    return flagNames(number, type) ?? this.#plain(number, value);
  }

  async #pointerValue(address: bigint, target: Type): Promise<string> {
    const { format } = this.options;
    if (format === 'd') return `${address}`;
    if (format === 'o' || format === 'b')
      return `0${format === 'b' ? 'b' : ''}${address.toString(format === 'b' ? 2 : 8)}`;
    const real = stripped(target);
    const text = `0x${address.toString(16)}`;
    if (format === 'x' || address === 0n) return text;
    const isText = real.kind === 'base' && real.size === 1 && real.encoding.endsWith('Char');
    if (isText || format === 's') {
      const string = await this.#stringAt(address).catch(unreadable);
      return `${text} ${string}`;
    }
    return this.#pointer(address);
  }

  #pointer(address: bigint): string {
    const symbol = this.options.describe(address);
    return `0x${address.toString(16)}${symbol === undefined ? '' : ` <${symbol}>`}`;
  }

  /** A NUL-terminated string, read page by page: what lies behind its end may not be there. The sections of an image end in
   *  the middle of pages too, often with a string. */
  async #stringAt(address: bigint): Promise<string> {
    const parts: number[] = [];
    const { limit } = this.options;
    for (let at = address; parts.length < limit; ) {
      const toPageEnd = 4096 - Number(at & 0xfffn);
      const length = Math.min(toPageEnd, limit - parts.length);
      const bytes = await this.#readSome(at, length);
      const end = bytes.indexOf(0);
      parts.push(...bytes.subarray(0, end < 0 ? bytes.length : end));
      if (end >= 0) return quotedText(parts);
      at = BigInt.asUintN(64, at + BigInt(bytes.length));
    }
    return `${quotedText(parts)}...`;
  }

  /** Up to `length` bytes, one at least; the fault of the first where there is none. */
  async #readSome(address: bigint, length: number): Promise<Uint8Array> {
    for (let size = length; ; size >>= 1) {
      try {
        return await this.access.read(address, size);
      } catch (error) {
        if (!(error instanceof MemoryFault) || size === 1) throw error;
      }
    }
  }

  async #composite(value: Value, depth: number): Promise<string> {
    const real = stripped(value.type);
    if (!('members' in real)) return '';
    if (real.incomplete) return '<incomplete type>';
    if (depth <= 0) return '{…}';
    const parts: string[] = [];
    for (const member of real.members.slice(0, this.options.limit)) {
      const text = await this.text(memberOf(value, member), depth - 1).catch(unreadable);
      parts.push(member.name === undefined ? text : `${member.name} = ${text}`);
    }
    if (real.members.length > this.options.limit) parts.push('…');
    return `{${parts.join(', ')}}`;
  }

  async #array(value: Value, depth: number): Promise<string> {
    const real = stripped(value.type);
    if (real.kind !== 'array') return '';
    const element = stripped(real.element);
    const { count } = real;
    const { format, limit } = this.options;
    if (count === undefined) {
      const { location, offset } = value;
      if (location.kind !== 'memory') return '{…}';
      return this.#pointerValue(BigInt.asUintN(64, location.address + BigInt(offset)), real.element);
    }
    const characters =
      element.kind === 'base' &&
      element.size === 1 &&
      (element.encoding.endsWith('Char') || format === 's') &&
      (format === undefined || format === 's');
    if (characters) return arrayText(await bytesOf(value, this.access, Math.min(count, limit)), count);
    if (depth <= 0) return '{…}';
    const texts: string[] = [];
    for (let index = 0; index < Math.min(count, limit); index++) {
      texts.push(await this.text(elementOf(value, index), depth - 1).catch(unreadable));
    }
    return `{${runs(texts, count > limit)}}`;
  }

  async #raw(value: Value): Promise<string> {
    const bytes = await bytesOf(value, this.access);
    return `0x${[...bytes]
      .reverse()
      .map((byte) => byte.toString(16).padStart(2, '0'))
      .join('')}`;
  }
}

const bitSize = (value: Value): number => value.bits?.size ?? 8 * sizeOf(value.type);

const hexadecimal = (number: bigint, value: Value): string =>
  `0x${BigInt.asUintN(bitSize(value), number).toString(16)}`;

/** Equal neighbours are counted, as gdb does from ten on. */
const repeatThreshold = 10;

function runs(texts: readonly string[], more: boolean): string {
  const parts: string[] = [];
  for (let from = 0; from < texts.length; ) {
    let to = from;
    while (to < texts.length && texts[to] === texts[from]) to++;
    if (to - from >= repeatThreshold) parts.push(`${texts[from]} <repeats ${to - from} times>`);
    else parts.push(...texts.slice(from, to));
    from = to;
  }
  if (more) parts.push('…');
  return parts.join(', ');
}

/** Names whose bits make up the whole number; undefined when they do not (gdb: a flag enum has disjoint values). */
function flagNames(number: bigint, { enumerators }: EnumType): string | undefined {
  if (number <= 0n) return undefined;
  const single = enumerators.filter(({ value }) => value > 0n && (value & (value - 1n)) === 0n);
  // Values that are not single bits beside others are an ordinary enumeration: 5 of {0, 1, 2, 3, 4} is no `1 | 4`.
  if (
    single.length === 0 ||
    enumerators.some(({ value }) => value > 0n && !single.some((each) => each.value === value))
  ) {
    return undefined;
  }
  const names: string[] = [];
  let rest = number;
  for (const { name, value } of single) {
    if ((rest & value) === 0n) continue;
    names.push(name);
    rest &= ~value;
  }
  if (names.length === 0) return undefined;
  return [...names, ...(rest === 0n ? [] : [`unknown: 0x${rest.toString(16)}`])].join(' | ');
}

const escapes = new Map([
  [7, '\\a'],
  [8, '\\b'],
  [9, '\\t'],
  [10, '\\n'],
  [11, '\\v'],
  [12, '\\f'],
  [13, '\\r'],
  [92, '\\\\'],
]);

function characterText(byte: number, quote: string): string {
  const escaped = escapes.get(byte);
  if (escaped !== undefined) return escaped;
  if (byte === quote.charCodeAt(0)) return `\\${quote}`;
  return byte >= 32 && byte < 127 ? String.fromCharCode(byte) : `\\${byte.toString(8).padStart(3, '0')}`;
}

const quotedCharacter = (value: bigint): string => `'${characterText(Number(BigInt.asUintN(8, value)), "'")}'`;

const quotedText = (bytes: Iterable<number>): string =>
  `"${Array.from(bytes, (byte) => characterText(byte, '"')).join('')}"`;

/** The text of a character array ends at its padding of NULs. */
function arrayText(bytes: Uint8Array, count: number): string {
  let end = bytes.length;
  while (end > 0 && bytes[end - 1] === 0) end--;
  const cut = end === bytes.length && count > bytes.length;
  return `${quotedText(bytes.subarray(0, end))}${cut ? '...' : ''}`;
}

const floatText = (value: number): string => (Object.is(value, -0) ? '-0' : `${value}`);
