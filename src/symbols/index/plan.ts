// What the scan for names does with the entries of one abbreviation, worked out once for each.

import type { Abbreviation } from '../dwarf/abbreviations.ts';
import { DW_AT, DW_FORM, DW_TAG } from '../dwarf/constants.ts';
import { fixedSize } from '../dwarf/forms.ts';

export type Role =
  /** Neither it nor its children matter. */
  | 'pass'
  /** Its children are as those of the unit: a namespace. */
  | 'container'
  /** Its children are looked at in a function. */
  | 'block'
  | 'function'
  | 'variable'
  /** A variable that is defined elsewhere. */
  | 'declared'
  | 'type'
  | 'enumeration'
  | 'enumerator';

/** A constant that is found without reading what is in front of it. */
export interface FixedField {
  readonly at: number;
  /** Bytes; 0 for DW_FORM_implicit_const, whose value is `value`. */
  readonly size: number;
  readonly value: number;
}

export interface Plan {
  readonly abbreviation: Abbreviation;
  readonly role: Role;
  /** Where DW_AT_name is, as an offset in .debug_str of 32 bits; -1 when that cannot be said or it is another form. */
  readonly nameAt: number;
  readonly byteSize: FixedField | undefined;
  readonly declLine: FixedField | undefined;
  /** DW_AT_location is an expression and not a list. */
  readonly hasExpression: boolean;
}

export const planOf = (abbreviation: Abbreviation): Plan => {
  let at = 0;
  let nameAt = -1;
  let hasExpression = false;
  const constants = new Map<number, FixedField>();
  for (const { name, form, implicit } of abbreviation.attributes) {
    const size = fixedSize(form, abbreviation.encoding);
    if (name === DW_AT.name && form === DW_FORM.strp && size === 4) nameAt = at; // -1 behind a field of variable size;
    if (name === DW_AT.location) hasExpression = form === DW_FORM.exprloc || form === DW_FORM.block1;
    if (at >= 0 && constantForms.has(form))
      constants.set(name, { at, size, value: Number(BigInt.asUintN(32, implicit)) });
    at = at < 0 || size < 0 ? -1 : at + size;
  }
  return {
    abbreviation,
    role: roleOf(abbreviation),
    nameAt,
    byteSize: constants.get(DW_AT.byteSize),
    declLine: constants.get(DW_AT.declLine),
    hasExpression,
  };
};

const constantForms: ReadonlySet<number> = new Set([
  DW_FORM.data1,
  DW_FORM.data2,
  DW_FORM.data4,
  DW_FORM.implicitConst,
]);

const roleOf = (abbreviation: Abbreviation): Role => {
  // What completes a declaration has its own entry, here or in another unit.
  if (abbreviation.has(DW_AT.declaration)) return abbreviation.tag === DW_TAG.variable ? 'declared' : 'pass';
  switch (abbreviation.tag) {
    case DW_TAG.compileUnit:
    case DW_TAG.partialUnit:
    case DW_TAG.typeUnit:
    case DW_TAG.namespace:
      return 'container';
    case DW_TAG.lexicalBlock:
      return 'block';
    case DW_TAG.subprogram:
      return 'function';
    case DW_TAG.variable:
      return 'variable';
    case DW_TAG.structureType:
    case DW_TAG.unionType:
    case DW_TAG.classType:
    case DW_TAG.typedef:
    case DW_TAG.baseType:
      return abbreviation.has(DW_AT.name) ? 'type' : 'pass';
    case DW_TAG.enumerationType:
      return 'enumeration';
    case DW_TAG.enumerator:
      return 'enumerator';
    default:
      return 'pass';
  }
};
