// Call frame information: .debug_frame (DWARF 5, 6.4) and .eh_frame (LSB 5.0 Core, 10.6 "Exception Frames").
// This file finds entries; cfaProgram.ts runs them.

import { Cursor } from '../../base/bytes.ts';
import type { ByteSource } from '../file.ts';
import { runCfaProgram } from './cfaProgram.ts';
import type { UnwindRow } from './unwindRow.ts';

/** A common information entry (6.4.1). */
export interface Cie {
  readonly addressSize: number;
  readonly codeAlignment: number;
  readonly dataAlignment: number;
  readonly returnAddress: number;
  readonly signalFrame: boolean;
  readonly instructions: Cursor;
  /** How an FDE's addresses are encoded; .debug_frame: DW_EH_PE_absptr. */
  readonly pointerEncoding: number;
  /** FDEs have augmentation data ('z'). */
  readonly hasAugmentationData: boolean;
}

// DW_EH_PE_* (LSB 5.0 Core, 10.5.1). Low four bits: the format.
//   0x00 absptr  0x01 uleb128  0x02 udata2  0x03 udata4  0x04 udata8
//   0x09 sleb128 0x0a sdata2   0x0b sdata4  0x0c sdata8
// Bits 4-6: what it is relative to. 0x00 nothing, 0x10 pcrel, 0x20 textrel, 0x30 datarel, 0x40 funcrel, 0x50 aligned.
// 0x80: the address of the value. 0xff: omitted.
const DW_EH_PE_absptr = 0;
const DW_EH_PE_pcrel = 0x10;
const DW_EH_PE_omit = 0xff;

interface Entry {
  /** Of the length field. */
  readonly start: number;
  readonly end: number;
  readonly offsetSize: number;
  /** .debug_frame: offset of the CIE. .eh_frame: distance to it, backwards from `idAt`. */
  readonly id: number;
  readonly idAt: number;
  readonly isCie: boolean;
}

export class FrameSection {
  #cursor: Cursor | undefined;
  readonly #cies = new Map<number, Cie>();
  /** FDEs by address: where their code begins, how long it is, and their offset in the section. */
  #index: { readonly starts: BigUint64Array; readonly sizes: Float64Array; readonly offsets: Float64Array } | undefined;

  /** `address` is where the section is loaded, which pc-relative pointers of .eh_frame count from. `addressSize` is
   *  that of the machine: before version 4 no entry says it. */
  constructor(
    readonly section: ByteSource,
    readonly kind: 'debug_frame' | 'eh_frame',
    readonly address: bigint,
    readonly addressSize: number,
  ) {}

  row(address: bigint): UnwindRow | undefined {
    const index = this.#read();
    let begin = 0;
    let end = index.starts.length;
    while (begin < end) {
      const middle = (begin + end) >>> 1;
      if ((index.starts[middle] ?? 0n) <= address) begin = middle + 1;
      else end = middle;
    }
    const found = begin - 1;
    const start = index.starts[found];
    if (start === undefined || address >= start + BigInt(index.sizes[found] ?? 0)) return undefined;
    const offset = index.offsets[found] ?? 0;
    const entry = this.#entryAt(offset);
    const cursor = this.#bodyOf(entry);
    const cie = this.#cieOf(entry);
    const range = this.#addresses(cursor, cie);
    if (cie.hasAugmentationData) cursor.advance(cursor.uleb());
    return runCfaProgram(cie, cursor, range, address);
  }

