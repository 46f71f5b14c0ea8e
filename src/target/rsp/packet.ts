// The framing of the GDB remote serial protocol.
//
// GDB manual, appendix E.1 "Overview": a packet is `$data#hh`, hh being the sum of the data's bytes as they are sent,
// modulo 256. `+` and `-` answer it, unless no-acknowledgment mode is on. In the data `}` (0x7d) escapes: the byte behind it
// is to be read exclusive-or 0x20; `#`, `$`, `}` and, in replies, `*` have to be sent so. `*` in a reply repeats the byte in
// front of it, as often as the byte behind it says, less 29; that one is printable, and never `#`, `$`, `+` or `-`.
// `%data#hh` is a notification, which nobody answers (E.5).

import { SessionError } from '../../base/errors.ts';

const [dollar, hash, percent, star, plus, minus, brace] = [0x24, 0x23, 0x25, 0x2a, 0x2b, 0x2d, 0x7d];
const ESCAPE = 0x20;
const repeatBias = 29;

/** Bytes of data in one packet at most, after run lengths are undone. Stubs announce some kilobytes; the bound is for those
 *  that are none. */
export const longestPacket = 1 << 20;

const sum = (bytes: Uint8Array): number => bytes.reduce((total, byte) => (total + byte) & 0xff, 0);

/** Packet data from text, in which every character is one byte. */
export const bytesOf = (text: string): Uint8Array =>
  Uint8Array.from(text, (character) => character.charCodeAt(0) & 0xff);
export const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');

export function encodePacket(data: Uint8Array): Uint8Array {
  const escaped: number[] = [];
  for (const byte of data) {
    if (byte === dollar || byte === hash || byte === brace || byte === star) escaped.push(brace, byte ^ ESCAPE);
    else escaped.push(byte);
  }
  const check = sum(Uint8Array.from(escaped)).toString(16).padStart(2, '0');
  return Uint8Array.from([dollar, ...escaped, hash, ...bytesOf(check)]);
}

export type Received =
  | { readonly kind: 'acknowledged' | 'refused' }
  | { readonly kind: 'packet'; readonly data: Uint8Array }
  /** The checksum is another one: to be asked for again. */
  | { readonly kind: 'damaged' };

/** Takes the bytes of a stub apart, in whatever pieces they come. SessionError for what cannot be a packet of any size that
 *  is sensible: where the next one begins cannot be told then. */
export class PacketReader {
  /** Between packets; in the data; in the checksum behind it. */
  #state: 'between' | 'data' | 'checksum' = 'between';
  #isNotification = false;
  #data: number[] = [];
  #checksum = '';

  push(chunk: Uint8Array): readonly Received[] {
    const received: Received[] = [];
    for (const byte of chunk) {
      const item = this.#take(byte);
      if (item) received.push(item);
    }
    return received;
  }

  #take(byte: number): Received | undefined {
    switch (this.#state) {
      case 'between':
        if (byte === plus) return { kind: 'acknowledged' };
        if (byte === minus) return { kind: 'refused' };
        // Whatever else comes between packets is left from before the connection.
        if (byte === dollar || byte === percent) this.#begin(byte === percent);
        return undefined;
      case 'data':
        if (byte === hash) this.#state = 'checksum';
        // The beginning of the next one: this one lost its end.
        else if (byte === dollar) this.#begin(false);
        else this.#data.push(byte);
        if (this.#data.length > longestPacket) throw tooLong();
        return undefined;
      case 'checksum':
        this.#checksum += String.fromCharCode(byte);
        return this.#checksum.length === 2 ? this.#end() : undefined;
    }
  }

  #begin(isNotification: boolean): void {
    this.#state = 'data';
    this.#isNotification = isNotification;
    this.#data = [];
    this.#checksum = '';
  }

  #end(): Received | undefined {
    this.#state = 'between';
    const raw = Uint8Array.from(this.#data);
    this.#data = [];
    if (this.#isNotification) return undefined;
    const isRight = /^[0-9a-f]{2}$/i.test(this.#checksum) && Number.parseInt(this.#checksum, 16) === sum(raw);
    const data = isRight ? decode(raw) : undefined;
    return data === undefined ? { kind: 'damaged' } : { kind: 'packet', data };
  }
}

/** Escapes and run lengths undone; undefined where one has no meaning. */
function decode(raw: Uint8Array): Uint8Array | undefined {
  const data: number[] = [];
  for (let index = 0; index < raw.length; index++) {
    const byte = raw[index] ?? 0;
    if (byte === brace) {
      const escaped = raw[++index];
      if (escaped === undefined) return undefined;
      data.push(escaped ^ ESCAPE);
    } else if (byte === star) {
      const count = (raw[++index] ?? 0) - repeatBias;
      const last = data.at(-1);
      if (last === undefined || count < 1) return undefined;
      for (let repeat = 0; repeat < count; repeat++) data.push(last);
    } else data.push(byte);
    if (data.length > longestPacket) throw tooLong();
  }
  return Uint8Array.from(data);
}

const tooLong = (): SessionError =>
  new SessionError(
    `The remote stub sent a packet of more than ${longestPacket} bytes: it does not speak the GDB remote protocol.`,
  );

// Numbers in packets are hexadecimal, most significant digit first; bytes of memory and registers are two digits each, in
// the order of the target's memory (E.1, "Packets").

export const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** Undefined when it is not hexadecimal digits in pairs. */
export const fromHex = (text: string): Uint8Array | undefined =>
  /^([0-9a-f]{2})*$/i.test(text) ? Uint8Array.from(Buffer.from(text, 'hex')) : undefined;

/** Little endian, as aarch64 has it. */
export const integerOf = (bytes: Uint8Array): bigint =>
  bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);

export const littleEndian = (value: bigint, length: number): Uint8Array =>
  Uint8Array.from({ length }, (_, index) => Number((value >> BigInt(8 * index)) & 0xffn));
