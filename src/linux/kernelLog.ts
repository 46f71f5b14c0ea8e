// The kernel's log, read from its memory: the ring buffer of printk since v5.10 (commit 896fbe20b4e2).
//
// kernel/printk/printk_ringbuffer.h: `prb` points at a struct printk_ringbuffer of two rings. `desc_ring` has 2^count_bits
// descriptors, and beside them as many struct printk_info; `text_data_ring` has 2^size_bits bytes of blocks, each the ID
// of its descriptor and then the text. IDs and positions (lpos) count on, their low bits are the index. Records are those
// from `tail_id` to `head_id`. What a reader may believe of one is said by _prb_read_valid, get_data and copy_data of
// printk_ringbuffer.c; Documentation/admin-guide/kdump/gdbmacros.txt and scripts/gdb/linux/dmesg.py do the same from
// outside. The guest stopped wherever it was, and may have destroyed all of that: a record that is not whole is left out.

import { Gva } from '../base/address.ts';
import { decodeText } from '../base/bytes.ts';
import { TargetError, UserError } from '../base/errors.ts';
import { EventLoopTurns } from '../base/eventLoop.ts';
import type { VirtualMemory } from '../base/memory.ts';
import type { SymbolFile } from '../symbols/image.ts';
import { sizeOf } from '../symbols/types.ts';
import { type Layout, layoutOf, offsetsOf } from './tables.ts';

export type KernelLogSource = Pick<SymbolFile, 'symbolsNamed' | 'typeNamed'>;

export interface LogRecord {
  readonly seq: bigint;
  /** Nanoseconds since the boot, of local_clock(). */
  readonly time: bigint;
  /** 0 to 7, LOGLEVEL_EMERG to LOGLEVEL_DEBUG. */
  readonly level: number;
  /** LOG_KERN, 0, but for what user space wrote to /dev/kmsg. */
  readonly facility: number;
  /** `T1` a thread, `C0` a processor that was in no thread, as print_caller() has them. */
  readonly caller: string;
  /** Several lines perhaps, without a newline at the end; control characters escaped. */
  readonly text: string;
  /** Of dev_printk(): struct dev_printk_info. */
  readonly subsystem: string | undefined;
  readonly device: string | undefined;
}

export interface Log {
  /** Oldest first. */
  readonly records: readonly LogRecord[];
  /** How many older ones there may be beyond the limits. */
  readonly omitted: number;
}

/** The newest records and bytes that are read, whatever the guest says that it has. */
const recordLimit = 1 << 16;
const textLimit = 1 << 24;
/** LOG_LINE_MAX and PRINTKRB_RECORD_MAX are at most 2048. */
const recordTextLimit = 4096;
/** LOG_BUF_LEN_MAX is 2^31, and PRB_AVGBITS 5 less for the descriptors. */
const mostSizeBits = 31;
const mostCountBits = 26;
const idSize = 8;

// DESC_SV_BITS, DESC_FLAGS_SHIFT: the state is in the upper two bits.
const stateShift = 62n;
const idMask = (1n << stateShift) - 1n;
/** enum desc_state: committed, which may be continued yet, and finalized. */
const readable: ReadonlySet<bigint> = new Set([1n, 2n]);
/** Both positions of a record without text; FAILED_LPOS, 1, of one whose text was lost. */
const NO_LPOS = 3n;
const isDataless = (position: bigint): boolean => (position & 1n) === 1n;

type Offsets = NonNullable<ReturnType<typeof offsetsIn>>;

function offsetsIn(source: KernelLogSource) {
  const layout = (name: string): Layout | undefined => layoutOf(source, name);
  const info = layout('printk_info');
  const buffer = offsetsOf(layout('printk_ringbuffer'), 'desc_ring', 'text_data_ring');
  const descriptors = offsetsOf(layout('prb_desc_ring'), 'count_bits', 'descs', 'infos', 'head_id', 'tail_id');
  const descriptor = offsetsOf(layout('prb_desc'), 'state_var', 'text_blk_lpos');
  const position = offsetsOf(layout('prb_data_blk_lpos'), 'begin', 'next');
  const data = offsetsOf(layout('prb_data_ring'), 'size_bits', 'data');
  const record = offsetsOf(info, 'seq', 'ts_nsec', 'text_len', 'facility', 'level', 'caller_id');
  const level = info?.member('level')?.bits;
  if (!buffer || !descriptors || !descriptor || !position || !data || !record || !level) return undefined;
  const device = layout('dev_printk_info');
  const text = (name: string): { readonly at: number; readonly size: number } | undefined => {
    const member = device?.member(name);
    const at = info?.offsetOf('dev_info');
    return member && at !== undefined ? { at: at + member.offset, size: sizeOf(member.type) } : undefined;
  };
  const names = { subsystem: text('subsystem'), device: text('device') };
  return { buffer, descriptors, descriptor, position, data, record, level, names };
}

