import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { FormatError, messageOf, UserError } from '../base/errors.ts';

/** Bytes between two offsets of something larger, read by parts. */
export interface ByteSource {
  /** For messages: a section's name. */
  readonly name: string;
  readonly size: number;
  /** A copy of [offset, offset + length), the caller's to keep. Throws a FormatError when the range is not inside. */
  read(offset: number, length: number): Uint8Array;
  /** As `read`, but the bytes are valid only until the next `peek` at any part of the same file. */
  peek(offset: number, length: number): Uint8Array;
}

// Large enough for scans of a whole section in few calls, small enough for a processor's cache: at 4 MiB they took half as
// long again. mmap was no faster and makes every touched page resident.
const windowBytes = 1 << 20;
/** Reads up to `smallBytes` are answered from `aheadBytes` read at once. */
const smallBytes = 1024;
const aheadBytes = 16 << 10;

/** A regular file read by `pread` through one window. */
export class PagedFile {
  readonly size: number;
  readonly #descriptor: number;
  #closed = false;
  #window = new Uint8Array(0);
  #windowStart = 0;
  #windowLength = 0;
  readonly #ahead = new Uint8Array(aheadBytes);
  #aheadStart = 0;
  #aheadLength = 0;

  constructor(readonly path: string) {
    try {
      // Opening a pipe waits for its writer.
      this.#descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      const why = code === 'ENOENT' ? 'there is no such file' : code === 'EACCES' ? 'no permission' : messageOf(error);
      throw new UserError(`Cannot open the symbol file ${path}: ${why}.`, { cause: error });
    }
    const stat = fstatSync(this.#descriptor);
    if (!stat.isFile()) {
      closeSync(this.#descriptor);
      throw new UserError(`Cannot open the symbol file ${path}: it is not a regular file.`);
    }
    this.size = stat.size;
  }

  read(offset: number, length: number): Uint8Array {
    this.#check(offset, length);
    const start = offset - this.#windowStart;
    if (start >= 0 && start + length <= this.#windowLength) return this.#window.slice(start, start + length);
    if (length <= smallBytes) return this.#readSmall(offset, length);
    const bytes = new Uint8Array(length);
    this.#fill(bytes, offset, length);
    return bytes;
  }

  peek(offset: number, length: number): Uint8Array {
    this.#check(offset, length);
    let start = offset - this.#windowStart;
    if (start < 0 || start + length > this.#windowLength) {
      if (this.#window.length < Math.max(length, windowBytes)) {
        this.#window = new Uint8Array(Math.max(length, windowBytes));
      }
      this.#windowLength = 0;
      const filled = Math.min(this.#window.length, this.size - offset);
      this.#fill(this.#window, offset, filled);
      this.#windowStart = offset;
      this.#windowLength = filled;
      start = 0;
    }
    return this.#window.subarray(start, start + length);
  }

  // Small reads come in crowds: the range lists of a unit, the strings of its names.
  #readSmall(offset: number, length: number): Uint8Array {
    let start = offset - this.#aheadStart;
    if (start < 0 || start + length > this.#aheadLength) {
      const filled = Math.min(this.#ahead.length, this.size - offset);
      this.#aheadLength = 0;
      this.#fill(this.#ahead, offset, filled);
      this.#aheadStart = offset;
      this.#aheadLength = filled;
      start = 0;
    }
    return this.#ahead.slice(start, start + length);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#window = new Uint8Array(0);
    this.#windowLength = 0;
    closeSync(this.#descriptor);
  }

  #check(offset: number, length: number): void {
    if (this.#closed) throw new Error(`${this.path} is closed`);
    if (!(offset >= 0 && length >= 0 && offset + length <= this.size)) {
      throw new FormatError(this.path, offset, `${length} bytes wanted of a file of ${this.size}`);
    }
  }

  #fill(target: Uint8Array, offset: number, length: number): void {
    for (let done = 0; done < length; ) {
      const count = readSync(this.#descriptor, target, done, length - done, offset + done);
      if (count === 0) throw new UserError(`${this.path} became shorter while it was read.`);
      done += count;
    }
  }
}
