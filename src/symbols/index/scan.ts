// One pass over the entries of units for what has a name that a user may give: functions, variables of static storage,
// types, enumerators. DW_AT_sibling (DWARF 5, 2.3) leads past most of the entries.

import { Cursor } from '../../base/bytes.ts';
import { FormatError } from '../../base/errors.ts';
import type { AbbreviationTable } from '../dwarf/abbreviations.ts';
import { DW_AT } from '../dwarf/constants.ts';
import type { Dies } from '../dwarf/dies.ts';
import type { FormValue } from '../dwarf/forms.ts';
import { isStaticPlace } from '../dwarf/operations.ts';
import type { UnitHeader } from '../dwarf/unit.ts';
import { hashOf, hashOfBytes } from './nameHash.ts';
import { type FixedField, type Plan, planOf } from './plan.ts';

/** A name without its text: from 0 on an offset in .debug_str, below that -1 - an index into `NameScan.texts`. Kernels
 *  repeat each name in hundreds of units, so text is looked at once, in the end. */
export type NameReference = number;

/** Tells the definitions of one name apart. Headers repeat each of them in every unit. */
export interface TypeIdentity {
  readonly tag: number;
  readonly size: number;
  readonly line: number;
}

/** Receives what is found. Offsets are in .debug_info. */
export interface NameSink {
  /** A definition, or the abstract instance of a function that is inlined (3.3.8.1). */
  function(name: NameReference, die: number): void;
  variable(name: NameReference, die: number): void;
  /** Only a declaration: the definition may be in another unit, or, as that of `jiffies`, in a linker script. */
  declaredVariable(name: NameReference, die: number): void;
  type(name: NameReference, die: number, identity: TypeIdentity): void;
  /** A complete enumeration; one without a name is known by its first enumerator. True asks for its enumerators. */
  enumeration(name: NameReference | undefined, first: NameReference, die: number, identity: TypeIdentity): boolean;
  enumerator(name: NameReference, enumeration: number): void;
}

/** References lead from a definition to its declaration; a longer chain is a cycle. */
const referenceLimit = 4;

export class NameScan {
  /** The texts of names that are not in .debug_str. */
  readonly texts: string[] = [];
  readonly #indexes = new Map<string, NameReference>();
  readonly #plans: Plan[] = [];
  readonly #strOffsets: boolean;

  constructor(readonly dies: Dies) {
    this.#strOffsets = dies.units.sections.has('.debug_str_offsets');
  }

  /** Throws a FormatError for a malformed unit; what was found before has been told. */
  unit(header: UnitHeader, sink: NameSink): void {
    const { units } = this.dies;
    const table = units.abbreviations.tableAt(header.abbreviationsAt, header);
    const strOffsetsBase = this.#strOffsets ? units.at(header.offset).strOffsetsBase : 0;
    // From here to the end of the walk nothing else may peek.
    const bytes = units.info.peek(header.firstDie, header.end - header.firstDie);
    const walk = new UnitWalk(this, { ...header, strOffsetsBase }, table, bytes, sink);
    walk.run();
    for (const { kind, die } of walk.elsewhere) {
      const name = this.dies.name(this.dies.at(die));
      if (name !== undefined) sink[kind](this.#referenceTo(name), die);
    }
  }

  hash(name: NameReference): number {
    if (name < 0) return hashOf(this.texts[-1 - name] ?? '');
    const strings = this.dies.units.sections.whole('.debug_str');
    const end = name < strings.length ? strings.indexOf(0, name) : -1;
    if (end < 0) throw new FormatError('.debug_str', name, 'a string without an end');
    return hashOfBytes(strings, name, end);
  }

  planOf(table: AbbreviationTable, code: number, cursor: Cursor, start: number): Plan {
    const abbreviation = table.get(code) ?? cursor.fail(`the abbreviation ${code} is not declared`, start);
    let plan = this.#plans[abbreviation.ordinal];
    if (plan === undefined) {
      plan = planOf(abbreviation);
      this.#plans[abbreviation.ordinal] = plan;
    }
    return plan;
  }

  reference(value: FormValue | undefined, unit: StringContext): NameReference | undefined {
    if (value?.kind === 'stringOffset' && value.section === 'str') return value.offset;
    if (value?.kind === 'index' && value.of === 'string') {
      return this.dies.units.sections.stringOffset(unit.strOffsetsBase, value.index, unit);
    }
    const text = this.dies.units.string(value, unit);
    return text === undefined ? undefined : this.#referenceTo(text);
  }

  #referenceTo(text: string): NameReference {
    let reference = this.#indexes.get(text);
    if (reference === undefined) {
      reference = -this.texts.push(text);
      this.#indexes.set(text, reference);
    }
    return reference;
  }
}

