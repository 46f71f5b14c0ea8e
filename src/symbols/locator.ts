// Where variables are in a frame: their location attributes, evaluated with what the frame and its callers know.

import { DW_AT, DW_TAG } from './dwarf/constants.ts';
import type { Die, Dies } from './dwarf/dies.ts';
import { type ExpressionContext, evaluateLocation, evaluateNumber } from './dwarf/expression.ts';
import type { FormValue } from './dwarf/forms.ts';
import type { FrameAccess, Location } from './dwarf/location.ts';
import { entryAt, locationEntries } from './dwarf/loclists.ts';
import { DW_OP } from './dwarf/operations.ts';
import { around, type UnitScopes } from './dwarf/scopes.ts';
import type { Unit } from './dwarf/unit.ts';

/** Entry values of entry values: a chain of calls that each pass on what they were given. */
const callerLimit = 8;
/** Blocks in blocks, as deep as a search goes. */
const blockLimit = 64;

export class Locator {
  constructor(
    readonly dies: Dies,
    readonly scopes: UnitScopes,
  ) {}

  /** Where the variable of an entry is. FormatError when its description is damaged. */
  locate(offset: number, frame: FrameAccess): Promise<Location> {
    return this.#locate(this.dies.at(offset), frame, 0);
  }

  /** Where that is which an implicit pointer refers to. An entry of an abstract instance means the concrete one of the
   *  frame, as for gdb. */
  locateReferenced(offset: number, frame: FrameAccess): Promise<Location> {
    const die = this.dies.at(offset);
    const isPlaced = [DW_AT.location, DW_AT.constValue].some((name) => this.dies.holder(die, name) !== undefined);
    return this.#locate(isPlaced ? die : (this.#instanceOf(die, frame.pc) ?? die), frame, 0);
  }

  /** The value of a rule of the call frame information that is an expression (6.4.2). `unit`: any unit with the sizes of
   *  the program. The canonical frame address is on the stack of all but its own. */
  async frameRule(expression: Uint8Array, frame: FrameAccess, initial: readonly bigint[]): Promise<bigint | undefined> {
    const unit = this.#unitAt(frame.pc);
    return unit && evaluateNumber(expression, this.#context(unit, frame, 0), initial);
  }

  async #locate(die: Die, frame: FrameAccess, calls: number): Promise<Location> {
    const constant = this.dies.attribute(die, DW_AT.constValue);
    if (constant !== undefined) return { kind: 'value', bytes: constantBytes(constant) };
    const holder = this.dies.holder(die, DW_AT.location);
    if (holder === undefined) return { kind: 'none', why: 'optimised out' };
    const { sections } = this.dies.units;
    const entries = locationEntries(sections, holder.unit, holder.attributes.get(DW_AT.location));
    const entry = entryAt(entries, frame.pc);
    if (entry === undefined) return { kind: 'none', why: 'optimised out', ranges: entries };
    return evaluateLocation(entry.expression, this.#context(holder.unit, frame, calls));
  }

  /** The variable of a function or inlined copy at `pc` that is a concrete instance of another entry, innermost first. */
  #instanceOf(abstract: Die, pc: bigint): Die | undefined {
    const search = (parent: Die, depth: number): Die | undefined => {
      for (const die of this.dies.children(parent)) {
        if (die.tag === DW_TAG.lexicalBlock && depth > 0) {
          const found = search(die, depth - 1);
          if (found !== undefined) return found;
        } else if (this.dies.referenced(die, DW_AT.abstractOrigin)?.offset === abstract.offset) return die;
      }
      return undefined;
    };
    const here = this.dies.units.containing(pc);
    for (const scope of here === undefined ? [] : around(this.scopes.of(here), pc)) {
      const found = search(this.dies.at(scope.die, here), blockLimit);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  #context(unit: Unit, frame: FrameAccess, calls: number): ExpressionContext {
    return {
      dies: this.dies,
      unit,
      frame,
      objectAddress: undefined,
      frameBase: () => this.#frameBase(frame, calls),
      entryValue: (expression) => this.#entryValue(expression, frame, calls),
      parameterValue: (parameter) => this.#callValue(frame, calls, (_, die) => this.#isParameter(die, parameter)),
      expressionOf: (die) => {
        const location = this.dies.attribute(die, DW_AT.location);
        const entries = locationEntries(this.dies.units.sections, die.unit, location);
        return entryAt(entries, frame.pc)?.expression;
      },
    };
  }

  #unitAt(pc: bigint): Unit | undefined {
    const { units } = this.dies;
    return units.containing(pc) ?? (units.info.size > 0 ? units.at(0) : undefined);
  }

