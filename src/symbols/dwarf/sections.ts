// The DWARF sections of one image, and the strings and addresses that units refer to by offset or index.

import { Cursor, decodeText } from '../../base/bytes.ts';
import { FormatError } from '../../base/errors.ts';
import type { ElfFile } from '../elf.ts';
import type { ByteSource } from '../file.ts';
import type { Encoding } from './forms.ts';

export class DwarfSections {
  readonly #elf: ElfFile;
  readonly #whole = new Map<string, Uint8Array>();

  constructor(elf: ElfFile) {
    this.#elf = elf;
  }

  /** undefined when the image has no such section. */
  find(name: string): ByteSource | undefined {
    return this.#elf.contents(name);
  }

  /** Whether `find` would find it; decompresses nothing. */
  has(name: string): boolean {
    return this.#elf.hasContents(name);
  }

  /** A section that something refers to, so that its absence is an error. */
  get(name: string): ByteSource {
    const section = this.find(name);
    if (section === undefined) throw new FormatError(name, 0, 'the section is missing');
    return section;
  }

  /** Where a section is loaded. */
  addressOf(name: string): bigint {
    return this.#elf.section(name)?.address ?? 0n;
  }

  /** All bytes of a section, kept: for small ones that are used throughout (.debug_line_str). */
  whole(name: string): Uint8Array {
    let bytes = this.#whole.get(name);
    if (bytes === undefined) {
      const section = this.get(name);
      bytes = section.read(0, section.size);
      this.#whole.set(name, bytes);
    }
    return bytes;
  }

  /** The NUL-terminated string at an offset of .debug_str or .debug_line_str. */
  string(name: string, offset: number): string {
    const section = this.get(name);
    for (let length = 128; ; length *= 16) {
      if (offset >= section.size) throw new FormatError(name, offset, `beyond the section's ${section.size} bytes`);
      const bytes = section.read(offset, Math.min(length, section.size - offset));
      const end = bytes.indexOf(0);
      if (end >= 0) return decodeText(bytes.subarray(0, end));
      if (bytes.length < length) throw new FormatError(name, offset, 'a string without an end');
    }
  }

  /** Entry `index` of the part of .debug_str_offsets that begins at `base` (7.26). */
  stringOffset(base: number, index: number, encoding: Encoding): number {
    const size = encoding.offsetSize;
    const name = '.debug_str_offsets';
    const at = base + index * size;
    const cursor = new Cursor(this.get(name).read(at, size), name, at);
    return size === 8 ? cursor.u64AsNumber() : cursor.u32();
  }

  /** Entry `index` of the part of .debug_addr that begins at `base` (7.27). */
  address(base: number, index: number, encoding: Encoding): bigint {
    const name = '.debug_addr';
    const at = base + index * encoding.addressSize;
    return new Cursor(this.get(name).read(at, encoding.addressSize), name, at).unsigned(encoding.addressSize);
  }
}
