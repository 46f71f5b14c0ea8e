// Typed values: a type and where its bytes are. Parts of a value are values; nothing is read before it is asked for.

import { UserError } from '../base/errors.ts';
import type { ImplicitPointer, Location } from './dwarf/location.ts';
import { declaration, type Member, sizeOf, stripped, type Type } from './types.ts';

export interface Value {
  readonly type: Type;
  readonly location: Location;
  /** Bytes from the beginning of what is located. */
  readonly offset: number;
  /** A bit field: where its bits are, from the least significant bit of the first byte. */
  readonly bits: { readonly shift: number; readonly size: number } | undefined;
}

/** What reading values needs of a frame, or of an image. */
export interface ValueAccess {
  read(address: bigint, length: number): Promise<Uint8Array>;
  /** A DWARF register; undefined when its value is not known. */
  register(number: number): bigint | undefined;
}

/** There is no value to show: it was optimised out, or its register was not saved. */
export class NoValueError extends UserError {}

/** Whatever a symbol file says of sizes, no value is read in one piece beyond this. */
const sizeLimit = 1 << 20;
const registerBytes = 8;

export const locatedValue = (type: Type, location: Location): Value => ({ type, location, offset: 0, bits: undefined });

export const memoryValue = (type: Type, address: bigint): Value => locatedValue(type, { kind: 'memory', address });

/** A number that has no place. */
export function constantValue(type: Type, value: bigint): Value {
  const size = Math.max(sizeOf(type), 1);
  return locatedValue(type, { kind: 'value', bytes: integerBytes(value, size) });
}

/** Where the value is in memory; undefined when it is not there, or is a bit field. */
export function addressOf(value: Value): bigint | undefined {
  if (value.location.kind !== 'memory' || value.bits !== undefined) return undefined;
  return BigInt.asUintN(64, value.location.address + BigInt(value.offset));
}

export function memberOf(value: Value, member: Member): Value {
  const { bits, offset, type } = member;
  return {
    type,
    location: value.location,
    offset: value.offset + offset,
    bits: bits && { shift: bits.bitOffset - 8 * offset, size: bits.bitSize },
  };
}

/** The member of that name, also of the anonymous structs and unions in a composite (C11 6.7.2.1). */
export function findMember(value: Value, name: string): Value | undefined {
  const real = stripped(value.type);
  if (real.kind !== 'struct' && real.kind !== 'union' && real.kind !== 'class') return undefined;
  for (const member of real.members) {
    if (member.name === name) return memberOf(value, member);
    const inner = member.name === undefined ? findMember(memberOf(value, member), name) : undefined;
    if (inner !== undefined) return inner;
  }
  return undefined;
}

/** Element `index` of an array. */
export function elementOf(value: Value, index: number): Value {
  const real = stripped(value.type);
  if (real.kind !== 'array') throw new UserError(`A ${declaration(value.type)} has no elements.`);
  const offset = value.offset + index * sizeOf(real.element);
  return { type: real.element, location: value.location, offset, bits: undefined };
}

/** The implicit pointer that a value is, as a whole or as a piece of what it is a part of: it has no bytes, but what it
 *  points to can be asked for. */
export function implicitPointerOf({ type, location, offset, bits }: Value): ImplicitPointer | undefined {
  if (bits !== undefined || !isScalar(type)) return undefined;
  if (location.kind === 'implicitPointer') return offset === 0 ? location : undefined;
  if (location.kind !== 'pieces') return undefined;
  let from = 0;
  for (const piece of location.pieces) {
    const isWhole = from === 8 * offset && piece.bitSize === 8 * sizeOf(type) && piece.bitOffset === 0;
    if (isWhole && piece.location.kind === 'implicitPointer') return piece.location;
    from += piece.bitSize;
  }
  return undefined;
}

