// Attribute forms (DWARF 5, 7.5.5): their sizes, and the values they encode.

import type { Cursor } from '../../base/bytes.ts';
import { DW_FORM } from './constants.ts';

/** What the sizes of a unit's fields depend on. */
export interface Encoding {
  readonly version: number;
  /** 4 or 8. */
  readonly addressSize: number;
  /** 4 in the 32-bit DWARF format, 8 in the 64-bit one (7.4). */
  readonly offsetSize: number;
}

/** A value as encoded. Indexes and string offsets still have to be looked up; `text` and `bytes` are views into the
 *  bytes that were read. */
export type FormValue =
  | { readonly kind: 'address'; readonly value: bigint }
  | { readonly kind: 'index'; readonly of: 'address' | 'string' | 'loclist' | 'rnglist'; readonly index: number }
  | { readonly kind: 'constant'; readonly value: bigint }
  | { readonly kind: 'flag'; readonly value: boolean }
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
  | { readonly kind: 'text'; readonly bytes: Uint8Array }
  | { readonly kind: 'stringOffset'; readonly section: 'str' | 'lineStr' | 'supplementary'; readonly offset: number }
  /** A DIE: `offset` in .debug_info. */
  | { readonly kind: 'reference'; readonly offset: number }
  | { readonly kind: 'signature'; readonly value: bigint }
  | { readonly kind: 'supplementary'; readonly offset: number }
  | { readonly kind: 'sectionOffset'; readonly offset: number };

export const readOffset = (cursor: Cursor, encoding: Encoding): number =>
  encoding.offsetSize === 8 ? cursor.u64AsNumber() : cursor.u32();

/** Bytes a form always takes in a unit, or -1 when that depends on the value. */
export const fixedSize = (form: number, encoding: Encoding): number => {
  switch (form) {
    case DW_FORM.flagPresent:
    case DW_FORM.implicitConst:
      return 0;
    case DW_FORM.data1:
    case DW_FORM.ref1:
    case DW_FORM.flag:
    case DW_FORM.strx1:
    case DW_FORM.addrx1:
      return 1;
    case DW_FORM.data2:
    case DW_FORM.ref2:
    case DW_FORM.strx2:
    case DW_FORM.addrx2:
      return 2;
    case DW_FORM.strx3:
    case DW_FORM.addrx3:
      return 3;
    case DW_FORM.data4:
    case DW_FORM.ref4:
    case DW_FORM.refSup4:
    case DW_FORM.strx4:
    case DW_FORM.addrx4:
      return 4;
    case DW_FORM.data8:
    case DW_FORM.ref8:
    case DW_FORM.refSig8:
    case DW_FORM.refSup8:
      return 8;
    case DW_FORM.data16:
      return 16;
    case DW_FORM.addr:
      return encoding.addressSize;
    case DW_FORM.refAddr:
      // DWARF 2 made it the size of an address; since 3 it is an offset.
      return encoding.version <= 2 ? encoding.addressSize : encoding.offsetSize;
    case DW_FORM.strp:
    case DW_FORM.lineStrp:
    case DW_FORM.secOffset:
    case DW_FORM.strpSup:
    case DW_FORM.gnuRefAlt:
    case DW_FORM.gnuStrpAlt:
      return encoding.offsetSize;
    default:
      return -1;
  }
};

/** Passes over a value. */
export const skipForm = (cursor: Cursor, form: number, encoding: Encoding): void => {
  const size = fixedSize(form, encoding);
  if (size >= 0) {
    cursor.advance(size);
    return;
  }
  switch (form) {
    case DW_FORM.udata:
    case DW_FORM.sdata:
    case DW_FORM.refUdata:
    case DW_FORM.strx:
    case DW_FORM.addrx:
    case DW_FORM.loclistx:
    case DW_FORM.rnglistx:
      cursor.skipLeb();
      return;
    case DW_FORM.string:
      cursor.skipString();
      return;
    case DW_FORM.block1:
      cursor.advance(cursor.u8());
      return;
    case DW_FORM.block2:
      cursor.advance(cursor.u16());
      return;
    case DW_FORM.block4:
      cursor.advance(cursor.u32());
      return;
    case DW_FORM.block:
    case DW_FORM.exprloc:
      cursor.advance(cursor.uleb());
      return;
    case DW_FORM.indirect:
      skipForm(cursor, readIndirect(cursor), encoding);
      return;
    default:
      cursor.fail(`the form 0x${form.toString(16)} is unknown`);
  }
};

/** The form in front of a DW_FORM_indirect value. One more indirection, or a value kept in the abbreviation, is none. */
const readIndirect = (cursor: Cursor): number => {
  const form = cursor.uleb();
  if (form === DW_FORM.indirect || form === DW_FORM.implicitConst)
    cursor.fail(`an indirect form 0x${form.toString(16)}`);
  return form;
};

