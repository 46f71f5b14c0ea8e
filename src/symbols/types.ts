// C types, as the debugger and the expression evaluator see them. They refer to each other in cycles, so parts that
// lead on (members, targets) are read when they are asked for.

/** Bits and bytes of a scalar: how its value is encoded (DWARF 5, 5.1.1). */
export type ScalarEncoding = 'signed' | 'unsigned' | 'boolean' | 'signedChar' | 'unsignedChar' | 'float' | 'other';

export interface BaseType {
  readonly kind: 'base';
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  readonly encoding: ScalarEncoding;
}

/** A pointer, or a C++ reference. */
export interface PointerType {
  readonly kind: 'pointer';
  readonly size: number;
  readonly target: Type;
}

export interface Member {
  /** Undefined for an anonymous struct or union, whose members are the containing type's own (C11 6.7.2.1). */
  readonly name: string | undefined;
  readonly type: Type;
  /** Bytes from the start of the containing type: of a bit field, of its first byte. */
  readonly offset: number;
  /** A bit field. `bitOffset` counts from the least significant bit of the containing type's first byte. */
  readonly bits: { readonly bitOffset: number; readonly bitSize: number } | undefined;
}

export interface CompositeType {
  readonly kind: 'struct' | 'union' | 'class';
  /** Its tag; undefined when it has none. */
  readonly name: string | undefined;
  readonly size: number;
  /** Only declared here: nothing is known of its size and members. */
  readonly incomplete: boolean;
  readonly members: readonly Member[];
}

export interface Enumerator {
  readonly name: string;
  readonly value: bigint;
}

export interface EnumType {
  readonly kind: 'enum';
  readonly name: string | undefined;
  readonly size: number;
  readonly signed: boolean;
  readonly incomplete: boolean;
  readonly enumerators: readonly Enumerator[];
}

export interface ArrayType {
  readonly kind: 'array';
  readonly element: Type;
  /** Undefined: a flexible array member, or an array whose length is not known. */
  readonly count: number | undefined;
}

export interface FunctionType {
  readonly kind: 'function';
  readonly returns: Type;
  readonly parameters: readonly Type[];
  readonly variadic: boolean;
}

export interface TypedefType {
  readonly kind: 'typedef';
  readonly name: string;
  readonly target: Type;
}

export interface QualifiedType {
  readonly kind: 'qualified';
  readonly qualifier: 'const' | 'volatile' | 'restrict' | '_Atomic';
  readonly target: Type;
}

export interface VoidType {
  readonly kind: 'void';
}

export type Type =
  | BaseType
  | PointerType
  | CompositeType
  | EnumType
  | ArrayType
  | FunctionType
  | TypedefType
  | QualifiedType
  | VoidType;

export const voidType: VoidType = { kind: 'void' };

/** Typedefs and qualifiers may stand in front of each other; a file may make a ring of them. */
const strippingLimit = 64;

/** The type behind typedefs and qualifiers. */
export function stripped(type: Type): Exclude<Type, TypedefType | QualifiedType> {
  let current = type;
  for (let count = 0; count < strippingLimit; count++) {
    if (current.kind !== 'typedef' && current.kind !== 'qualified') return current;
    current = current.target;
  }
  return voidType;
}

/** Bytes; 0 for void, functions, incomplete types and arrays of unknown length. */
export function sizeOf(type: Type): number {
  let real = stripped(type);
  let count = 1;
  for (let dimension = 0; real.kind === 'array'; dimension++) {
    if (dimension === strippingLimit) return 0; // an array of itself
    count = Math.min(count * (real.count ?? 0), Number.MAX_SAFE_INTEGER);
    real = stripped(real.element);
  }
  switch (real.kind) {
    case 'void':
    case 'function':
      return 0;
    default:
      return Math.min(count * real.size, Number.MAX_SAFE_INTEGER);
  }
}

const elementOf = (type: Type): Type | undefined => (type.kind === 'array' ? type.element : undefined);

const isQualified = (type: Type | undefined, qualifier: QualifiedType['qualifier']): boolean =>
  type?.kind === 'qualified' && (type.qualifier === qualifier || isQualified(type.target, qualifier));

/** The type as C declares it, with `name` where the declared thing stands: `int (*)[4]`, `const char *name`. */
export function declaration(type: Type, name = ''): string {
  return declare(type, name, 0, { left: partLimit });
}

/** Deeper declarations are cut: a file may nest them without end. */
const declarationLimit = 64;
/** So are those of more parts: functions whose parameters are such functions double with each level. */
const partLimit = 1000;

function declare(type: Type, inner: string, depth: number, parts: { left: number }): string {
  if (depth > declarationLimit || parts.left-- <= 0) return `… ${inner}`;
  const leaf = (text: string): string => (inner === '' ? text : `${text} ${inner}`);
  const next = (target: Type, text: string): string => declare(target, text, depth + 1, parts);
  switch (type.kind) {
    case 'void':
      return leaf('void');
    case 'base':
    case 'typedef':
      return leaf(type.name);
    case 'struct':
    case 'union':
    case 'class':
    case 'enum':
      return leaf(`${type.kind} ${type.name ?? '{...}'}`);
    case 'qualified': {
      // An array is qualified by what its elements are (C11 6.7.3); compilers say both.
      if (isQualified(elementOf(type.target), type.qualifier)) return next(type.target, inner);
      // Behind the star when the pointer itself is qualified, in front of the type otherwise.
      if (type.target.kind === 'pointer')
        return next(type.target, inner === '' ? type.qualifier : `${type.qualifier} ${inner}`);
      return `${type.qualifier} ${next(type.target, inner)}`;
    }
    case 'pointer': {
      const target = type.target.kind;
      const star = `*${inner}`;
      return next(type.target, target === 'array' || target === 'function' ? `(${star})` : star);
    }
    case 'array':
      return next(type.element, `${inner}[${type.count ?? ''}]`);
    case 'function': {
      const parameters = type.parameters.map((parameter) => next(parameter, ''));
      if (type.variadic) parameters.push('...');
      return next(type.returns, `${inner}(${parameters.length === 0 ? 'void' : parameters.join(', ')})`);
    }
  }
}