/** The bytes of a value that is no bit field. NoValueError when there are none. */
export async function bytesOf(value: Value, access: ValueAccess, length = sizeOf(value.type)): Promise<Uint8Array> {
  if (length > sizeLimit) throw new UserError(`A value of ${length} bytes is too large to be read at once.`);
  const { location, offset } = value;
  switch (location.kind) {
    case 'memory':
      return access.read(BigInt.asUintN(64, location.address + BigInt(offset)), length);
    case 'register': {
      const content = access.register(location.number);
      if (content === undefined) throw new NoValueError('its register is not known in this frame');
      if (offset < 0 || offset + length > registerBytes) throw new NoValueError('it is wider than its register');
      return integerBytes(content, registerBytes).subarray(offset, offset + length);
    }
    case 'value': {
      // Pointers that were optimised away may be moved beyond what they point to.
      if (offset < 0 || (offset > 0 && offset >= location.bytes.length))
        throw new NoValueError('outside of the object');
      const bytes = new Uint8Array(length);
      bytes.set(location.bytes.subarray(offset, offset + length));
      return bytes;
    }
    case 'pieces':
      return pieceBytes(value, access, length);
    case 'implicitPointer':
      throw new NoValueError('synthetic pointer'); // gdb's words
    case 'none':
      throw new NoValueError(location.why);
  }
}

async function pieceBytes(value: Value, access: ValueAccess, length: number): Promise<Uint8Array> {
  if (value.location.kind !== 'pieces') throw new Error('not in pieces');
  const bytes = new Uint8Array(length);
  const wantedFrom = 8 * value.offset;
  if (wantedFrom < 0) throw new NoValueError('outside of the object');
  const wantedTo = wantedFrom + 8 * length;
  let from = 0;
  for (const piece of value.location.pieces) {
    const to = from + piece.bitSize;
    const first = Math.max(from, wantedFrom);
    const last = Math.min(to, wantedTo);
    if (first < last) {
      const bitOffset = piece.bitOffset + first - from;
      const whole = Math.ceil((bitOffset + last - first) / 8);
      const source = await bytesOf(locatedValue(value.type, piece.location), access, whole);
      for (let bit = 0; bit < last - first; bit++) {
        const at = bitOffset + bit;
        const to = first - wantedFrom + bit;
        const set = ((source[at >> 3] ?? 0) >> (at & 7)) & 1;
        bytes[to >> 3] = (bytes[to >> 3] ?? 0) | (set << (to & 7));
      }
    }
    from = to;
  }
  if (from < wantedTo) throw new NoValueError('a part of it was optimised out');
  return bytes;
}

/** The number that an integer, a bit field, an enum, a boolean or a pointer is; signed when its type is. */
export async function integerOf(value: Value, access: ValueAccess): Promise<bigint> {
  const real = stripped(value.type);
  const { bits } = value;
  if (bits !== undefined) {
    const length = Math.ceil((bits.shift + bits.size) / 8);
    const raw = unsignedOf(await bytesOf({ ...value, bits: undefined }, access, length));
    const field = BigInt.asUintN(bits.size, raw >> BigInt(bits.shift));
    return isSigned(real) ? BigInt.asIntN(bits.size, field) : field;
  }
  const bytes = await bytesOf(value, access);
  const raw = unsignedOf(bytes);
  return isSigned(real) ? BigInt.asIntN(8 * bytes.length, raw) : raw;
}

export const isSigned = (type: Type): boolean => {
  const real = stripped(type);
  if (real.kind === 'enum') return real.signed;
  return real.kind === 'base' && (real.encoding === 'signed' || real.encoding === 'signedChar');
};

/** Types whose value is one integer. */
export const isInteger = (type: Type): boolean => {
  const real = stripped(type);
  return real.kind === 'enum' || (real.kind === 'base' && real.encoding !== 'float' && real.encoding !== 'other');
};

/** Types whose value is one number, an address included. */
export const isScalar = (type: Type): boolean => stripped(type).kind === 'pointer' || isInteger(type);

/** A float or double. */
export async function floatOf(value: Value, access: ValueAccess): Promise<number> {
  const bytes = await bytesOf(value, access);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length === 4) return view.getFloat32(0, true);
  if (bytes.length === 8) return view.getFloat64(0, true);
  throw new UserError(`Floating point of ${bytes.length} bytes is not supported.`);
}

/** Little endian, as every machine supported here. */
export function unsignedOf(bytes: Uint8Array): bigint {
  let value = 0n;
  for (let index = bytes.length - 1; index >= 0; index--) value = (value << 8n) | BigInt(bytes[index] ?? 0);
  return value;
}

export function integerBytes(value: bigint, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => Number((value >> BigInt(8 * index)) & 0xffn));
}