/** The rings as the guest describes them. */
interface Rings {
  readonly count: bigint;
  readonly descs: bigint;
  readonly infos: bigint;
  readonly head: bigint;
  readonly tail: bigint;
  readonly sizeBits: bigint;
  readonly data: bigint;
}

export class KernelLog {
  private constructor(
    /** Link-time address of the pointer `prb`. */
    private readonly prb: bigint,
    private readonly offsets: Offsets,
  ) {}

  /** Undefined where the symbols tell of no such log: kernels before v5.10, or without debug information. */
  static of(source: KernelLogSource): KernelLog | undefined {
    const symbol = source.symbolsNamed('prb').find(({ kind, size }) => kind !== 'function' && size === 8n);
    const offsets = symbol && offsetsIn(source);
    return offsets && new KernelLog(symbol.address, offsets);
  }

  /** `bias`: run-time minus link-time address. UserError while there is no log; TargetError when it is destroyed;
   *  MemoryFault when it cannot be read. */
  async read(bias: bigint, memory: VirtualMemory): Promise<Log> {
    const rings = await this.#rings(bias, memory);
    const present = ((rings.head - rings.tail) & idMask) + 1n;
    const wanted = Number(least(present, rings.count, BigInt(recordLimit)));
    const first = (rings.head - BigInt(wanted - 1)) & idMask;
    const { descriptor, record } = this.offsets;
    const descs = await elements(memory, rings.descs, descriptor.size, first, wanted, rings.count);
    const infos = await elements(memory, rings.infos, record.size, first, wanted, rings.count);
    const records: LogRecord[] = [];
    const turns = new EventLoopTurns();
    let index = wanted - 1;
    // From the newest back: it is the oldest that are given up where there are too many.
    for (let left = textLimit; index >= 0 && left > 0; index--) {
      const id = (first + BigInt(index)) & idMask;
      const found = await this.#record(
        id,
        part(descs, index, descriptor.size),
        part(infos, index, record.size),
        rings,
        memory,
      );
      if (turns.isOver) await turns.next();
      if (found === undefined) continue;
      records.push(found);
      left -= found.text.length;
    }
    const omitted = Number(least(present, rings.count)) - wanted + index + 1;
    return { records: records.reverse(), omitted };
  }

  async #rings(bias: bigint, memory: VirtualMemory): Promise<Rings> {
    const { buffer, descriptors, data } = this.offsets;
    const start = (await view(memory, this.prb + bias, 8)).getBigUint64(0, true);
    // It is relocated with the rest of the image, early in the boot.
    if (start === 0n) throw new UserError('The kernel has no log yet; let it run some way into its boot.');
    const bytes = await view(memory, start, buffer.size);
    const number = (at: number): bigint => bytes.getBigUint64(at, true);
    const [desc, text] = [buffer.desc_ring, buffer.text_data_ring];
    const countBits = bytes.getUint32(desc + descriptors.count_bits, true);
    const sizeBits = bytes.getUint32(text + data.size_bits, true);
    if (countBits > mostCountBits || sizeBits > mostSizeBits) {
      const sizes = `2^${countBits} records in 2^${sizeBits} bytes`;
      throw new TargetError(`The kernel's log is damaged, or not of these symbols: it is of ${sizes}.`);
    }
    return {
      count: 1n << BigInt(countBits),
      descs: number(desc + descriptors.descs),
      infos: number(desc + descriptors.infos),
      head: number(desc + descriptors.head_id) & idMask,
      tail: number(desc + descriptors.tail_id) & idMask,
      sizeBits: BigInt(sizeBits),
      data: number(text + data.data),
    };
  }

  /** Undefined when it is not whole. */
  async #record(
    id: bigint,
    desc: DataView,
    info: DataView,
    rings: Rings,
    memory: VirtualMemory,
  ): Promise<LogRecord | undefined> {
    const { descriptor, position, record, level, names } = this.offsets;
    const state = desc.getBigUint64(descriptor.state_var, true);
    if ((state & idMask) !== id || !readable.has(state >> stateShift)) return undefined;
    const seq = info.getBigUint64(record.seq, true);
    // Both are at the same index of their arrays (DESC_INDEX).
    if ((seq & (rings.count - 1n)) !== (id & (rings.count - 1n))) return undefined;
    const begin = desc.getBigUint64(descriptor.text_blk_lpos + position.begin, true);
    const next = desc.getBigUint64(descriptor.text_blk_lpos + position.next, true);
    const text = await this.#text(id, begin, next, info.getUint16(record.text_len, true), rings, memory);
    if (text === undefined) return undefined;
    const caller = info.getUint32(record.caller_id, true);
    return {
      seq,
      time: info.getBigUint64(record.ts_nsec, true),
      level: (info.getUint8(record.level) >> (level.bitOffset - 8 * record.level)) & ((1 << level.bitSize) - 1),
      facility: info.getUint8(record.facility),
      caller: `${caller >>> 31 ? 'C' : 'T'}${caller & 0x7fff_ffff}`,
      text,
      subsystem: textIn(info, names.subsystem),
      device: textIn(info, names.device),
    };
  }

  async #text(
    id: bigint,
    begin: bigint,
    next: bigint,
    length: number,
    { sizeBits, data }: Rings,
    memory: VirtualMemory,
  ): Promise<string | undefined> {
    if (isDataless(begin) && isDataless(next)) return begin === NO_LPOS && next === NO_LPOS ? '' : undefined;
    const block = blockAt(begin, next, sizeBits);
    if (block === undefined || length > block.size - idSize) return undefined;
    const bytes = await memory.read(Gva(data + block.index), idSize + Math.min(length, recordTextLimit));
    // Another record's, written over this one.
    if (viewOf(bytes).getBigUint64(0, true) !== id) return undefined;
    return printable(decodeText(bytes.subarray(idSize)));
  }
}

