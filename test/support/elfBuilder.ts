// Builds small ELF files for tests of the symbol reader.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';

/** Appends little-endian values. */
export class Bytes {
  readonly #bytes: number[] = [];

  get length(): number {
    return this.#bytes.length;
  }
  u8(...values: number[]): this {
    for (const value of values) this.#bytes.push(value & 0xff);
    return this;
  }
  u16(value: number): this {
    return this.u8(value, value >> 8);
  }
  u32(value: number): this {
    return this.u8(value, value >> 8, value >> 16, value >> 24);
  }
  u64(value: bigint | number): this {
    let rest = BigInt.asUintN(64, BigInt(value));
    for (let i = 0; i < 8; i++, rest >>= 8n) this.u8(Number(rest & 0xffn));
    return this;
  }
  uleb(value: bigint | number): this {
    let rest = BigInt(value);
    for (;;) {
      const low = Number(rest & 0x7fn);
      rest >>= 7n;
      if (rest === 0n) return this.u8(low);
      this.u8(low | 0x80);
    }
  }
  sleb(value: bigint | number): this {
    let rest = BigInt(value);
    for (;;) {
      const low = Number(rest & 0x7fn);
      rest >>= 7n;
      if ((rest === 0n && (low & 0x40) === 0) || (rest === -1n && (low & 0x40) !== 0)) return this.u8(low);
      this.u8(low | 0x80);
    }
  }
  string(text: string): this {
    return this.bytes(Buffer.from(`${text}\0`));
  }
  bytes(bytes: Iterable<number>): this {
    for (const byte of bytes) this.#bytes.push(byte);
    return this;
  }
  align(size: number, fill = 0): this {
    while (this.length % size !== 0) this.u8(fill);
    return this;
  }
  /** A 32-bit length, then what `body` writes. */
  counted(body: (bytes: Bytes) => void): this {
    const inner = new Bytes();
    body(inner);
    return this.u32(inner.length).bytes(inner.#bytes);
  }
  done(): Uint8Array {
    return Uint8Array.from(this.#bytes);
  }
}

/** A string table in which each string is once. */
export class StringTable {
  readonly #bytes = new Bytes().u8(0);
  readonly #offsets = new Map<string, number>([['', 0]]);

  add(text: string): number {
    const known = this.#offsets.get(text);
    if (known !== undefined) return known;
    const offset = this.#bytes.length;
    this.#offsets.set(text, offset);
    this.#bytes.string(text);
    return offset;
  }
  done(): Uint8Array {
    return this.#bytes.done();
  }
}

export interface SectionInput {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly type?: number;
  readonly flags?: number;
  readonly address?: bigint;
  readonly link?: number;
  readonly info?: number;
  readonly alignment?: number;
  readonly entrySize?: number;
}

export interface SymbolInput {
  readonly name: string;
  readonly value: bigint;
  readonly size?: number;
  /** 0 none, 1 object, 2 function, 3 section, 4 file. */
  readonly type?: number;
  readonly global?: boolean;
  /** Name of its section; undefined is SHN_UNDEF. */
  readonly section?: string | undefined;
}

/** One relocation of a section. `symbol`: its number in `ElfInput.symbols`, from 0. */
export interface RelocationInput {
  readonly offset: number;
  readonly type: number;
  readonly symbol: number;
  readonly addend?: bigint;
}

export interface ElfInput {
  /** 4: ELF-32. */
  readonly addressSize?: 4 | 8;
  /** By the name of the section they apply to: a .rela section for each. */
  readonly relocations?: Readonly<Record<string, readonly RelocationInput[]>>;
  /** SHT_REL, addends in the fields. */
  readonly withoutAddends?: boolean;
  readonly type?: number;
  readonly machine?: number;
  readonly entry?: bigint;
  readonly sections: readonly SectionInput[];
  readonly symbols?: readonly SymbolInput[];
  /** `size`: bytes in the file; `memorySize`: in memory, as many unless given. */
  readonly segments?: readonly {
    type: number;
    offset: number;
    address: bigint;
    size: number;
    memorySize?: number;
    flags?: number;
  }[];
}

export const ALLOC = 2;
export const EXEC = 4;
export const COMPRESSED = 0x800;

/** Sections from 1 in the order given, then .symtab, .strtab, relocations and .shstrtab. Their bytes begin behind the ELF
 *  header (0x40, ELF-32: 0x34) and the segments' (56, 32 each), aligned to 8. */
export const buildElf = (input: ElfInput): Uint8Array => {
  const { addressSize = 8, segments = [] } = input;
  const is64 = addressSize === 8;
  const word = (bytes: Bytes, ...values: (number | bigint)[]): void => {
    for (const value of values) is64 ? bytes.u64(value) : bytes.u32(Number(BigInt.asIntN(32, BigInt(value))));
  };
  const sections = [...input.sections, ...tablesOf(input, word)];
  const names = new StringTable();
  for (const { name } of sections) names.add(name);
  names.add('.shstrtab');
  sections.push({ name: '.shstrtab', type: 3, bytes: names.done() });

  const body = new Bytes();
  const headerBytes = is64 ? 64 : 52;
  const bodyAt = Math.ceil((headerBytes + (is64 ? 56 : 32) * segments.length) / 8) * 8;
  const headers = new Bytes().bytes(new Uint8Array(is64 ? 64 : 40));
  for (const section of sections) {
    body.align(8);
    const {
      name,
      type = 1,
      flags = 0,
      address = 0n,
      bytes,
      link = 0,
      info = 0,
      alignment = 8,
      entrySize = 0,
    } = section;
    headers.u32(names.add(name)).u32(type);
    word(headers, flags, address, bodyAt + body.length, bytes.length);
    headers.u32(link).u32(info);
    word(headers, alignment, entrySize);
    if (type !== 8) body.bytes(bytes);
  }
  body.align(8);
  const file = new Bytes().bytes([0x7f, 0x45, 0x4c, 0x46, is64 ? 2 : 1, 1, 1, 0]).u64(0);
  file
    .u16(input.type ?? 2)
    .u16(input.machine ?? 183)
    .u32(1);
  word(file, input.entry ?? 0n, segments.length > 0 ? headerBytes : 0, bodyAt + body.length);
  file
    .u32(0)
    .u16(headerBytes)
    .u16(is64 ? 56 : 32)
    .u16(segments.length)
    .u16(is64 ? 64 : 40)
    .u16(sections.length + 1)
    .u16(sections.length);
  for (const { type, offset, address, size, memorySize = size, flags = 5 } of segments) {
    file.u32(type);
    if (is64) file.u32(flags);
    word(file, offset, address, address, size, memorySize);
    if (!is64) file.u32(flags);
    word(file, 8);
  }
  return file.align(8).bytes(body.done()).bytes(headers.done()).done();
};

type WordWriter = (bytes: Bytes, ...values: (number | bigint)[]) => void;

const tablesOf = (input: ElfInput, word: WordWriter): SectionInput[] => {
  const { symbols, relocations = {}, addressSize = 8, withoutAddends = false } = input;
  const is64 = addressSize === 8;
  const indexOf = (name: string): number => input.sections.findIndex((section) => section.name === name) + 1;
  const tables: SectionInput[] = [];
  const table = input.sections.length + 1;
  if (symbols !== undefined) {
    const strings = new StringTable();
    const entrySize = is64 ? 24 : 16;
    const entries = new Bytes().bytes(new Uint8Array(entrySize));
    for (const { name, value, size = 0, type = 2, global = false, section } of symbols) {
      entries.u32(strings.add(name));
      const index = section === undefined ? 0 : indexOf(section);
      if (!is64) word(entries, value, size);
      entries.u8(((global ? 1 : 0) << 4) | type, 0).u16(index);
      if (is64) word(entries, value, size);
    }
    tables.push({ name: '.symtab', type: 2, bytes: entries.done(), link: table + 1, entrySize });
    tables.push({ name: '.strtab', type: 3, bytes: strings.done() });
  }
  for (const [name, list] of Object.entries(relocations)) {
    const entries = new Bytes();
    for (const { offset, type, symbol, addend = 0n } of list) {
      word(entries, offset, is64 ? (BigInt(symbol + 1) << 32n) | BigInt(type) : ((symbol + 1) << 8) | type);
      if (!withoutAddends) word(entries, addend);
    }
    tables.push({
      name: `.rel${withoutAddends ? '' : 'a'}${name}`,
      type: withoutAddends ? 9 : 4,
      bytes: entries.done(),
      link: table,
      info: indexOf(name),
    });
  }
  return tables;
};

/** A file that is gone when the test is. */
export const temporaryFile = (context: TestContext, bytes: Uint8Array, name = 'image'): string => {
  const directory = mkdtempSync(join(tmpdir(), 'kvm-debug-test-'));
  context.after(() => rmSync(directory, { recursive: true }));
  const path = join(directory, name);
  writeFileSync(path, bytes);
  return path;
};
