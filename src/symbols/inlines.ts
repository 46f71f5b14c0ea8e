// The functions an address is in: the inlined ones, and the one they were inlined into (DWARF 5, 3.3.8).

import { Recent } from '../base/recent.ts';
import { DW_AT } from './dwarf/constants.ts';
import type { Dies } from './dwarf/dies.ts';
import type { LineTable } from './dwarf/lineTable.ts';
import { around, type Scope, type UnitScopes } from './dwarf/scopes.ts';
import type { Unit } from './dwarf/unit.ts';
import type { ElfSymbol } from './elfSymbols.ts';

/** One function around an address. */
export interface InlineFrame {
  readonly kind: 'inlined' | 'function';
  readonly name: string;
  /** Its entry in .debug_info. */
  readonly die: number;
  /** Where it is entered. Link-time address. */
  readonly entry: bigint;
  /** Of an inlined one: the place of the call, in the function that comes next in the chain. */
  readonly call: CallPlace | undefined;
  /** A piece of its code begins at the address. */
  readonly begins: boolean;
}

export interface CallPlace {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

/** Addresses whose functions are kept: those of some stacks, which are asked for at each stop. */
const keptAddresses = 1024;

export class Inlines {
  readonly #known = new Recent<bigint, readonly InlineFrame[]>(keptAddresses);

  constructor(
    readonly dies: Dies,
    readonly scopes: UnitScopes,
    readonly lineTableOf: (unit: Unit) => LineTable | undefined,
    /** Bytes in front of a function that are its own, though its entry does not say so. */
    readonly patchable: bigint,
    readonly symbolAt: (pc: bigint) => ElfSymbol | undefined,
  ) {}

  /** Innermost first, the physical function last; empty where no function is known. */
  at(pc: bigint): readonly InlineFrame[] {
    return this.#known.of(pc, () => this.#find(pc));
  }

  /** DW_AT_noreturn (3.3.1) of the physical function at an address. */
  neverReturns(pc: bigint): boolean {
    const own = this.at(pc).at(-1);
    return own?.kind === 'function' && this.dies.flag(this.dies.at(own.die), DW_AT.noreturn);
  }

  #find(pc: bigint): readonly InlineFrame[] {
    const { units } = this.dies;
    const unit = units.containing(pc) ?? units.containing(pc + this.patchable);
    if (unit === undefined) return [];
    const scopes = this.scopes.of(unit);
    const chain = around(scopes, pc);
    if (chain.length === 0) return this.#patchable(scopes, pc).map((scope) => this.#frame(scope, unit, pc));
    const inlined = chain.filter(({ kind }) => kind === 'inlined');
    const functions = chain.filter(({ kind }) => kind === 'function').map((scope) => this.#frame(scope, unit, pc));
    // Aliases in assembly have an entry each: the same code under several names.
    const symbol = functions.length > 1 ? this.symbolAt(pc)?.name : undefined;
    const own = functions.find(({ name }) => name === symbol) ?? functions[0];
    return [...inlined.map((scope) => this.#frame(scope, unit, pc)), ...(own === undefined ? [] : [own])];
  }

  /** The function whose own bytes in front of its entry an address is in: its symbol covers both. What is in front may also
   *  be padding, or another function that has no entry: gcc folds equal ones. */
  #patchable(scopes: readonly Scope[], pc: bigint): readonly Scope[] {
    const next = scopes.find(({ kind, entry }) => kind === 'function' && entry > pc && entry - pc <= this.patchable);
    const symbol = next && this.symbolAt(pc);
    if (next === undefined || symbol === undefined || next.entry >= symbol.address + symbol.size) return [];
    return [next];
  }

  #frame({ kind, die: offset, entry, ranges }: Scope, unit: Unit, pc: bigint): InlineFrame {
    const die = this.dies.at(offset, unit);
    const name = this.dies.name(die) ?? '?';
    const begins = ranges.some(({ start }) => start === pc) && !ranges.some(({ end }) => end === pc);
    if (kind === 'function') return { kind, name, die: offset, entry, call: undefined, begins };
    const number = (attribute: number): number => {
      const value = die.attributes.get(attribute);
      return value?.kind === 'constant' ? Number(value.value) : 0;
    };
    const file = this.lineTableOf(unit)?.file(number(DW_AT.callFile)) ?? unit.name ?? '';
    const call = { file, line: number(DW_AT.callLine), column: number(DW_AT.callColumn) };
    return { kind, name, die: offset, entry, call, begins };
  }
}
