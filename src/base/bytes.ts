import { FormatError } from './errors.ts';

/** Reads little-endian integers, LEB128 and strings from bytes, forwards. A read beyond the end is a FormatError that
 *  names `where` and the offset in it, so parsers need no bounds checks of their own. */
export class Cursor {
  /** Index into `bytes` of the next byte. May be set; a position out of range fails at the next read. */
  position = 0;
  readonly #view: DataView;

  /** `where` and `base` say what the bytes are: they begin at offset `base` of `where` (a section or a file). */
  constructor(
    readonly bytes: Uint8Array,
    readonly where: string,
    readonly base = 0,
  ) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Offset of the next byte in `where`. */
  get offset(): number {
    return this.base + this.position;
  }
  get remaining(): number {
    return this.bytes.length - this.position;
  }
  get atEnd(): boolean {
    return this.position >= this.bytes.length;
  }

  /** An error about the byte at `at`, an index into `bytes`. */
  failure(what: string, at = this.position): FormatError {
    return new FormatError(this.where, this.base + at, what);
  }
  fail(what: string, at = this.position): never {
    throw this.failure(what, at);
  }

  /** Moves on by `count` bytes and returns where they begin. */
  advance(count: number): number {
    const start = this.position;
    // Not `start + count > length`: a count of NaN has to fail as well.
    if (!(count >= 0 && start >= 0 && count <= this.bytes.length - start)) {
      this.fail(`${count} bytes wanted, ${Math.max(0, this.remaining)} left`);
    }
    this.position = start + count;
    return start;
  }

  u8(): number {
    const byte = this.bytes[this.position];
    if (byte === undefined) this.fail('1 byte wanted, 0 left');
    this.position++;
    return byte;
  }
  i8(): number {
    return (this.u8() << 24) >> 24;
  }
  u16(): number {
    return this.#view.getUint16(this.advance(2), true);
  }
  i16(): number {
    return this.#view.getInt16(this.advance(2), true);
  }
  u24(): number {
    const low = this.u16();
    return low | (this.u8() << 16);
  }
  u32(): number {
    return this.#view.getUint32(this.advance(4), true);
  }
  i32(): number {
    return this.#view.getInt32(this.advance(4), true);
  }
  u64(): bigint {
    return this.#view.getBigUint64(this.advance(8), true);
  }
  i64(): bigint {
    return this.#view.getBigInt64(this.advance(8), true);
  }

  /** 64 bits that count or index something: anything beyond 2^53 cannot be and is malformed. */
  u64AsNumber(): number {
    const start = this.position;
    const value = this.u64();
    if (value > 0x1f_ffff_ffff_ffffn) this.fail(`0x${value.toString(16)} is out of range`, start);
    return Number(value);
  }

  /** Unsigned integer of 1, 2, 4 or 8 bytes. */
  unsigned(size: number): bigint {
    switch (size) {
      case 1:
        return BigInt(this.u8());
      case 2:
        return BigInt(this.u16());
      case 4:
        return BigInt(this.u32());
      case 8:
        return this.u64();
      default:
        return this.fail(`an integer of ${size} bytes is not supported`);
    }
  }

  /** LEB128 (DWARF 5, 7.6) that counts or indexes something; beyond 2^53 it is malformed. */
  uleb(): number {
    const bytes = this.bytes;
    let byte = bytes[this.position];
    if (byte !== undefined && byte < 0x80) {
      this.position++;
      return byte;
    }
    const start = this.position;
    let value = 0;
    let scale = 1;
    do {
      byte = this.u8();
      value += (byte & 0x7f) * scale;
      scale *= 128;
      if (value > Number.MAX_SAFE_INTEGER) this.fail('a LEB128 number beyond 2^53', start);
      // Padding (0x80 0x80 … 0x00) is legal, an endless run of it is not worth following.
      if (this.position - start > 16) this.fail('a LEB128 number of more than 16 bytes', start);
    } while (byte >= 0x80);
    return value;
  }

  /** Signed LEB128 within ±2^53. */
  sleb(): number {
    const first = this.bytes[this.position];
    if (first !== undefined && first < 0x80) {
      this.position++;
      return (first << 25) >> 25;
    }
    const start = this.position;
    const low = this.u8();
    const second = this.u8();
    // Two bytes hold the line advances of line programs, which are read by the million.
    if (second < 0x80) return (((low & 0x7f) | (second << 7)) << 18) >> 18;
    this.position = start;
    const number = Number(this.slebBig());
    if (!Number.isSafeInteger(number)) this.fail('a signed LEB128 number beyond 2^53', start);
    return number;
  }

  /** Unsigned LEB128 as 64 bits; higher bits are dropped. */
  ulebBig(): bigint {
    return BigInt.asUintN(64, this.#leb(false));
  }
  /** Signed LEB128 as 64 bits. */
  slebBig(): bigint {
    return BigInt.asIntN(64, this.#leb(true));
  }

  #leb(signed: boolean): bigint {
    const start = this.position;
    let value = 0n;
    let shift = 0n;
    for (;;) {
      const byte = this.u8();
      value |= BigInt(byte & 0x7f) << shift;
      shift += 7n;
      if (byte < 0x80) return signed && (byte & 0x40) !== 0 ? value - (1n << shift) : value;
      if (this.position - start > 16) this.fail('a LEB128 number of more than 16 bytes', start);
    }
  }

  /** Passes over one LEB128 number of any kind. */
  skipLeb(): void {
    const start = this.position;
    while (this.u8() >= 0x80) {
      if (this.position - start > 16) this.fail('a LEB128 number of more than 16 bytes', start);
    }
  }

  /** Passes over a NUL-terminated string; returns the position of its NUL. */
  skipString(): number {
    const start = this.position;
    const end = start < 0 ? -1 : this.bytes.indexOf(0, start);
    if (end < 0) this.fail('a string without an end', start);
    this.position = end + 1;
    return end;
  }

  /** NUL-terminated UTF-8. */
  string(): string {
    const start = this.position;
    return decodeText(this.bytes.subarray(start, this.skipString()));
  }

  /** The next `count` bytes, not copied. */
  take(count: number): Uint8Array {
    const start = this.advance(count);
    return this.bytes.subarray(start, start + count);
  }
}

const utf8 = new TextDecoder();

/** UTF-8, malformed sequences replaced. */
export const decodeText = (bytes: Uint8Array): string => utf8.decode(bytes);

/** Lower-case hexadecimal digits, two for each byte. */
export const hexDigits = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
