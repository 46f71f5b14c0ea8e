// Compressed debug sections: SHF_COMPRESSED (gABI, "Section Compression"), and GNU's `.zdebug_*` before it.

import zlib from 'node:zlib';
import { Decompress as ZstdStream } from 'fzstd';
import { Cursor } from '../base/bytes.ts';
import { FormatError, messageOf } from '../base/errors.ts';
import { BufferSection } from './byteSource.ts';
import type { ByteSource } from './file.ts';

// ch_type
const ELFCOMPRESS_ZLIB = 1;
const ELFCOMPRESS_ZSTD = 2;

// DEFLATE cannot expand more than this (zlib's technical notes, "Maximum Compression Factor").
const deflateFactor = 1032;
/** Zstandard can, without bound: a section that claims more is no debug information. */
const zstdLimit = 2 ** 31;

// Elf64_Chdr: ch_type u32, reserved u32, ch_size u64, ch_addralign u64. Elf32_Chdr: ch_type, ch_size, ch_addralign u32.
export const decompress = (raw: ByteSource, addressSize: 4 | 8): ByteSource => {
  const headerBytes = addressSize === 8 ? 24 : 12;
  const header = new Cursor(raw.read(0, Math.min(headerBytes, raw.size)), raw.name);
  const type = header.u32();
  if (addressSize === 8) header.advance(4);
  const sizeAt = header.position;
  const size = addressSize === 8 ? header.u64AsNumber() : header.u32();
  header.advance(addressSize);
  switch (type) {
    case ELFCOMPRESS_ZLIB:
      return inflate(raw, headerBytes, size, header, sizeAt);
    case ELFCOMPRESS_ZSTD:
      return decompressZstd(raw, headerBytes, size, header, sizeAt);
    default:
      return header.fail(`compression type ${type} is unknown`, 0);
  }
};

/** A `.zdebug_*` section: "ZLIB", the size in 8 bytes, big endian, a zlib stream. */
export const decompressZdebug = (raw: ByteSource): ByteSource => {
  const header = new Cursor(raw.read(0, Math.min(12, raw.size)), raw.name);
  if (header.u32() !== 0x42_494c_5a) header.fail('"ZLIB" is missing', 0);
  const at = header.position;
  let size = 0;
  for (const byte of header.take(8)) size = size * 256 + byte;
  return inflate(raw, 12, size, header, at);
};

const inflate = (raw: ByteSource, start: number, size: number, header: Cursor, sizeAt: number): ByteSource => {
  const compressed = raw.size - start;
  if (size > compressed * deflateFactor) header.fail(`${compressed} bytes cannot expand to ${size}`, sizeAt);
  const bytes = attempt(raw, start, () =>
    zlib.inflateSync(raw.read(start, compressed), { maxOutputLength: Math.max(size, 1) }),
  );
  if (bytes.length !== size) header.fail(`${bytes.length} bytes after decompression, ${size} declared`, sizeAt);
  return new BufferSection(raw.name, bytes);
};

const decompressZstd = (raw: ByteSource, start: number, size: number, header: Cursor, sizeAt: number): ByteSource => {
  if (size > zstdLimit) header.fail(`${size} bytes after decompression are too many`, sizeAt);
  const compressed = raw.read(start, raw.size - start);
  const bytes = attempt(raw, start, () => zstd(compressed, size));
  if (bytes === undefined || bytes.length !== size)
    return header.fail(
      `${bytes === undefined ? 'more' : bytes.length} bytes after decompression, ${size} declared`,
      sizeAt,
    );
  return new BufferSection(raw.name, bytes);
};

type NodeZstd = (bytes: Uint8Array, options: { maxOutputLength: number }) => Uint8Array;

/** undefined when there are more bytes than `size`. Node has zstd since 22.15, which the types of the oldest supported
 *  Node do not know; VS Code's runtime and Node 20 may not. */
const zstd = (compressed: Uint8Array, size: number): Uint8Array | undefined => {
  const found = (zlib as { zstdDecompressSync?: NodeZstd }).zstdDecompressSync;
  if (found !== undefined) return found(compressed, { maxOutputLength: Math.max(size, 1) });
  // By parts: what comes out is bounded before it is kept, and so is what the declared size allocates.
  const parts: Uint8Array[] = [];
  let length = 0;
  const stream = new ZstdStream((part) => {
    length += part.length;
    if (length <= size) parts.push(part.slice());
  });
  for (let at = 0; at < compressed.length && length <= size; at += partBytes) {
    stream.push(compressed.subarray(at, at + partBytes), at + partBytes >= compressed.length);
  }
  return length > size ? undefined : joined(parts, length);
};

const partBytes = 1 << 20;

const joined = (parts: readonly Uint8Array[], length: number): Uint8Array => {
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
};

const attempt = <T>(raw: ByteSource, start: number, action: () => T): T => {
  try {
    return action();
  } catch (error) {
    throw new FormatError(raw.name, start, `cannot decompress: ${messageOf(error)}`, { cause: error });
  }
};
