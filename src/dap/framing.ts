import { StringDecoder } from 'node:string_decoder';
import { messageOf } from '../base/errors.ts';

// The base protocol of DAP: header lines, an empty line, a JSON body of Content-Length bytes.

const headerLimit = 8 * 1024;
// writeMemory of a few MiB is the largest message a client has reason to send.
const bodyLimit = 64 * 1024 * 1024;

/** The byte stream is not DAP: nothing behind the error can be trusted. */
export class FramingError extends Error {
  override readonly name = 'FramingError';
}

/** A message, or what is wrong with one whose end is known: the stream goes on behind it. */
export type Received = { readonly message: Record<string, unknown> } | { readonly malformed: string };

/** Cuts a byte stream into messages. Holds at most one header or one message of bounded size. */
export class MessageReader {
  #chunks: Buffer[] = [];
  #buffered = 0;
  #bodyLength: number | undefined;

  /** The messages that `chunk` completes. Throws a FramingError at bytes that are no DAP. */
  *push(chunk: Buffer): Iterable<Received> {
    this.#chunks.push(chunk);
    this.#buffered += chunk.length;
    for (;;) {
      if (this.#bodyLength === undefined) {
        // Headers are short: joining them again with each chunk costs nothing.
        const bytes = this.#join();
        const end = bytes.indexOf('\r\n\r\n');
        if (end < 0 && bytes.length <= headerLimit) return;
        if (end < 0 || end > headerLimit) throw new FramingError(`no end of the header within ${headerLimit} bytes`);
        this.#bodyLength = contentLength(bytes.toString('latin1', 0, end));
        this.#keep(bytes.subarray(end + 4));
      }
      if (this.#buffered < this.#bodyLength) return;
      const bytes = this.#join();
      const body = bytes.subarray(0, this.#bodyLength);
      this.#keep(bytes.subarray(this.#bodyLength));
      this.#bodyLength = undefined;
      yield parseBody(body);
    }
  }

  /** Whether the stream ended within a message. */
  get incomplete(): boolean {
    return this.#buffered > 0 || this.#bodyLength !== undefined;
  }

  #join(): Buffer {
    const bytes = this.#chunks.length === 1 ? (this.#chunks[0] as Buffer) : Buffer.concat(this.#chunks);
    this.#chunks = [bytes];
    return bytes;
  }

  #keep(rest: Buffer): void {
    this.#chunks = rest.length > 0 ? [rest] : [];
    this.#buffered = rest.length;
  }
}

function contentLength(header: string): number {
  let length: number | undefined;
  for (const line of header.split('\r\n')) {
    const match = /^([\w-]+):\s*(.*?)\s*$/.exec(line);
    if (!match) throw new FramingError(`\`${line.slice(0, 60)}\` is no header line`);
    if (match[1]?.toLowerCase() !== 'content-length') continue;
    const text = match[2] ?? '';
    if (!/^\d{1,15}$/.test(text)) throw new FramingError(`Content-Length \`${text.slice(0, 60)}\` is no length`);
    length = Number(text);
  }
  if (length === undefined) throw new FramingError('the header has no Content-Length');
  if (length > bodyLimit) throw new FramingError(`Content-Length ${length} is over the limit of ${bodyLimit}`);
  return length;
}

function parseBody(body: Buffer): Received {
  try {
    const text = new StringDecoder('utf8').end(body);
    const message: unknown = JSON.parse(text);
    if (typeof message === 'object' && message !== null && !Array.isArray(message)) {
      return { message: message as Record<string, unknown> };
    }
    return { malformed: 'the message is no object' };
  } catch (error) {
    return { malformed: messageOf(error) };
  }
}

export function encodeMessage(message: object): Buffer {
  const body = Buffer.from(JSON.stringify(message), 'utf8');
  return Buffer.concat([Buffer.from(`Content-Length: ${body.length}\r\n\r\n`, 'latin1'), body]);
}