type StringContext = UnitHeader & { readonly strOffsetsBase: number };

class UnitWalk {
  /** Definitions whose name is in another unit, as link-time optimisation makes them. */
  readonly elsewhere: { readonly kind: 'function' | 'variable'; readonly die: number }[] = [];
  readonly #cursor: Cursor;
  readonly #view: DataView;

  constructor(
    readonly scan: NameScan,
    readonly unit: StringContext,
    readonly table: AbbreviationTable,
    bytes: Uint8Array,
    readonly sink: NameSink,
  ) {
    this.#cursor = new Cursor(bytes, scan.dies.units.info.name, unit.firstDie);
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  run(): void {
    const cursor = this.#cursor;
    let depth = 0;
    /** Depth of the function, and of the entry without interest, that the walk is in; -1 outside. */
    let functionDepth = -1;
    let ignoredDepth = -1;
    while (!cursor.atEnd) {
      const start = cursor.position;
      const code = cursor.uleb();
      if (code === 0) {
        depth--;
        if (depth <= 0) return;
        if (depth === functionDepth) functionDepth = -1;
        if (depth === ignoredDepth) ignoredDepth = -1;
        continue;
      }
      const plan = this.scan.planOf(this.table, code, cursor, start);
      const { abbreviation, role } = plan;
      const attributes = cursor.position;
      abbreviation.advance(cursor); // fails when the attributes are not all there
      if (role !== 'pass' && ignoredDepth < 0) {
        const behind = cursor.position;
        if (functionDepth < 0) this.#named(plan, attributes, cursor.base + start);
        else if (role === 'variable') this.#functionStatic(plan, attributes, cursor.base + start);
        cursor.position = behind;
      }
      if (!abbreviation.hasChildren) {
        if (depth === 0) return;
        continue;
      }
      const isWanted =
        ignoredDepth < 0 && (role === 'function' || (functionDepth < 0 ? role === 'container' : role === 'block'));
      if (!isWanted && abbreviation.siblingAt >= 0) {
        this.#toSibling(attributes + abbreviation.siblingAt);
        continue;
      }
      if (!isWanted && ignoredDepth < 0) ignoredDepth = depth;
      if (role === 'function' && functionDepth < 0) functionDepth = depth;
      depth++;
    }
  }

  #named(plan: Plan, at: number, die: number): void {
    const { sink } = this;
    const { role } = plan;
    if (role === 'type') {
      const name = this.#name(plan, at);
      if (name !== undefined) sink.type(name, die, this.#identity(plan, at));
    } else if (role === 'enumeration') {
      this.#enumeration(plan, at, die);
    } else if (role === 'declared') {
      const name = this.#name(plan, at);
      if (name !== undefined) sink.declaredVariable(name, die);
    } else if (role === 'function' || role === 'variable') {
      const name = this.#name(plan, at);
      if (name === undefined) this.#completion(role, plan, at, die);
      else sink[role](name, die);
    }
  }

  /** A variable in a function: of static storage when its place is an address. */
  #functionStatic(plan: Plan, at: number, die: number): void {
    if (!this.#hasAddress(plan, at)) return;
    const name = this.#name(plan, at);
    if (name === undefined) this.#completion('variable', plan, at, die);
    else this.sink.variable(name, die);
  }

  /** An entry that has its name from the one it completes. Concrete instances of functions are left to those who have
   *  the abstract one, which is in the same unit. */
  #completion(kind: 'function' | 'variable', plan: Plan, at: number, die: number): void {
    const origin = this.#value(plan, at, DW_AT.specification) ?? this.#value(plan, at, DW_AT.abstractOrigin);
    if (origin?.kind !== 'reference') return;
    const { firstDie, end } = this.unit;
    if (origin.offset < firstDie || origin.offset >= end) {
      this.elsewhere.push({ kind, die });
      return;
    }
    if (kind === 'function' && !plan.abbreviation.has(DW_AT.specification)) return;
    const name = this.#nameAt(origin.offset - firstDie, 0);
    if (name !== undefined) this.sink[kind](name, die);
  }

