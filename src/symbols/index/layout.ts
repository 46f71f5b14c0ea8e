// The index as it is on disk. All numbers are little-endian, of 32 bits:
//
//   magic (8 bytes)  version  CRC-32 of all that follows it  bytes of the key
//   for each table: names  entries
//   units
//   the key in UTF-8, padded with zeros to 4 bytes
//   for each table: hashes[names], ascending  starts[names]  entries[entries]
//   starts of units[units], ascending
//
// The entries of name i of a table are [starts[i], starts[i + 1]), of the last one up to the end. An entry is the offset
// of a DIE in .debug_info, or, for names of files, of a program in .debug_line. It is looked up where it is: nothing of
// it is kept but what a search touches.

import { Cursor } from '../../base/bytes.ts';
import { crc32 } from '../crc32.ts';
import { hashOf } from './nameHash.ts';

/** Names of entries in .debug_info. */
export const entryTables = ['functions', 'variables', 'types', 'enumerators'] as const;
export type EntryTable = (typeof entryTables)[number];
/** And of source files, by the last component: their entries are the line programs that name them. */
const tableNames = [...entryTables, 'files'] as const;
export type TableName = (typeof tableNames)[number];

/** One entry for each hash, ascending by hash; those of one name in the order of the section. */
export interface IndexTable {
  readonly hashes: Uint32Array;
  readonly entries: Uint32Array;
}
export type IndexTables = Readonly<Record<TableName, IndexTable>>;

export interface IndexContents {
  readonly tables: IndexTables;
  /** Offsets of unit headers in .debug_info, ascending: who has them finds an entry's unit without reading all headers.
   *  Empty where they do not fit. */
  readonly units: Uint32Array;
}

/** Where an index is read from: a file, or memory where none could be written. */
export interface IndexBytes {
  readonly size: number;
  /** Valid until the next call. */
  read(offset: number, length: number): Uint8Array;
}

const magic = 'kvmdbgNI';
/** Changes with the layout, and with what the scan finds. */
const version = 5;
const checksumAt = 12;
const keySizeAt = 16;
const fixedBytes = 20 + tableNames.length * 8 + 4;
/** Keys are a build-id or a path, and sizes. */
const keyLimit = 1 << 14;
/** Entries for one name. `put_page` has 60, and the most frequent one of a kernel 2,000. */
const entryLimit = 1 << 16;
const readBytes = 1 << 18;

const padded = (size: number): number => (size + 3) & ~3;

export const writeIndex = (key: string, { tables, units }: IndexContents): Uint8Array => {
  const keyBytes = Buffer.from(key).subarray(0, keyLimit);
  const compact = tableNames.map((name) => compacted(tables[name]));
  const words = compact.reduce((sum, { hashes, entries }) => sum + 2 * hashes.length + entries.length, units.length);
  const bytes = Buffer.alloc(fixedBytes + padded(keyBytes.length) + 4 * words);
  bytes.write(magic, 'latin1');
  bytes.writeUInt32LE(version, 8);
  bytes.writeUInt32LE(keyBytes.length, keySizeAt);
  let at = keySizeAt + 4;
  const put = (value: number): void => {
    at = bytes.writeUInt32LE(value, at);
  };
  for (const { hashes, entries } of compact) {
    put(hashes.length);
    put(entries.length);
  }
  put(units.length);
  keyBytes.copy(bytes, at);
  at += padded(keyBytes.length);
  for (const { hashes, starts, entries } of compact) {
    hashes.forEach(put);
    starts.forEach(put);
    entries.forEach(put);
  }
  units.forEach(put);
  bytes.writeUInt32LE(crc32(bytes.subarray(checksumAt + 4)), checksumAt);
  return bytes;
};

/** Each hash once. */
const compacted = ({ hashes, entries }: IndexTable) => {
  const starts: number[] = [];
  for (let at = 0; at < hashes.length; at++) if (at === 0 || hashes[at] !== hashes[at - 1]) starts.push(at);
  return { hashes: starts.map((at) => hashes[at] ?? 0), starts, entries };
};

