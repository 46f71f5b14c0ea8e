// Where the bytes of a section are: in the file, in memory, or in several sections one behind the other.

import { FormatError } from '../base/errors.ts';
import type { ByteSource, PagedFile } from './file.ts';

/** A section whose bytes are in the file. */
export class FileSection implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly #file: PagedFile;
  readonly #start: number;

  constructor(file: PagedFile, section: { readonly name: string; readonly offset: number; readonly size: number }) {
    this.name = section.name;
    this.size = section.size;
    this.#file = file;
    this.#start = section.offset;
    if (section.offset + section.size > file.size) {
      throw new FormatError(section.name, 0, `the section reaches beyond the end of ${file.path}`);
    }
  }

  read(offset: number, length: number): Uint8Array {
    checkRange(this, offset, length);
    return this.#file.read(this.#start + offset, length);
  }
  peek(offset: number, length: number): Uint8Array {
    checkRange(this, offset, length);
    return this.#file.peek(this.#start + offset, length);
  }
}

/** A section whose bytes are in memory. */
export class BufferSection implements ByteSource {
  readonly size: number;
  readonly #bytes: Uint8Array;

  constructor(
    readonly name: string,
    bytes: Uint8Array,
  ) {
    this.size = bytes.length;
    this.#bytes = bytes;
  }

  read(offset: number, length: number): Uint8Array {
    return this.peek(offset, length).slice();
  }
  peek(offset: number, length: number): Uint8Array {
    checkRange(this, offset, length);
    return this.#bytes.subarray(offset, offset + length);
  }
}

/** Sections as one, in the order given. */
export class ConcatenatedSections implements ByteSource {
  readonly size: number;

  constructor(
    readonly name: string,
    readonly parts: readonly ByteSource[],
  ) {
    this.size = parts.reduce((total, part) => total + part.size, 0);
  }

  read(offset: number, length: number): Uint8Array {
    checkRange(this, offset, length);
    const bytes = new Uint8Array(length);
    let start = 0;
    for (const part of this.parts) {
      const from = Math.max(offset, start);
      const to = Math.min(offset + length, start + part.size);
      if (from < to) bytes.set(part.read(from - start, to - from), from - offset);
      start += part.size;
    }
    return bytes;
  }
  peek(offset: number, length: number): Uint8Array {
    checkRange(this, offset, length);
    let start = 0;
    for (const part of this.parts) {
      if (offset >= start && offset + length <= start + part.size) return part.peek(offset - start, length);
      start += part.size;
    }
    return this.read(offset, length);
  }
}

const checkRange = (section: ByteSource, offset: number, length: number): void => {
  if (!(offset >= 0 && length >= 0 && offset + length <= section.size)) {
    throw new FormatError(section.name, offset, `${length} bytes wanted of a section of ${section.size}`);
  }
};
