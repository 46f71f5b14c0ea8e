// Variables: those that a function has at an address (DWARF 5, 3.5, 4.1), and one by its entry.

import { Recent } from '../base/recent.ts';
import { DW_AT, DW_TAG } from './dwarf/constants.ts';
import type { Die, Dies } from './dwarf/dies.ts';
import { isStaticPlace } from './dwarf/operations.ts';
import type { DwarfTypes } from './dwarf/types.ts';
import type { Unit } from './dwarf/unit.ts';
import type { Type } from './types.ts';

export interface Variable {
  readonly name: string;
  /** A static lives as long as the program, whatever block declares it. */
  readonly kind: 'argument' | 'local' | 'static';
  readonly type: Type;
  /** Its entry in .debug_info, which finds its value. */
  readonly die: number;
  /** Blocks around it; a deeper one hides those of the same name further out. -1 in a block that kept no code: it hides
   *  none. */
  readonly depth: number;
}

/** Places whose variables are kept: those of a conditional breakpoint are asked for at each hit. */
const keptPlaces = 256;

export class Variables {
  readonly #known = new Recent<string, readonly Variable[]>(keptPlaces);

  constructor(
    readonly dies: Dies,
    readonly types: DwarfTypes,
  ) {}

  /** What the function or inlined copy at `scope` has at `pc`, arguments first, hidden ones left out. */
  of(scope: number, pc: bigint): readonly Variable[] {
    return this.#known.of(`${scope} ${pc}`, () => this.#find(scope, pc));
  }

  #find(scope: number, pc: bigint): readonly Variable[] {
    const found = new Map<string, Variable>();
    const instance = this.dies.at(scope);
    this.#collect(instance, pc, 0, found);
    const abstract = this.dies.referenced(instance, DW_AT.abstractOrigin);
    if (abstract !== undefined) this.#inherit(abstract, found);
    const order = { argument: 0, local: 1, static: 2 };
    return [...found.values()].sort((a, b) => order[a.kind] - order[b.kind]);
  }

  /** The static variables of a unit, outside of its functions. */
  ofUnit(unit: Unit): readonly Variable[] {
    const found: Variable[] = [];
    for (const die of this.dies.children(this.dies.root(unit))) {
      if (die.tag !== DW_TAG.variable || !this.#isDefined(die)) continue;
      const variable = this.at(die.offset);
      if (variable !== undefined) found.push(variable);
    }
    return found;
  }

  /** The variable of an entry; undefined when it has no name. */
  at(offset: number): Variable | undefined {
    const die = this.dies.at(offset);
    const name = this.dies.name(die);
    if (name === undefined) return undefined;
    return { name, kind: this.#kind(die), type: this.types.of(die), die: offset, depth: 0 };
  }

  #collect(parent: Die, pc: bigint, blocks: number, found: Map<string, Variable>): void {
    const depth = parent.tag === DW_TAG.lexicalBlock && !hasCode(parent) ? -1 : blocks;
    for (const die of this.dies.children(parent)) {
      if (die.tag === DW_TAG.lexicalBlock) {
        if (blocks < blockLimit && this.#contains(die, pc)) this.#collect(die, pc, blocks + 1, found);
        continue;
      }
      if (die.tag !== DW_TAG.variable && die.tag !== DW_TAG.formalParameter) continue;
      const name = this.dies.name(die);
      // `extern` in a block refers to a variable that is defined elsewhere and found by its name.
      if (name === undefined || die.attributes.has(DW_AT.declaration)) continue;
      const known = found.get(name);
      if (known !== undefined && known.depth > depth) continue;
      found.set(name, { name, kind: this.#kind(die), type: this.types.of(die), die: die.offset, depth });
    }
  }

  /** What an instance has no entry for, its abstract instance has: what was optimised away, of which clang leaves the entries
   *  out, and statics. Another variable of that name further out is not meant. gdb: inherit_abstract_dies. */
  #inherit(abstract: Die, found: Map<string, Variable>): void {
    for (const die of this.dies.children(abstract)) {
      if (die.tag !== DW_TAG.variable && die.tag !== DW_TAG.formalParameter) continue;
      const variable = die.attributes.has(DW_AT.declaration) ? undefined : this.at(die.offset);
      if (variable !== undefined && !found.has(variable.name)) found.set(variable.name, variable);
    }
  }

  /** The variables of a block that kept no code are told with those of what is around it, as gdb does. */
  #contains(block: Die, pc: bigint): boolean {
    const { attributes, unit } = block;
    if (!hasCode(block)) return true;
    return this.dies.units.codeRanges(attributes, unit).some(({ start, end }) => pc >= start && pc < end);
  }

  #kind(die: Die): Variable['kind'] {
    if (die.tag === DW_TAG.formalParameter) return 'argument';
    const location = this.dies.attribute(die, DW_AT.location);
    return location?.kind === 'bytes' && isStaticPlace(location.bytes) ? 'static' : 'local';
  }

  #isDefined(die: Die): boolean {
    return (
      this.dies.attribute(die, DW_AT.location) !== undefined || this.dies.attribute(die, DW_AT.constValue) !== undefined
    );
  }
}

/** The compiler attributes addresses to a block (3.5). Macros leave many blocks beside each other that have none, with
 *  variables of the same names (`__ptr`, `__ret`), all optimised away. */
const hasCode = ({ attributes }: Die): boolean => attributes.has(DW_AT.lowPc) || attributes.has(DW_AT.ranges);

/** Blocks are nested as deep as programmers nest them. */
const blockLimit = 256;
