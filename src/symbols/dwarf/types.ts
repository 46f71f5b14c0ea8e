// Types from debugging information entries (DWARF 5, chapter 5).

import { Cursor } from '../../base/bytes.ts';
import { FormatError } from '../../base/errors.ts';
import {
  type CompositeType,
  type Enumerator,
  type Member,
  type ScalarEncoding,
  sizeOf,
  type Type,
  voidType,
} from '../types.ts';
import { DW_AT, DW_ATE, DW_TAG } from './constants.ts';
import type { Die, Dies } from './dies.ts';

/** Types that are kept; a large struct and all it refers to is a few thousand. */
const keptTypes = 20_000;

/** Bytes: no object of a kernel is as large, and numbers up to here stay exact as bits. */
const objectLimit = 2 ** 48;
/** Bits of a bit field: those of __int128. */
const bitFieldLimit = 128;
/** Variant parts in variant parts. */
const variantLimit = 16;

const encodings = new Map<number, ScalarEncoding>([
  [DW_ATE.signed, 'signed'],
  [DW_ATE.unsigned, 'unsigned'],
  [DW_ATE.address, 'unsigned'],
  [DW_ATE.boolean, 'boolean'],
  [DW_ATE.signedChar, 'signedChar'],
  [DW_ATE.unsignedChar, 'unsignedChar'],
  [DW_ATE.utf, 'unsignedChar'],
  [DW_ATE.float, 'float'],
]);

const qualifiers = new Map([
  [DW_TAG.constType as number, 'const'],
  [DW_TAG.volatileType, 'volatile'],
  [DW_TAG.restrictType, 'restrict'],
  [DW_TAG.atomicType, '_Atomic'],
] as const);

const compositeKinds = new Map<number, CompositeType['kind']>([
  [DW_TAG.structureType, 'struct'],
  [DW_TAG.unionType, 'union'],
  [DW_TAG.classType, 'class'],
]);

export class DwarfTypes {
  readonly #known = new Map<number, Type>();

  constructor(readonly dies: Dies) {}

  /** The type an entry has (DW_AT_type); void when it has none. */
  of(die: Die): Type {
    const type = this.dies.type(die);
    return type === undefined ? voidType : this.at(type);
  }

  /** The type that an entry is. */
  at(die: Die): Type {
    const known = this.#known.get(die.offset);
    if (known !== undefined) return known;
    const type = this.#read(die);
    if (this.#known.size >= keptTypes) this.#known.clear();
    this.#known.set(die.offset, type);
    return type;
  }

  #read(die: Die): Type {
    const { dies } = this;
    // Its definition is in a type unit (5.7.1, and 5.2 for enumerations).
    const definition = die.attributes.has(DW_AT.signature) ? dies.referenced(die, DW_AT.signature) : undefined;
    if (definition !== undefined && !definition.attributes.has(DW_AT.signature)) return this.at(definition);
    const size = this.#number(die, DW_AT.byteSize, objectLimit) ?? 0;
    const name = dies.name(die);
    const target = (): Type => this.of(die);
    const composite = compositeKinds.get(die.tag);
    if (composite !== undefined) {
      const incomplete = dies.flag(die, DW_AT.declaration);
      return lazily({ kind: composite, name, size, incomplete }, 'members', () => this.#members(die));
    }
    const qualifier = qualifiers.get(die.tag as never);
    if (qualifier !== undefined) return lazily({ kind: 'qualified', qualifier }, 'target', target);
    switch (die.tag) {
      case DW_TAG.baseType: {
        const encoding = encodings.get(Number(dies.constant(die, DW_AT.encoding) ?? 0n)) ?? 'other';
        return { kind: 'base', name: name ?? '?', size, encoding };
      }
      case DW_TAG.pointerType:
      case DW_TAG.referenceType:
      case DW_TAG.rvalueReferenceType:
        return lazily({ kind: 'pointer', size: size || die.unit.addressSize }, 'target', target);
      case DW_TAG.typedef:
        return lazily({ kind: 'typedef', name: name ?? '?' }, 'target', target);
      case DW_TAG.enumerationType: {
        const incomplete = dies.flag(die, DW_AT.declaration);
        return { kind: 'enum', name, size, incomplete, ...this.#enumerators(die) };
      }
      case DW_TAG.arrayType:
        return this.#array(die);
      case DW_TAG.subroutineType:
      case DW_TAG.subprogram:
        return this.function(die);
      default:
        // DW_TAG_unspecified_type and whatever other languages bring: opaque, of a known size.
        return size === 0 ? voidType : { kind: 'base', name: name ?? '?', size, encoding: 'other' };
    }
  }

  /** The type of a function, from its own entry or that of its type. */
  function(die: Die): Type {
    const children = (): Die[] => [...this.dies.children(die)];
    const type = lazily({ kind: 'function' as const }, 'returns', () => this.of(die));
    lazily(type, 'parameters', () =>
      children()
        .filter(({ tag }) => tag === DW_TAG.formalParameter)
        .map((parameter) => this.of(parameter)),
    );
    return lazily(type, 'variadic', () => children().some(({ tag }) => tag === DW_TAG.unspecifiedParameters)) as Type;
  }

  /** A constant that counts bytes or bits; FormatError when it cannot. */
  #number(die: Die, attribute: number, limit: number): number | undefined {
    const value = this.dies.constant(die, attribute);
    if (value === undefined) return undefined;
    if (value < 0n || value > BigInt(limit)) {
      throw new FormatError(this.dies.units.info.name, die.offset, `the number ${value} in a type`);
    }
    return Number(value);
  }

  #members(die: Die): Member[] {
    const members: Member[] = [];
    const collect = (parent: Die, depth: number): void => {
      for (const child of this.dies.children(parent)) {
        if (child.tag === DW_TAG.member || child.tag === DW_TAG.inheritance) {
          // A static member of C++ has no place in the object.
          if (!child.attributes.has(DW_AT.external) && !child.attributes.has(DW_AT.declaration)) {
            members.push(this.#member(child));
          }
        } else if (child.tag === DW_TAG.variantPart) {
          if (depth < variantLimit) collect(child, depth + 1); // of Rust's enums: what is common to all variants
        }
      }
    };
    collect(die, 0);
    return members;
  }

  #member(die: Die): Member {
    const { dies } = this;
    const offset = this.#memberOffset(die);
    const name = dies.name(die);
    const bitSize = this.#number(die, DW_AT.bitSize, bitFieldLimit);
    const placed = (bits: Member['bits'], at: number): Member =>
      lazily({ name, offset: at, bits }, 'type', () => this.of(die));
    if (bitSize === undefined) return placed(undefined, offset);
    return placed(...this.#bitField(die, offset, bitSize));
  }

  #bitField(die: Die, offset: number, bitSize: number): [NonNullable<Member['bits']>, number] {
    const { dies } = this;
    const dataBitOffset = this.#number(die, DW_AT.dataBitOffset, 8 * objectLimit);
    let bitOffset: number;
    if (dataBitOffset !== undefined) {
      bitOffset = 8 * offset + dataBitOffset;
    } else {
      // Before DWARF 4 (3: 5.5.6): from the most significant bit of a storage unit at `offset`.
      const storage = this.#number(die, DW_AT.byteSize, objectLimit) ?? sizeOf(this.of(die));
      // Below 0 where a field reaches into the next storage unit.
      const fromTop = Number(BigInt.asIntN(32, dies.constant(die, DW_AT.bitOffset) ?? 0n));
      bitOffset = 8 * offset + 8 * storage - fromTop - bitSize;
    }
    return [{ bitOffset, bitSize }, Math.floor(bitOffset / 8)];
  }