  #nameAt(position: number, count: number): NameReference | undefined {
    const cursor = this.#cursor;
    if (count === referenceLimit) cursor.fail('a cycle of references', position);
    cursor.position = position;
    const plan = this.scan.planOf(this.table, cursor.uleb(), cursor, position);
    const at = cursor.position;
    plan.abbreviation.advance(cursor);
    const name = this.#name(plan, at);
    if (name !== undefined) return name;
    const origin = this.#value(plan, at, DW_AT.specification) ?? this.#value(plan, at, DW_AT.abstractOrigin);
    const { firstDie, end } = this.unit;
    if (origin?.kind !== 'reference' || origin.offset < firstDie || origin.offset >= end) return undefined;
    return this.#nameAt(origin.offset - firstDie, count + 1);
  }

  #enumeration(plan: Plan, at: number, die: number): void {
    if (!plan.abbreviation.hasChildren) return;
    const cursor = this.#cursor;
    const name = this.#name(plan, at);
    const identity = this.#identity(plan, at);
    cursor.position = at;
    plan.abbreviation.advance(cursor);
    let position = cursor.position;
    let first = true;
    for (;;) {
      cursor.position = position;
      const code = cursor.uleb();
      if (code === 0) return;
      const child = this.scan.planOf(this.table, code, cursor, position);
      const attributes = cursor.position;
      child.abbreviation.advance(cursor);
      position = cursor.position;
      // A member function of a C++ or Rust enumeration may have children: what follows is not read.
      if (child.role !== 'enumerator') return;
      const enumerator = this.#name(child, attributes);
      if (enumerator !== undefined) {
        if (first && !this.sink.enumeration(name, enumerator, die, identity)) return;
        first = false;
        this.sink.enumerator(enumerator, die);
      }
    }
  }

  #name(plan: Plan, at: number): NameReference | undefined {
    if (plan.nameAt >= 0) return this.#view.getUint32(at + plan.nameAt, true);
    return this.scan.reference(this.#value(plan, at, DW_AT.name), this.unit);
  }

  #identity(plan: Plan, at: number): TypeIdentity {
    return {
      tag: plan.abbreviation.tag,
      size: this.#number(plan, plan.byteSize, at, DW_AT.byteSize),
      line: this.#number(plan, plan.declLine, at, DW_AT.declLine),
    };
  }

  /** A constant; 0 where there is none. */
  #number(plan: Plan, field: FixedField | undefined, at: number, attribute: number): number {
    switch (field?.size) {
      case 0:
        return field.value;
      case 1:
        return this.#view.getUint8(at + field.at);
      case 2:
        return this.#view.getUint16(at + field.at, true);
      case 4:
        return this.#view.getUint32(at + field.at, true);
      default: {
        const value = this.#value(plan, at, attribute);
        return value?.kind === 'constant' ? Number(BigInt.asUintN(32, value.value)) : 0;
      }
    }
  }

  #hasAddress(plan: Plan, at: number): boolean {
    if (!plan.hasExpression) return false;
    const location = this.#value(plan, at, DW_AT.location);
    return location?.kind === 'bytes' && isStaticPlace(location.bytes);
  }

  /** An attribute of the entry whose attributes begin at `at`. */
  #value(plan: Plan, at: number, attribute: number): FormValue | undefined {
    const { abbreviation } = plan;
    if (!abbreviation.has(attribute)) return undefined;
    const cursor = this.#cursor;
    cursor.position = at;
    return abbreviation.read(cursor, this.unit.offset, new Set([attribute])).get(attribute);
  }

  #toSibling(at: number): void {
    const cursor = this.#cursor;
    const behind = cursor.position;
    const sibling = this.unit.offset + this.#view.getUint32(at, true) - cursor.base;
    if (sibling < behind || sibling > cursor.bytes.length)
      cursor.fail(`the sibling at ${sibling + cursor.base} is not behind the entry in its unit`, at);
    cursor.position = sibling;
  }
}
