// The log of an imaginary kernel, as printk lays it out in memory, and the symbols that describe it.
//
// Written from the comments of kernel/printk/printk_ringbuffer.c. The members are at other offsets than in any real kernel:
// whoever knows them must have them from the symbols.
import { MemoryFault } from '../../src/base/errors.ts';
import type { VirtualMemory } from '../../src/base/memory.ts';
import type { KernelLogSource } from '../../src/linux/kernelLog.ts';
import type { CompositeType, Member, Type } from '../../src/symbols/types.ts';

/** Link-time addresses; the rings are found through pointers. */
export const prbSymbol = 0xffff_8000_0900_0100n;
const ringbuffer = 0xffff_8000_0a00_0000n;
const descs = 0xffff_0000_0100_0000n;
const infos = 0xffff_0000_0200_0000n;
const data = 0xffff_0000_0300_0000n;

const base = (size: number): Type => ({ kind: 'base', name: `u${8 * size}`, size, encoding: 'unsigned' });
const characters = (count: number): Type => ({
  kind: 'array',
  element: { kind: 'base', name: 'char', size: 1, encoding: 'unsignedChar' },
  count,
});
const struct = (
  name: string,
  size: number,
  members: Readonly<Record<string, Member | [number, Type]>>,
): CompositeType => ({
  kind: 'struct',
  name,
  size,
  incomplete: false,
  members: Object.entries(members).map(([name, member]) =>
    Array.isArray(member) ? { name, offset: member[0], type: member[1], bits: undefined } : member,
  ),
});
const bits = (name: string, bitOffset: number, bitSize: number): Member => ({
  name,
  offset: bitOffset >> 3,
  type: base(1),
  bits: { bitOffset, bitSize },
});

const position = struct('prb_data_blk_lpos', 24, { next: [8, base(8)], begin: [16, base(8)] });
const descriptor = struct('prb_desc', 40, { text_blk_lpos: [0, position], state_var: [24, base(8)] });
const device = struct('dev_printk_info', 64, { device: [0, characters(48)], subsystem: [48, characters(16)] });
const info = struct('printk_info', 104, {
  ts_nsec: [0, base(8)],
  seq: [8, base(8)],
  caller_id: [16, base(4)],
  text_len: [20, base(2)],
  flags: bits('flags', 8 * 22 + 3, 5),
  level: bits('level', 8 * 22, 3),
  facility: [23, base(1)],
  dev_info: [32, device],
});
const descriptorRing = struct('prb_desc_ring', 48, {
  tail_id: [0, base(8)],
  head_id: [8, base(8)],
  infos: [16, base(8)],
  descs: [24, base(8)],
  count_bits: [36, base(4)],
});
const dataRing = struct('prb_data_ring', 40, { data: [8, base(8)], size_bits: [20, base(4)] });
const buffer = struct('printk_ringbuffer', 96, { text_data_ring: [0, dataRing], desc_ring: [48, descriptorRing] });
const types = [position, descriptor, device, info, descriptorRing, dataRing, buffer];

export const logSymbols: KernelLogSource = {
  symbolsNamed: (name) =>
    name === 'prb' ? [{ name, kind: 'object', address: prbSymbol, size: 8n, global: false }] : [],
  typeNamed: (tag, name) => (tag === 'struct' ? types.find((type) => type.name === name) : undefined),
};

export interface RecordInput {
  readonly text: string | Uint8Array;
  readonly time?: bigint;
  readonly level?: number;
  readonly facility?: number;
  readonly caller?: number;
  readonly subsystem?: string;
  readonly device?: string;
  /** 2, finalized, unless given. */
  readonly state?: number;
}

const states = { reserved: 0, committed: 1, finalized: 2, reusable: 3 } as const;

export { states };

/** Writes records as printk does: `store` takes an ID and room for the text, and drops the oldest where there is none. */
export class PrintkRing {
  readonly memory = new Map<bigint, Uint8Array>();
  #head: bigint;
  #tail: bigint;
  #nextPosition: bigint;
  readonly #count: bigint;
  readonly #size: bigint;