  /** A constant since DWARF 3; before that an expression, in practice DW_OP_plus_uconst. */
  #memberOffset(die: Die): number {
    const value = die.attributes.get(DW_AT.dataMemberLocation);
    if (value?.kind === 'constant') return this.#number(die, DW_AT.dataMemberLocation, objectLimit) ?? 0;
    if (value?.kind !== 'bytes') return 0;
    const DW_OP_plus_uconst = 0x23;
    const cursor = new Cursor(value.bytes, this.dies.units.info.name, die.offset);
    return cursor.u8() === DW_OP_plus_uconst ? cursor.uleb() : 0;
  }

  #enumerators(die: Die): { readonly signed: boolean; readonly enumerators: readonly Enumerator[] } {
    const enumerators: Enumerator[] = [];
    for (const child of this.dies.children(die)) {
      if (child.tag !== DW_TAG.enumerator) continue;
      const value = this.dies.constant(child, DW_AT.constValue) ?? 0n;
      enumerators.push({ name: this.dies.name(child) ?? '?', value });
    }
    const underlying = this.of(die);
    const encoding = underlying.kind === 'base' ? underlying.encoding : undefined;
    const signed =
      encoding === undefined
        ? enumerators.some(({ value }) => value < 0n)
        : encoding === 'signed' || encoding === 'signedChar';
    const bits = 8 * Math.min(this.#number(die, DW_AT.byteSize, objectLimit) ?? 4, 16);
    // DW_FORM_data1 and its like do not say whether they are signed (7.5.5): the type does.
    const normal = (value: bigint): bigint => (signed ? BigInt.asIntN(bits, value) : BigInt.asUintN(bits, value));
    return { signed, enumerators: enumerators.map(({ name, value }) => ({ name, value: normal(value) })) };
  }

  /** Several subranges are the dimensions of an array of arrays, outermost first (5.5). */
  #array(die: Die): Type {
    const counts: (number | undefined)[] = [];
    for (const child of this.dies.children(die)) {
      if (child.tag === DW_TAG.subrangeType || child.tag === DW_TAG.enumerationType) counts.push(this.#count(child));
    }
    if (counts.length === 0) counts.push(undefined);
    const array = (dimension: number): Type =>
      lazily({ kind: 'array', count: counts[dimension] }, 'element', () =>
        dimension + 1 < counts.length ? array(dimension + 1) : this.of(die),
      );
    return array(0);
  }

  #count(subrange: Die): number | undefined {
    const count = subrange.attributes.get(DW_AT.count);
    if (count?.kind === 'constant')
      return count.value < 0x7fff_ffffn && count.value >= 0n ? Number(count.value) : undefined;
    const upper = subrange.attributes.get(DW_AT.upperBound);
    if (upper?.kind !== 'constant') return undefined;
    // gcc says 2^64 - 1 for `[0]`.
    const bound = BigInt.asIntN(64, upper.value);
    return bound >= -1n && bound < 0x7fff_ffffn ? Number(bound) + 1 : undefined;
  }
}

/** Adds a property that is computed when it is first read. */
function lazily<T extends object, Name extends string, Value>(
  object: T,
  name: Name,
  compute: () => Value,
): T & { readonly [key in Name]: Value } {
  Object.defineProperty(object, name, {
    configurable: true,
    enumerable: true,
    get() {
      const value = compute();
      Object.defineProperty(object, name, { value, enumerable: true });
      return value;
    },
  });
  return object as T & { readonly [key in Name]: Value };
}