/** Reads a value. `unitOffset` is what unit-relative references count from; `implicit` is the abbreviation's constant. */
export const readForm = (
  cursor: Cursor,
  form: number,
  encoding: Encoding,
  unitOffset: number,
  implicit: bigint,
): FormValue => {
  switch (form) {
    case DW_FORM.addr:
      return { kind: 'address', value: cursor.unsigned(encoding.addressSize) };
    case DW_FORM.data1:
      return { kind: 'constant', value: BigInt(cursor.u8()) };
    case DW_FORM.data2:
      return { kind: 'constant', value: BigInt(cursor.u16()) };
    case DW_FORM.data4:
      // Before DWARF 4 this form was also that of section offsets; `sectionOffsetOf` takes either.
      return { kind: 'constant', value: BigInt(cursor.u32()) };
    case DW_FORM.data8:
      return { kind: 'constant', value: cursor.u64() };
    case DW_FORM.udata:
      return { kind: 'constant', value: cursor.ulebBig() };
    case DW_FORM.sdata:
      return { kind: 'constant', value: cursor.slebBig() };
    case DW_FORM.implicitConst:
      return { kind: 'constant', value: implicit };
    case DW_FORM.flag:
      return { kind: 'flag', value: cursor.u8() !== 0 };
    case DW_FORM.flagPresent:
      return { kind: 'flag', value: true };
    case DW_FORM.string: {
      const start = cursor.position;
      return { kind: 'text', bytes: cursor.bytes.subarray(start, cursor.skipString()) };
    }
    case DW_FORM.strp:
      return { kind: 'stringOffset', section: 'str', offset: readOffset(cursor, encoding) };
    case DW_FORM.lineStrp:
      return { kind: 'stringOffset', section: 'lineStr', offset: readOffset(cursor, encoding) };
    case DW_FORM.strpSup:
    case DW_FORM.gnuStrpAlt:
      return { kind: 'stringOffset', section: 'supplementary', offset: readOffset(cursor, encoding) };
    case DW_FORM.secOffset:
      return { kind: 'sectionOffset', offset: readOffset(cursor, encoding) };
    case DW_FORM.block1:
      return { kind: 'bytes', bytes: cursor.take(cursor.u8()) };
    case DW_FORM.block2:
      return { kind: 'bytes', bytes: cursor.take(cursor.u16()) };
    case DW_FORM.block4:
      return { kind: 'bytes', bytes: cursor.take(cursor.u32()) };
    case DW_FORM.block:
    case DW_FORM.exprloc:
      return { kind: 'bytes', bytes: cursor.take(cursor.uleb()) };
    case DW_FORM.data16:
      return { kind: 'bytes', bytes: cursor.take(16) };
    case DW_FORM.ref1:
      return { kind: 'reference', offset: unitOffset + cursor.u8() };
    case DW_FORM.ref2:
      return { kind: 'reference', offset: unitOffset + cursor.u16() };
    case DW_FORM.ref4:
      return { kind: 'reference', offset: unitOffset + cursor.u32() };
    case DW_FORM.ref8:
      return { kind: 'reference', offset: unitOffset + cursor.u64AsNumber() };
    case DW_FORM.refUdata:
      return { kind: 'reference', offset: unitOffset + cursor.uleb() };
    case DW_FORM.refAddr:
      return { kind: 'reference', offset: Number(cursor.unsigned(fixedSize(form, encoding))) };
    case DW_FORM.refSig8:
      return { kind: 'signature', value: cursor.u64() };
    case DW_FORM.refSup4:
      return { kind: 'supplementary', offset: cursor.u32() };
    case DW_FORM.refSup8:
      return { kind: 'supplementary', offset: cursor.u64AsNumber() };
    case DW_FORM.gnuRefAlt:
      return { kind: 'supplementary', offset: readOffset(cursor, encoding) };
    case DW_FORM.strx:
      return { kind: 'index', of: 'string', index: cursor.uleb() };
    case DW_FORM.strx1:
      return { kind: 'index', of: 'string', index: cursor.u8() };
    case DW_FORM.strx2:
      return { kind: 'index', of: 'string', index: cursor.u16() };
    case DW_FORM.strx3:
      return { kind: 'index', of: 'string', index: cursor.u24() };
    case DW_FORM.strx4:
      return { kind: 'index', of: 'string', index: cursor.u32() };
    case DW_FORM.addrx:
      return { kind: 'index', of: 'address', index: cursor.uleb() };
    case DW_FORM.addrx1:
      return { kind: 'index', of: 'address', index: cursor.u8() };
    case DW_FORM.addrx2:
      return { kind: 'index', of: 'address', index: cursor.u16() };
    case DW_FORM.addrx3:
      return { kind: 'index', of: 'address', index: cursor.u24() };
    case DW_FORM.addrx4:
      return { kind: 'index', of: 'address', index: cursor.u32() };
    case DW_FORM.loclistx:
      return { kind: 'index', of: 'loclist', index: cursor.uleb() };
    case DW_FORM.rnglistx:
      return { kind: 'index', of: 'rnglist', index: cursor.uleb() };
    case DW_FORM.indirect:
      return readForm(cursor, readIndirect(cursor), encoding, unitOffset, implicit);
    default:
      return cursor.fail(`the form 0x${form.toString(16)} is unknown`);
  }
};