  constructor(
    readonly countBits = 4,
    readonly sizeBits = 9,
    /** Since v6.18 a block may end where the ring ends. */
    readonly fillsRing = false,
  ) {
    this.#count = 1n << BigInt(countBits);
    this.#size = 1n << BigInt(sizeBits);
    // DESC0_ID and BLK0_LPOS: both overflow soon.
    this.#head = BigInt.asUintN(62, -(this.#count + 1n));
    this.#tail = this.#head;
    this.#nextPosition = BigInt.asUintN(64, -this.#size);
    for (const [address, length] of [
      [prbSymbol, 8],
      [ringbuffer, buffer.size],
      [descs, descriptor.size * Number(this.#count)],
      [infos, info.size * Number(this.#count)],
      [data, Number(this.#size)],
    ] as const) {
      this.memory.set(address, new Uint8Array(length));
    }
    this.at(prbSymbol).setBigUint64(0, ringbuffer, true);
    const rings = this.at(ringbuffer);
    rings.setUint32(20, sizeBits, true);
    rings.setBigUint64(8, data, true);
    rings.setUint32(48 + 36, countBits, true);
    rings.setBigUint64(48 + 24, descs, true);
    rings.setBigUint64(48 + 16, infos, true);
    this.#setState(this.#head, states.reusable);
    this.#update();
  }

  at(address: bigint): DataView {
    for (const [start, bytes] of this.memory) {
      if (address >= start && address < start + BigInt(bytes.length)) {
        return new DataView(bytes.buffer, bytes.byteOffset + Number(address - start));
      }
    }
    throw new Error(`there is nothing at ${address}`);
  }

  /** The ring buffer, and what belongs to the record with that number. */
  readonly rings = (): DataView => this.at(ringbuffer);
  descriptorOf(seq: number): DataView {
    return this.at(descs + (BigInt(seq) % this.#count) * BigInt(descriptor.size));
  }
  infoOf(seq: number): DataView {
    return this.at(infos + (BigInt(seq) % this.#count) * BigInt(info.size));
  }
  /** The data block of a record. */
  blockOf(seq: number): DataView {
    const begin = this.descriptorOf(seq).getBigUint64(16, true);
    const next = this.descriptorOf(seq).getBigUint64(8, true);
    const end = this.fillsRing ? BigInt.asUintN(64, next - 1n) : next;
    const wraps = begin >> BigInt(this.sizeBits) !== end >> BigInt(this.sizeBits);
    return this.at(data + (wraps ? 0n : begin % this.#size));
  }

  #setState(id: bigint, state: number): void {
    this.at(descs + (id % this.#count) * BigInt(descriptor.size)).setBigUint64(24, (BigInt(state) << 62n) | id, true);
  }

  #update(): void {
    this.rings().setBigUint64(48 + 8, this.#head, true);
    this.rings().setBigUint64(48, this.#tail, true);
  }

  /** Returns the record's number. */
  store({
    text,
    time = 0n,
    level = 6,
    facility = 0,
    caller = 1,
    state = states.finalized,
    ...more
  }: RecordInput): number {
    const id = BigInt.asUintN(62, this.#head + 1n);
    if (BigInt.asUintN(62, id - this.#tail) === this.#count) this.#tail = BigInt.asUintN(62, this.#tail + 1n);
    this.#head = id;
    this.#update();
    const seq = BigInt.asUintN(62, id + this.#count);
    const bytes = typeof text === 'string' ? Buffer.from(text) : text;
    const slot = id % this.#count;
    const desc = this.at(descs + slot * BigInt(descriptor.size));
    const [begin, next] = bytes.length === 0 ? [3n, 3n] : this.#block(id, bytes);
    desc.setBigUint64(16, begin, true);
    desc.setBigUint64(8, next, true);
    const view = this.at(infos + slot * BigInt(info.size));
    view.setBigUint64(0, time, true);
    view.setBigUint64(8, seq, true);
    view.setUint32(16, caller, true);
    view.setUint16(20, bytes.length, true);
    view.setUint8(22, level | (0b10101 << 3));
    view.setUint8(23, facility);
    const put = (at: number, length: number, name = ''): void => {
      for (let n = 0; n < length; n++) view.setUint8(at + n, name.charCodeAt(n) || 0);
    };
    put(32, 48, more.device);
    put(80, 16, more.subsystem);
    this.#setState(id, state);
    return Number(seq);
  }

  #block(id: bigint, bytes: Uint8Array): [bigint, bigint] {
    const begin = this.#nextPosition;
    const size = BigInt((8 + bytes.length + 7) & ~7);
    let next = BigInt.asUintN(64, begin + size);
    const wrapOf = (at: bigint): bigint => at / this.#size;
    const last = this.fillsRing ? BigInt.asUintN(64, next - 1n) : next;
    let index = begin % this.#size;
    if (wrapOf(begin) !== wrapOf(last)) {
      this.at(data + index).setBigUint64(0, id, true);
      index = 0n;
      next = BigInt.asUintN(64, (wrapOf(begin) + 1n) * this.#size + size);
    }
    const block = this.at(data + index);
    block.setBigUint64(0, id, true);
    for (const [n, byte] of bytes.entries()) block.setUint8(8 + n, byte);
    this.#nextPosition = next;
    return [begin, next];
  }

  /** The guest's memory, with the image moved up by `bias`. */
  reader(bias = 0n): VirtualMemory {
    return {
      read: async (address, length) => {
        for (const [linked, bytes] of this.memory) {
          const offset = Number(address - linked - (linked === prbSymbol ? bias : 0n));
          if (offset >= 0 && offset + length <= bytes.length) return bytes.slice(offset, offset + length);
        }
        throw new MemoryFault('virtual', address, 'not mapped');
      },
      write: async () => {
        throw new Error('nothing is written');
      },
    };
  }
}
