// From types as they are written to types.

import { UserError } from '../../base/errors.ts';
import { type ArrayType, type PointerType, type Type, voidType } from '../../symbols/types.ts';
import { builtinType } from './builtinTypes.ts';
import type { TypeName } from './syntax.ts';

/** Types by name, seen from where the expression is evaluated. */
export interface TypeLookup {
  /** `tag` undefined: a typedef or a base type. Undefined when there is none. */
  type(tag: TypeName['tag'], name: string): Type | undefined;
  /** Bytes of a pointer. */
  readonly pointerSize: number;
}

/** UserError when there is no such type. */
export function resolveType(name: TypeName, lookup: TypeLookup): Type {
  // What the program says of a name comes before what is built in, which stands in where there is no program.
  let type = lookup.type(name.tag, name.name) ?? (name.tag === undefined ? builtinType(name.name) : undefined);
  if (type === undefined) {
    const text = name.tag === undefined ? name.name : `${name.tag} ${name.name}`;
    throw new UserError(`There is no type \`${text}\`.`);
  }
  for (const derivation of name.derivations) {
    if (derivation.kind === 'pointer') type = pointerTo(type, lookup.pointerSize);
    else if (derivation.kind === 'array') type = arrayOf(type, derivation.count);
    else type = { kind: 'function', returns: type, parameters: [], variadic: true };
  }
  return type;
}

export const pointerTo = (target: Type, size = 8): PointerType => ({ kind: 'pointer', size, target });

export const arrayOf = (element: Type, count: number | undefined): ArrayType => ({ kind: 'array', element, count });

export const voidPointer = pointerTo(voidType);
