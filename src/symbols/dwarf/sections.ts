// The DWARF sections of one image, and the strings and addresses that units refer to by offset or index.

import { Cursor, decodeText } from '../../base/bytes.ts';
import { FormatError } from '../../base/errors.ts';
import { ConcatenatedSections } from '../byteSource.ts';
import type { ElfFile } from '../elf.ts';
import type { ByteSource } from '../file.ts';
import type { Encoding } from './forms.ts';

/** Of units. DWARF 5 has type units in .debug_info too; relocatable files have a section of that name for each. */
const info = '.debug_info';
const types = '.debug_types';

export class DwarfSections {
  readonly #files: readonly ElfFile[];
  readonly #found = new Map<string, ByteSource | undefined>();
  readonly #whole = new Map<string, Uint8Array>();

  /** `files`: where sections are looked for, in this order; an image and its separate debug file. */
  constructor(...files: readonly ElfFile[]) {
    this.#files = files;
  }

  /** undefined when the image has no such section. .debug_info has .debug_types (DWARF 4, 7.5.1.2) behind it, so that one
   *  offset finds any unit. */
  find(name: string): ByteSource | undefined {
    if (!this.#found.has(name)) this.#found.set(name, name === info ? this.#units() : this.#first(name));
    return this.#found.get(name);
  }

  /** Whether `find` would find it; decompresses nothing. */
  has(name: string): boolean {
    return this.#files.some((file) => file.debugSections(name).length > 0);
  }

  /** Where .debug_types begins in what `find` calls .debug_info. */
  get typesAt(): number {
    this.#typesAt ??= this.#parts(info).reduce((total, part) => total + part.size, 0);
    return this.#typesAt;
  }
  #typesAt: number | undefined;

  #units(): ByteSource | undefined {
    const parts = [...this.#parts(info), ...this.#parts(types)];
    return parts.length > 1 ? new ConcatenatedSections(info, parts) : parts[0];
  }

  #first(name: string): ByteSource | undefined {
    return this.#parts(name)[0];
  }

  /** The sections of that name in the first file that has one. */
  #parts(name: string): ByteSource[] {
    const file = this.#files.find((each) => each.debugSections(name).length > 0);
    return (file?.debugSections(name) ?? []).map((header) => (file as ElfFile).contentsOf(header));
  }

  /** A section that something refers to, so that its absence is an error. */
  get(name: string): ByteSource {
    const section = this.find(name);
    if (section === undefined) throw new FormatError(name, 0, 'the section is missing');
    return section;
  }

  /** Where a section is loaded. */
  addressOf(name: string): bigint {
    const file = this.#files.find((each) => each.debugSections(name).length > 0);
    return file?.section(name)?.address ?? 0n;
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
