// Relocation of what is read from relocatable files (gABI, "Relocation"): a kernel module's debug information refers to
// its sections and strings by relocations only.

import { Cursor } from '../base/bytes.ts';
import { FormatError } from '../base/errors.ts';
import type { ByteSource } from './file.ts';
import { symbolEntryBytes } from './symbolEntries.ts';

/** How a field is computed, in the notation of the psABIs: S is the symbol's address, A the addend, P the place. */
interface Operation {
  readonly size: 1 | 2 | 4 | 8;
  /** S + A - P instead of S + A. */
  readonly relative: boolean;
}

const absolute = (size: Operation['size']): Operation => ({ size, relative: false });
const relative = (size: Operation['size']): Operation => ({ size, relative: true });

/** e_machine: relocation types of data. Those of instructions are not needed: code is never relocated here. */
const operations = new Map<number, ReadonlyMap<number, Operation | undefined>>([
  [
    183, // EM_AARCH64 (AAELF64, 5.7.4 "Static Data relocations"; R_AARCH64_NONE is 0, and was 256)
    new Map([
      [0, undefined],
      [256, undefined],
      [257, absolute(8)], // R_AARCH64_ABS64
      [258, absolute(4)], // R_AARCH64_ABS32
      [259, absolute(2)], // R_AARCH64_ABS16
      [260, relative(8)], // R_AARCH64_PREL64
      [261, relative(4)], // R_AARCH64_PREL32
      [262, relative(2)], // R_AARCH64_PREL16
      [314, relative(4)], // R_AARCH64_PLT32: as PREL32 where there are no procedure linkage tables
    ]),
  ],
  [
    62, // EM_X86_64 (System V psABI for AMD64, 4.4.1 "Relocation Types")
    new Map([
      [0, undefined],
      [1, absolute(8)], // R_X86_64_64
      [2, relative(4)], // R_X86_64_PC32
      [4, relative(4)], // R_X86_64_PLT32: as PC32 where there are no procedure linkage tables
      [10, absolute(4)], // R_X86_64_32
      [11, absolute(4)], // R_X86_64_32S
      [12, absolute(2)], // R_X86_64_16
      [13, relative(2)], // R_X86_64_PC16
      [14, absolute(1)], // R_X86_64_8
      [15, relative(1)], // R_X86_64_PC8
      [17, absolute(8)], // R_X86_64_DTPOFF64: an offset in thread-local storage
      [21, absolute(4)], // R_X86_64_DTPOFF32
      [24, relative(8)], // R_X86_64_PC64
    ]),
  ],
  [
    40, // EM_ARM (AAELF32, 5.6.1.1)
    new Map([
      [0, undefined],
      [2, absolute(4)], // R_ARM_ABS32
      [3, relative(4)], // R_ARM_REL32
    ]),
  ],
  [
    3, // EM_386 (System V psABI for Intel386, 4.4)
    new Map([
      [0, undefined],
      [1, absolute(4)], // R_386_32
      [2, relative(4)], // R_386_PC32
    ]),
  ],
]);

/** The longest field. */
const fieldBytes = 8;
/** Entries that are read and decoded at a time. */
const blockEntries = 256;

export interface RelocationInput {
  readonly machine: number;
  readonly addressSize: 4 | 8;
  /** SHT_RELA: entries have an addend; of SHT_REL it is in the field. */
  readonly hasAddend: boolean;
  /** Contents of the relocation section. */
  readonly entries: ByteSource;
  /** The symbol table it refers to, as `symbolEntries` gives it; called when the first relocation is applied. */
  readonly symbols: () => Uint8Array;
}

/** Decoded entries from number `first` on, in columns: a large module has close to a million. */
class Block {
  readonly offsets = new Float64Array(blockEntries);
  readonly symbols = new Uint32Array(blockEntries);
  readonly types = new Uint32Array(blockEntries);
  /** Addends, in halves: most fields have 32 bits, and need the lower only. */
  readonly low = new Int32Array(blockEntries);
  readonly high = new Int32Array(blockEntries);
  first = -1;
  count = 0;