/** Where the data block between two positions is, its ID first. One that would go beyond the end of the ring lies at its
 *  beginning as a whole. One that ends with the ring does not, since v6.18 (commit 67e1b0052f6b); before, none did. */
function blockAt(
  begin: bigint,
  next: bigint,
  sizeBits: bigint,
): { readonly index: bigint; readonly size: number } | undefined {
  const mask = (1n << sizeBits) - 1n;
  const wraps = (BigInt.asUintN(64, next - 1n) >> sizeBits) - (begin >> sizeBits);
  // Positions begin near 2^64 and go on at 0.
  const turns = BigInt.asUintN(Number(64n - sizeBits), wraps);
  if (turns > 1n) return undefined;
  const [index, size] = turns === 0n ? [begin & mask, BigInt.asUintN(64, next - begin)] : [0n, next & mask];
  return size <= mask + 1n ? { index, size: Number(size) } : undefined;
}

/** `count` elements of a ring of `total`, from ID `first` on, in one piece. */
async function elements(
  memory: VirtualMemory,
  start: bigint,
  size: number,
  first: bigint,
  count: number,
  total: bigint,
): Promise<Uint8Array> {
  const from = first & (total - 1n);
  const upper = Number(least(BigInt(count), total - from));
  const head = await memory.read(Gva(start + from * BigInt(size)), upper * size);
  if (upper === count) return head;
  const all = new Uint8Array(count * size);
  all.set(head);
  all.set(await memory.read(Gva(start), (count - upper) * size), upper * size);
  return all;
}

const least = (...numbers: readonly bigint[]): bigint => numbers.reduce((a, b) => (b < a ? b : a));

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

const part = (bytes: Uint8Array, index: number, size: number): DataView =>
  viewOf(bytes.subarray(index * size, (index + 1) * size));

const view = async (memory: VirtualMemory, address: bigint, length: number): Promise<DataView> =>
  viewOf(await memory.read(Gva(address), length));

/** The text in an array of characters; undefined when it is empty. */
function textIn(info: DataView, array: { readonly at: number; readonly size: number } | undefined): string | undefined {
  if (array === undefined) return undefined;
  const bytes = new Uint8Array(info.buffer, info.byteOffset + array.at, array.size);
  const end = bytes.indexOf(0);
  return printable(decodeText(end < 0 ? bytes : bytes.subarray(0, end))) || undefined;
}

/** Control characters but tabs and newlines as `\x1b`, as dmesg does: what is shown in a terminal could do anything there. */
const printable = (text: string): string =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  text.replace(/[\0-\x08\x0b-\x1f\x7f-\x9f]/g, (character) => {
    return `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`;
  });

/** As `dmesg` prints them: further lines of a record are indented to where its first begins. */
export function logText(records: readonly LogRecord[]): string {
  return records.map((record) => `${recordText(record)}\n`).join('');
}

// print_time() of kernel/printk/printk.c: "[%5lu.%06lu]".
function recordText({ time, text }: LogRecord): string {
  const seconds = `${time / 1_000_000_000n}`.padStart(5);
  const micros = `${(time % 1_000_000_000n) / 1000n}`.padStart(6, '0');
  const prefix = `[${seconds}.${micros}] `;
  const [first = '', ...others] = text.split('\n');
  return [prefix + first, ...others.map((line) => (line === '' ? '' : ' '.repeat(prefix.length) + line))].join('\n');
}
