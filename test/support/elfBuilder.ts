// Builds small ELF-64 files for tests of the symbol reader.

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

export interface ElfInput {
  readonly type?: number;
  readonly machine?: number;
  readonly entry?: bigint;
  readonly sections: readonly SectionInput[];
  readonly symbols?: readonly SymbolInput[];
  readonly segments?: readonly { type: number; offset: number; address: bigint; size: number; flags?: number }[];
}

export const ALLOC = 2;
export const EXEC = 4;
export const COMPRESSED = 0x800;

/** Sections from 1 in the order given, then .symtab, .strtab and .shstrtab. Their bytes begin at 0x40 + 56 × segments,
 *  aligned to 8. */
export const buildElf = (input: ElfInput): Uint8Array => {
  const names = new StringTable();
  const sections: SectionInput[] = [...input.sections];
  if (input.symbols !== undefined) {
    const strings = new StringTable();
    const table = new Bytes().bytes(new Uint8Array(24));
    for (const { name, value, size = 0, type = 2, global = false, section } of input.symbols) {
      const index = section === undefined ? 0 : input.sections.findIndex((other) => other.name === section) + 1;
      table
        .u32(strings.add(name))
        .u8(((global ? 1 : 0) << 4) | type, 0)
        .u16(index)
        .u64(value)
        .u64(size);
    }
    sections.push({ name: '.symtab', type: 2, bytes: table.done(), link: sections.length + 2, entrySize: 24 });
    sections.push({ name: '.strtab', type: 3, bytes: strings.done() });
  }
  for (const { name } of sections) names.add(name);
  names.add('.shstrtab');
  sections.push({ name: '.shstrtab', type: 3, bytes: names.done() });

  const segments = input.segments ?? [];
  const body = new Bytes();
  const bodyAt = 64 + 56 * segments.length;
  const headers = new Bytes().bytes(new Uint8Array(64));
  for (const section of sections) {
    body.align(8);
    const { name, type = 1, flags = 0, address = 0n, bytes, link = 0, entrySize = 0 } = section;
    headers.u32(names.add(name)).u32(type).u64(flags).u64(address);
    headers
      .u64(bodyAt + body.length)
      .u64(bytes.length)
      .u32(link)
      .u32(0)
      .u64(8)
      .u64(entrySize);
    if (type !== 8) body.bytes(bytes);
  }
  body.align(8);
  const file = new Bytes().bytes([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0]).u64(0);
  file
    .u16(input.type ?? 2)
    .u16(input.machine ?? 183)
    .u32(1)
    .u64(input.entry ?? 0n);
  file.u64(segments.length > 0 ? 64 : 0).u64(bodyAt + body.length);
  file
    .u32(0)
    .u16(64)
    .u16(56)
    .u16(segments.length)
    .u16(64)
    .u16(sections.length + 1)
    .u16(sections.length);
  for (const { type, offset, address, size, flags = 5 } of segments) {
    file.u32(type).u32(flags).u64(offset).u64(address).u64(address).u64(size).u64(size).u64(8);
  }
  return file.bytes(body.done()).bytes(headers.done()).done();
};

/** A file that is gone when the test is. */
export const temporaryFile = (context: TestContext, bytes: Uint8Array, name = 'image'): string => {
  const directory = mkdtempSync(join(tmpdir(), 'kvm-debug-test-'));
  context.after(() => rmSync(directory, { recursive: true }));
  const path = join(directory, name);
  writeFileSync(path, bytes);
  return path;
};
