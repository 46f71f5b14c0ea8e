// What pointers point to. A pointer that was optimised away (DWARF 5, 2.6.1.1.4) leads to a variable, which may be in
// registers, in pieces or a constant: what is pointed to need not be in memory.

import { UserError } from '../base/errors.ts';
import type { Location } from '../symbols/image.ts';
import { sizeOf, stripped, type Type } from '../symbols/types.ts';
import { implicitPointerOf, integerOf, memoryValue, type Value, type ValueAccess } from '../symbols/value.ts';
import { word } from './expression/builtinTypes.ts';

/** What following pointers needs of a frame. */
export interface PointerScope {
  readonly access: ValueAccess;
  /** Where that is in the frame which an implicit pointer refers to by its entry. */
  locateReferenced(die: number): Promise<Location>;
}

/** What a pointer's type says of its target. A number that is no pointer is the address of a word, as gdb's `x` would
 *  show it. */
export function targetOf(type: Type): Type {
  const real = stripped(type);
  return real.kind === 'pointer' ? real.target : word;
}

/** What a pointer points to, `index` elements on, as an object of `type`. UserError for a void pointer. */
export async function pointee(
  pointer: Value,
  scope: PointerScope,
  index = 0n,
  type: Type = targetOf(pointer.type),
): Promise<Value> {
  const target = targetOf(pointer.type);
  if (stripped(target).kind === 'void') throw new UserError('A void pointer must be cast before it is followed.');
  const moved = index * BigInt(Math.max(sizeOf(target), 1));
  const implicit = implicitPointerOf(pointer);
  if (implicit === undefined) {
    return memoryValue(type, BigInt.asUintN(64, (await integerOf(pointer, scope.access)) + moved));
  }
  const location = await scope.locateReferenced(implicit.die);
  return { type, location, offset: Number(implicit.offset + moved), bits: undefined };
}
