// CRC-32 of ISO 3309 and zlib, which .gnu_debuglink uses (GDB manual, "Debugging Information in Separate Files").

import zlib from 'node:zlib';

/** Reflected polynomial. */
const polynomial = 0xedb8_8320;

const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ polynomial : value >>> 1;
  return value;
});

/** The checksum in JavaScript. */
export const crc32InTable = (bytes: Uint8Array, previous = 0): number => {
  let crc = ~previous;
  for (const byte of bytes) crc = (crc >>> 8) ^ (table[(crc ^ byte) & 0xff] ?? 0);
  return ~crc >>> 0;
};

type Crc32 = (bytes: Uint8Array, previous?: number) => number;

/** Of the bytes that follow those with the checksum `previous`. zlib has it since Node 20.15 and 22.2. */
export const crc32: Crc32 = (zlib as { crc32?: Crc32 }).crc32 ?? crc32InTable;