interface TablePlace {
  readonly names: number;
  readonly entries: number;
  readonly hashesAt: number;
  readonly startsAt: number;
  readonly entriesAt: number;
}

/** An index that was found whole. */
export class IndexReader {
  readonly #bytes: IndexBytes;
  readonly #places: ReadonlyMap<TableName, TablePlace>;
  readonly #unitsAt: number;

  private constructor(bytes: IndexBytes, places: ReadonlyMap<TableName, TablePlace>, unitsAt: number) {
    this.#bytes = bytes;
    this.#places = places;
    this.#unitsAt = unitsAt;
  }

  /** undefined when the bytes are no index, one of another version or for another image, or damaged. */
  static open(bytes: IndexBytes, key: string): IndexReader | undefined {
    if (bytes.size < fixedBytes) return undefined;
    const header = new Cursor(bytes.read(0, fixedBytes).slice(), 'index');
    if (Buffer.from(header.take(magic.length)).toString('latin1') !== magic || header.u32() !== version)
      return undefined;
    const checksum = header.u32();
    const keySize = header.u32();
    if (keySize > keyLimit || fixedBytes + keySize > bytes.size) return undefined;
    const places = new Map<TableName, TablePlace>();
    let at = fixedBytes + padded(keySize);
    for (const name of tableNames) {
      const names = header.u32();
      const entries = header.u32();
      const startsAt = at + 4 * names;
      const entriesAt = startsAt + 4 * names;
      places.set(name, { names, entries, hashesAt: at, startsAt, entriesAt });
      at = entriesAt + 4 * entries;
    }
    const unitsAt = at;
    at += 4 * header.u32();
    if (at !== bytes.size || at % 4 !== 0 || checksumOf(bytes) !== checksum) return undefined;
    if (Buffer.from(bytes.read(fixedBytes, keySize)).compare(Buffer.from(key).subarray(0, keyLimit)) !== 0)
      return undefined;
    return new IndexReader(bytes, places, unitsAt);
  }

  /** Offsets of all unit headers, ascending. */
  units(): Uint32Array {
    const count = (this.#bytes.size - this.#unitsAt) / 4;
    const units = new Cursor(this.#bytes.read(this.#unitsAt, 4 * count), 'index');
    return Uint32Array.from({ length: count }, () => units.u32());
  }

  /** Entries that may have a name: those of another name with the same hash are among them. */
  candidates(table: TableName, name: string): readonly number[] {
    const place = this.#places.get(table);
    if (place === undefined) return [];
    const hash = hashOf(name);
    let begin = 0;
    let end = place.names;
    while (begin < end) {
      const middle = (begin + end) >>> 1;
      if (this.#word(place.hashesAt, middle) < hash) begin = middle + 1;
      else end = middle;
    }
    if (begin === place.names || this.#word(place.hashesAt, begin) !== hash) return [];
    const first = this.#word(place.startsAt, begin);
    const last = begin + 1 < place.names ? this.#word(place.startsAt, begin + 1) : place.entries;
    const count = Math.min(last - first, entryLimit);
    if (count <= 0 || first + count > place.entries) return [];
    const entries = new Cursor(this.#bytes.read(place.entriesAt + 4 * first, 4 * count), 'index');
    return Array.from({ length: count }, () => entries.u32());
  }

  #word(table: number, index: number): number {
    const [a = 0, b = 0, c = 0, d = 0] = this.#bytes.read(table + 4 * index, 4);
    return (a | (b << 8) | (c << 16) | (d << 24)) >>> 0;
  }
}

/** Tells torn and damaged files, not forged ones: what is read from an index is checked where it is used. */
const checksumOf = (bytes: IndexBytes): number => {
  let checksum = 0;
  for (let at = checksumAt + 4; at < bytes.size; at += readBytes) {
    checksum = crc32(bytes.read(at, Math.min(readBytes, bytes.size - at)), checksum);
  }
  return checksum;
};