  // ELF64_R_SYM: the upper 32 bits of r_info, ELF64_R_TYPE the lower; ELF32_R_SYM: r_info >> 8, ELF32_R_TYPE the rest.
  push(cursor: Cursor, { addressSize, hasAddend }: RelocationInput): void {
    const at = this.count++;
    if (addressSize === 8) {
      this.offsets[at] = cursor.u64AsNumber();
      this.types[at] = cursor.u32();
      this.symbols[at] = cursor.u32();
      this.low[at] = hasAddend ? cursor.i32() : 0;
      this.high[at] = hasAddend ? cursor.i32() : 0;
      return;
    }
    this.offsets[at] = cursor.u32();
    const info = cursor.u32();
    this.symbols[at] = info >>> 8;
    this.types[at] = info & 0xff;
    this.low[at] = hasAddend ? cursor.i32() : 0;
    this.high[at] = (this.low[at] ?? 0) >> 31;
  }
}

/** A section whose relocations are applied to the bytes that are read, and to no others. Kept are the places of one entry
 *  in `blockEntries`; all, if the entries are not in ascending order. */
export class RelocatedSection implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly #count: number;
  readonly #entryBytes: number;
  #starts: Float64Array | undefined;
  /** Numbers of entries by ascending place; undefined: as they are. */
  #order: Uint32Array | undefined;
  readonly #block = new Block();
  #symbols: DataView | undefined;
  readonly #lowAddress: number;
  readonly #operations: ReadonlyMap<number, Operation | undefined>;

  /** `address`: that of the section, from which places count. */
  constructor(
    readonly contents: ByteSource,
    readonly address: bigint,
    readonly input: RelocationInput,
  ) {
    this.name = contents.name;
    this.size = contents.size;
    // Elf64_Rela: r_offset, r_info, r_addend of 8 bytes each; Elf32_Rela: of 4. REL: without r_addend.
    this.#entryBytes = input.addressSize * (input.hasAddend ? 3 : 2);
    this.#count = Math.floor(input.entries.size / this.#entryBytes);
    this.#lowAddress = Number(BigInt.asUintN(32, address));
    this.#operations = operations.get(input.machine) ?? new Map();
  }

  read(offset: number, length: number): Uint8Array {
    const bytes = this.contents.read(offset, length);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#eachFieldIn(offset, length, (block, index) => {
      this.#apply(block, index, view, offset);
      return true;
    });
    return bytes;
  }

  /** The bytes are the caller's own, as those of `read`. */
  peek(offset: number, length: number): Uint8Array {
    return this.read(offset, length);
  }

  /** Whether a relocation changes some of the bytes of a range. */
  changes(offset: number, length: number): boolean {
    let found = this.contents instanceof RelocatedSection && this.contents.changes(offset, length);
    this.#eachFieldIn(offset, length, (block, index) => {
      const type = block.types[index] ?? 0;
      const operation = this.#operations.get(type);
      const isNone = operation === undefined && this.#operations.has(type);
      // What is of an unknown type is an instruction.
      found ||= !isNone && (block.offsets[index] ?? 0) + (operation?.size ?? 4) > offset;
      return !found;
    });
    return found;
  }

  #apply(block: Block, index: number, target: DataView, start: number): void {
    const type = block.types[index] ?? 0;
    const place = block.offsets[index] ?? 0;
    const operation = this.#operations.get(type);
    if (operation === undefined) {
      if (this.#operations.has(type)) return;
      throw new FormatError(this.name, place, `the relocation type ${type} is not supported`);
    }
    const { size } = operation;
    if (place + size > this.size) throw new FormatError(this.name, place, 'a relocation beyond the end of the section');
    const symbol = this.#symbolAt(block.symbols[index] ?? 0, place);
    const at = place - start;
    if (size === 4 && at >= 0 && at + size <= target.byteLength) {
      const addend = this.input.hasAddend ? (block.low[index] ?? 0) : target.getInt32(at, true);
      const sum =
        this.#symbolView.getInt32(symbol, true) + addend - (operation.relative ? this.#lowAddress + place : 0);
      // Sums of a few integers of 53 bits or less are exact; what is stored is their lower half.
      target.setUint32(at, sum, true);
      return;
    }
    let value = this.#symbolView.getBigUint64(symbol, true) + this.#addend(block, index, place, size);
    if (operation.relative) value -= this.address + BigInt(place);
    for (let byte = 0; byte < size; byte++, value >>= 8n) {
      if (at + byte >= 0 && at + byte < target.byteLength) target.setUint8(at + byte, Number(value & 0xffn));
    }
  }

  #addend(block: Block, index: number, place: number, size: number): bigint {
    if (!this.input.hasAddend) {
      return new Cursor(this.contents.read(place, size), this.name, place).unsigned(size);
    }
    return (BigInt(block.high[index] ?? 0) << 32n) | BigInt((block.low[index] ?? 0) >>> 0);
  }

  /** Where st_value of a symbol is in `#symbolView`. */
  #symbolAt(index: number, place: number): number {
    const at = index * symbolEntryBytes;
    if (at + symbolEntryBytes > this.#symbolView.byteLength) {
      throw new FormatError(this.name, place, `the symbol ${index} of its relocation does not exist`);
    }
    return at + 8;
  }

  get #symbolView(): DataView {
    if (this.#symbols === undefined) {
      const { buffer, byteOffset, byteLength } = this.input.symbols();
      this.#symbols = new DataView(buffer, byteOffset, byteLength);
    }
    return this.#symbols;
  }

  /** Calls back for the fields that may reach into a range, ascending, until it says false. */
  #eachFieldIn(offset: number, length: number, visit: (block: Block, index: number) => boolean): void {
    if (length === 0 || this.#count === 0) return;
    const starts = this.#index();
    // The last block that begins in front of every field that may reach into the range.
    let begin = 0;
    let end = starts.length;
    while (begin < end) {
      const middle = (begin + end) >>> 1;
      if ((starts[middle] ?? 0) <= offset - fieldBytes) begin = middle + 1;
      else end = middle;
    }
    for (let first = Math.max(0, begin - 1) * blockEntries; first < this.#count; first += blockEntries) {
      const block = this.#blockAt(first);
      for (let index = 0; index < block.count; index++) {
        const place = block.offsets[index] ?? 0;
        if (place >= offset + length) return;
        if (place > offset - fieldBytes && !visit(block, index)) return;
      }
    }
  }

  /** Where the first field of each block is. */
  #index(): Float64Array {
    if (this.#starts !== undefined) return this.#starts;
    const starts = new Float64Array(Math.ceil(this.#count / blockEntries));
    let last = 0;
    for (let first = 0; first < this.#count; first += blockEntries) {
      const places = this.#placesAt(first);
      starts[first / blockEntries] = places[0] ?? 0;
      for (const place of places) {
        if (place < last) return this.#sort();
        last = place;
      }
    }
    this.#starts = starts;
    return starts;
  }

  #sort(): Float64Array {
    const places = new Float64Array(this.#count);
    for (let first = 0; first < this.#count; first += blockEntries) places.set(this.#placesAt(first), first);
    const order = Uint32Array.from(places, (_, index) => index);
    order.sort((a, b) => (places[a] ?? 0) - (places[b] ?? 0) || a - b);
    this.#order = order;
    this.#starts = Float64Array.from(
      { length: Math.ceil(this.#count / blockEntries) },
      (_, block) => places[order[block * blockEntries] ?? 0] ?? 0,
    );
    return this.#starts;
  }

  #placesAt(first: number): number[] {
    const cursor = this.#cursor(first, Math.min(blockEntries, this.#count - first));
    const places: number[] = [];
    while (!cursor.atEnd) {
      places.push(this.#place(cursor));
      cursor.advance(this.#entryBytes - this.input.addressSize);
    }
    return places;
  }

  #blockAt(first: number): Block {
    const block = this.#block;
    if (block.first === first) return block;
    const count = Math.min(blockEntries, this.#count - first);
    block.first = -1;
    block.count = 0;
    if (this.#order === undefined) {
      const cursor = this.#cursor(first, count);
      while (!cursor.atEnd) block.push(cursor, this.input);
    } else {
      for (const index of this.#order.subarray(first, first + count)) block.push(this.#cursor(index, 1), this.input);
    }
    block.first = first;
    return block;
  }

  /** Entries, read and not peeked at: `read` must leave the bytes of an earlier peek alone. */
  #cursor(first: number, count: number): Cursor {
    const { entries } = this.input;
    const at = first * this.#entryBytes;
    return new Cursor(entries.read(at, count * this.#entryBytes), entries.name, at);
  }

  #place(cursor: Cursor): number {
    return this.input.addressSize === 8 ? cursor.u64AsNumber() : cursor.u32();
  }
}