  /** The function whose frame it is, past inlined ones. */
  #functionAt(pc: bigint): Die | undefined {
    const unit = this.dies.units.containing(pc);
    const scope = unit && around(this.scopes.of(unit), pc).at(-1);
    return scope && this.dies.at(scope.die, unit);
  }

  async #frameBase(frame: FrameAccess, calls: number): Promise<bigint | undefined> {
    const die = this.#functionAt(frame.pc);
    if (die === undefined) return undefined;
    const entries = locationEntries(this.dies.units.sections, die.unit, die.attributes.get(DW_AT.frameBase));
    const entry = entryAt(entries, frame.pc);
    if (entry === undefined || entry.expression[0] === DW_OP.fbreg) return undefined;
    return evaluateNumber(entry.expression, this.#context(die.unit, frame, calls));
  }

  /** The value an expression had when the function was entered: what the call site says it passed (3.4.2). */
  async #entryValue(expression: Uint8Array, frame: FrameAccess, calls: number): Promise<bigint | undefined> {
    return this.#callValue(frame, calls, (location) => location !== undefined && equal(location, expression));
  }

  async #callValue(
    frame: FrameAccess,
    calls: number,
    isWanted: (location: Uint8Array | undefined, parameter: Die) => boolean,
  ): Promise<bigint | undefined> {
    if (calls >= callerLimit) return undefined;
    const caller = await frame.caller();
    const callee = this.#functionAt(frame.pc);
    const site = caller && this.#callSite(caller.pc + 1n);
    if (caller === undefined || callee === undefined || site === undefined) return undefined;
    // A tail call in between passed something else: the site must be one that calls this function.
    if (!(await this.#leadsTo(site, callee, caller, calls))) return undefined;
    for (const parameter of this.dies.children(site)) {
      if (parameter.tag !== DW_TAG.callSiteParameter && parameter.tag !== DW_TAG.gnuCallSiteParameter) continue;
      const location = parameter.attributes.get(DW_AT.location);
      if (!isWanted(location?.kind === 'bytes' ? location.bytes : undefined, parameter)) continue;
      const value = parameter.attributes.get(DW_AT.callValue) ?? parameter.attributes.get(DW_AT.gnuCallSiteValue);
      if (value?.kind !== 'bytes') return undefined;
      return evaluateNumber(value.bytes, this.#context(site.unit, caller, calls + 1));
    }
    return undefined;
  }

  #isParameter(parameter: Die, wanted: Die): boolean {
    const names = [DW_AT.callParameter, DW_AT.abstractOrigin];
    return names.some((name) => this.dies.referenced(parameter, name)?.offset === wanted.offset);
  }

  /** The call site that returns to an address. */
  #callSite(returnAddress: bigint): Die | undefined {
    const unit = this.dies.units.containing(returnAddress - 1n);
    const scope = unit && around(this.scopes.of(unit), returnAddress - 1n)[0];
    if (unit === undefined || scope === undefined) return undefined;
    const search = (parent: Die, depth: number): Die | undefined => {
      for (const die of this.dies.children(parent)) {
        if (die.tag === DW_TAG.callSite || die.tag === DW_TAG.gnuCallSite) {
          const at = die.attributes.get(DW_AT.callReturnPc) ?? die.attributes.get(DW_AT.lowPc);
          if (this.dies.units.address(at, unit) === returnAddress) return die;
        } else if (die.tag === DW_TAG.lexicalBlock && depth > 0) {
          const found = search(die, depth - 1);
          if (found !== undefined) return found;
        }
      }
      return undefined;
    };
    return search(this.dies.at(scope.die, unit), blockLimit);
  }

  async #leadsTo(site: Die, callee: Die, caller: FrameAccess, calls: number): Promise<boolean> {
    const origin = this.dies.referenced(site, DW_AT.callOrigin) ?? this.dies.referenced(site, DW_AT.abstractOrigin);
    if (origin !== undefined) return this.#isSame(origin, callee);
    const target = site.attributes.get(DW_AT.callTarget);
    if (target?.kind !== 'bytes') return false;
    const address = await evaluateNumber(target.bytes, this.#context(site.unit, caller, calls + 1));
    const entry = this.dies.units.codeRanges(callee.attributes, callee.unit)[0]?.start;
    return address !== undefined && address === (entry === undefined ? undefined : entry + caller.bias);
  }

  /** Declarations in other units have entries of their own: a name that is global is enough. */
  #isSame(a: Die, b: Die): boolean {
    const lineage = new Set([...this.dies.lineage(b)].map(({ offset }) => offset));
    if ([...this.dies.lineage(a)].some(({ offset }) => lineage.has(offset))) return true;
    const isGlobal = this.dies.flag(a, DW_AT.external) && this.dies.flag(b, DW_AT.external);
    return isGlobal && this.dies.name(a) === this.dies.name(b);
  }
}

/** DW_AT_const_value (4.1): the bytes, or a number of at most 64 bits. */
function constantBytes(value: FormValue): Uint8Array {
  if (value.kind === 'bytes' || value.kind === 'text') return value.bytes.slice();
  const bytes = new Uint8Array(8);
  if (value.kind === 'constant') new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, value.value), true);
  return bytes;
}

const equal = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && a.every((byte, index) => byte === b[index]);
