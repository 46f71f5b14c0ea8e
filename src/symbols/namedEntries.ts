// Types, variables, functions and enumerators by name, as an expression somewhere in the program means them.

import { DW_AT, DW_TAG } from './dwarf/constants.ts';
import type { Die, Dies } from './dwarf/dies.ts';
import type { DwarfTypes } from './dwarf/types.ts';
import type { Unit } from './dwarf/unit.ts';
import type { NameIndex, TypeKind } from './index/nameIndex.ts';
import { PathPattern } from './sourcePaths.ts';
import type { Type } from './types.ts';
import type { Variable, Variables } from './variables.ts';

/** Macros leave statics of one name in thousands of functions (`__already_done`): no file has one, and to find that out takes
 *  a look at all of its entries. */
const candidateLimit = 64;

export class NamedEntries {
  constructor(
    readonly dies: Dies,
    readonly names: NameIndex,
    readonly types: DwarfTypes,
    readonly variables: Variables,
  ) {}

  /** A type by its tag, or by its name as a typedef or base type; that of `near` before those of other units. */
  type(tag: 'struct' | 'union' | 'enum' | undefined, name: string, near: Unit | undefined): Type | undefined {
    const kinds: readonly TypeKind[] = tag === undefined ? ['typedef', 'base'] : [tag];
    for (const kind of kinds) {
      const [offset] = this.names.types(name, kind, near);
      if (offset !== undefined) return this.types.at(this.dies.at(offset));
    }
    return undefined;
  }

  /** A variable with static storage: the file's own, else a global one, else that of any file, else of any function (as gdb
   *  looks them up). */
  variable(name: string, near: Unit | undefined): Variable | undefined {
    const all = this.names.variables(name, near).map((offset) => this.dies.at(offset));
    const found =
      all.find((die) => die.unit.offset === near?.offset && this.#isOutside(die)) ??
      all.find((die) => this.dies.flag(die, DW_AT.external)) ??
      all.slice(0, candidateLimit).find((die) => this.#isOutside(die)) ??
      all[0];
    return found && this.variables.at(found.offset);
  }

  /** A static of a file or of a function, whatever its blocks. */
  variableIn(where: string, name: string): Variable | undefined {
    const pattern = new PathPattern(where);
    for (const offset of this.names.variables(name)) {
      const { unit } = this.dies.at(offset);
      if (unit.name !== undefined && pattern.rank(unit.name) > 0) return this.variables.at(offset);
    }
    for (const offset of this.names.functions(where)) {
      const found = this.#within(this.dies.at(offset), name, 0);
      if (found !== undefined) return this.variables.at(found.offset);
    }
    return undefined;
  }

  /** The type of a function of that name. */
  function(name: string, near: Unit | undefined): Type | undefined {
    const [offset] = this.names.functions(name, near);
    return offset === undefined ? undefined : this.types.function(this.dies.at(offset));
  }

  enumerator(name: string, near: Unit | undefined): { readonly type: Type; readonly value: bigint } | undefined {
    for (const offset of this.names.enumerations(name, near)) {
      const type = this.types.at(this.dies.at(offset));
      const found = type.kind === 'enum' ? type.enumerators.find((each) => each.name === name) : undefined;
      if (found !== undefined) return { type, value: found.value };
    }
    return undefined;
  }

  /** Whether the entry is the file's: a static of a function is seen in that function only. */
  #isOutside(die: Die): boolean {
    const root = this.dies.root(die.unit);
    const holder = this.dies.origin(die) ?? die;
    for (const child of this.dies.children(root)) {
      if (child.offset === die.offset || child.offset === holder.offset) return true;
      if (child.offset > die.offset && child.offset > holder.offset) return false;
    }
    return false;
  }

  #within(parent: Die, name: string, depth: number): Die | undefined {
    if (depth > 64) return undefined;
    for (const die of this.dies.children(parent)) {
      if (
        die.tag === DW_TAG.variable &&
        this.dies.name(die) === name &&
        this.variables.at(die.offset)?.kind === 'static'
      ) {
        return die;
      }
      const inner = die.tag === DW_TAG.lexicalBlock ? this.#within(die, name, depth + 1) : undefined;
      if (inner !== undefined) return inner;
    }
    return undefined;
  }
}