  #read() {
    if (this.#index !== undefined) return this.#index;
    const starts: bigint[] = [];
    const sizes: number[] = [];
    const offsets: number[] = [];
    let ascending = true;
    for (let offset = 0; offset < this.section.size; ) {
      const entry = this.#entryAt(offset);
      offset = entry.end;
      if (entry.isCie) continue;
      const cie = this.#cieOf(entry);
      const whole = this.#whole();
      whole.position = entry.idAt + idSize(this.kind, entry);
      const { start, size } = this.#addresses(whole, cie);
      // Code that the linker discarded begins at 0; several such entries would hide what really is there.
      if (size === 0 || start === 0n) continue;
      ascending &&= starts.length === 0 || (starts[starts.length - 1] ?? 0n) <= start;
      starts.push(start);
      sizes.push(size);
      offsets.push(entry.start);
    }
    const order = Array.from(starts.keys());
    if (!ascending) {
      order.sort((a, b) => {
        const x = starts[a] ?? 0n;
        const y = starts[b] ?? 0n;
        return x < y ? -1 : x > y ? 1 : 0;
      });
    }
    this.#index = {
      starts: BigUint64Array.from(order, (i) => starts[i] ?? 0n),
      sizes: Float64Array.from(order, (i) => sizes[i] ?? 0),
      offsets: Float64Array.from(order, (i) => offsets[i] ?? 0),
    };
    return this.#index;
  }

  // length (0xffffffff: 64-bit format), then the CIE id or pointer. In .eh_frame a length of 0 ends one input section,
  // the id is 4 bytes, 0 marks a CIE, and another value is the distance back to the CIE.
  #entryAt(offset: number): Entry {
    const { section, kind } = this;
    const cursor = this.#whole();
    cursor.position = offset;
    const first = cursor.u32();
    if (first === 0) {
      return { start: offset, end: offset + 4, offsetSize: 4, id: 0, idAt: offset + 4, isCie: true };
    }
    const offsetSize = first === 0xffff_ffff ? 8 : 4;
    if (first >= 0xffff_fff0 && offsetSize === 4) cursor.fail(`the reserved length 0x${first.toString(16)}`, offset);
    const length = offsetSize === 8 ? cursor.u64AsNumber() : first;
    const idAt = cursor.offset;
    const end = idAt + length;
    if (end > section.size) cursor.fail(`an entry of ${length} bytes, ${section.size - idAt} left`, offset);
    if (length < idSize(kind, { offsetSize })) cursor.fail(`an entry of ${length} bytes`, offset);
    if (kind === 'eh_frame') {
      const id = cursor.u32();
      return { start: offset, end, offsetSize, id, idAt, isCie: id === 0 };
    }
    if (offsetSize === 4) {
      const id = cursor.u32();
      return { start: offset, end, offsetSize, id, idAt, isCie: id === 0xffff_ffff };
    }
    const id = cursor.u64();
    const isCie = id === 0xffff_ffff_ffff_ffffn;
    if (!isCie && id >= BigInt(section.size)) cursor.fail(`a CIE at 0x${id.toString(16)}`, idAt);
    return { start: offset, end, offsetSize, id: isCie ? 0 : Number(id), idAt, isCie };
  }

  /** What is behind an entry's id. */
  #bodyOf(entry: Entry): Cursor {
    const at = entry.idAt + idSize(this.kind, entry);
    return new Cursor(this.#whole().bytes.subarray(at, Math.max(at, entry.end)), this.section.name, at);
  }

  /** The whole section, 3 MiB in a kernel. One cursor for the index: entries are many and small. */
  #whole(): Cursor {
    this.#cursor ??= new Cursor(this.section.read(0, this.section.size), this.section.name);
    return this.#cursor;
  }

  #cieOf(fde: Entry): Cie {
    const offset = this.kind === 'eh_frame' ? fde.idAt - fde.id : fde.id;
    let cie = this.#cies.get(offset);
    if (cie === undefined) {
      if (offset < 0) this.#whole().fail(`a CIE ${fde.id} bytes back`, fde.idAt);
      const entry = this.#entryAt(offset);
      const cursor = this.#bodyOf(entry);
      if (!entry.isCie || entry.end - entry.idAt <= 4) cursor.fail(`no CIE here, as the FDE at ${fde.start} says`, 0);
      cie = this.#readCie(cursor);
      this.#cies.set(offset, cie);
    }
    return cie;
  }

  #readCie(cursor: Cursor): Cie {
    const version = cursor.u8();
    if (![1, 3, 4].includes(version)) cursor.fail(`CIE version ${version} is not supported`, cursor.position - 1);
    const augmentation = cursor.string();
    let addressSize = this.addressSize;
    if (version >= 4) {
      addressSize = cursor.u8();
      if (![2, 4, 8].includes(addressSize)) cursor.fail(`addresses of ${addressSize} bytes are not supported`);
      if (cursor.u8() !== 0) cursor.fail('segmented addresses are not supported');
    }
    const codeAlignment = cursor.uleb();
    const dataAlignment = cursor.sleb();
    const returnAddress = version === 1 ? cursor.u8() : cursor.uleb();
    let pointerEncoding = DW_EH_PE_absptr;
    let signalFrame = false;
    const hasAugmentationData = augmentation.startsWith('z');
    if (hasAugmentationData) {
      const size = cursor.uleb();
      const data = new Cursor(cursor.take(size), cursor.where, cursor.offset - size);
      for (const letter of augmentation.slice(1)) {
        if (letter === 'R') pointerEncoding = data.u8();
        else if (letter === 'S') signalFrame = true;
        else if (letter === 'L') data.advance(1);
        else if (letter === 'P') this.#pointer(data, data.u8(), addressSize);
        // 'B': the return address is signed with key B; 'G': the frame is tagged (AADWARF64 4.4.4). Without data.
        else if (letter !== 'B' && letter !== 'G') break;
      }
    } else if (augmentation === 'S') {
      signalFrame = true;
    } else if (augmentation !== '') {
      cursor.fail(`the augmentation "${augmentation}" is unknown`);
    }
    return {
      addressSize,
      codeAlignment,
      dataAlignment,
      returnAddress,
      signalFrame,
      pointerEncoding,
      hasAugmentationData,
      instructions: new Cursor(cursor.take(cursor.remaining), cursor.where, cursor.offset),
    };
  }

  #addresses(cursor: Cursor, cie: Cie): { start: bigint; size: number } {
    const start = this.#pointer(cursor, cie.pointerEncoding, cie.addressSize);
    // The size has the format of the encoding, but is relative to nothing.
    const size = this.#pointer(cursor, cie.pointerEncoding & 0x0f, cie.addressSize);
    if (size > 0xffff_ffff_ffffn) cursor.fail(`a function of 0x${size.toString(16)} bytes`);
    return { start, size: Number(size) };
  }

  #pointer(cursor: Cursor, encoding: number, addressSize: number): bigint {
    if (encoding === DW_EH_PE_omit) return 0n;
    const at = this.address + BigInt(cursor.offset);
    const relative = encoding & 0x70;
    const value = readEncoded(cursor, encoding & 0x0f, addressSize);
    if (relative === 0) return BigInt.asUintN(8 * addressSize, value);
    if (relative === DW_EH_PE_pcrel) return BigInt.asUintN(8 * addressSize, at + value);
    return cursor.fail(`the pointer encoding 0x${encoding.toString(16)} is not supported`);
  }
}

const idSize = (kind: FrameSection['kind'], entry: { readonly offsetSize: number }): number =>
  kind === 'eh_frame' ? 4 : entry.offsetSize;

const readEncoded = (cursor: Cursor, format: number, addressSize: number): bigint => {
  switch (format) {
    case 0x00:
      return cursor.unsigned(addressSize);
    case 0x01:
      return cursor.ulebBig();
    case 0x02:
      return BigInt(cursor.u16());
    case 0x03:
      return BigInt(cursor.u32());
    case 0x04:
      return cursor.u64();
    case 0x09:
      return cursor.slebBig();
    case 0x0a:
      return BigInt(cursor.i16());
    case 0x0b:
      return BigInt(cursor.i32());
    case 0x0c:
      return cursor.i64();
    default:
      return cursor.fail(`the pointer format ${format} is not supported`);
  }
};
