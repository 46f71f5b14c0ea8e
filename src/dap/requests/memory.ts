import { Gva, hex } from '../../base/address.ts';
import { MemoryFault, UserError } from '../../base/errors.ts';
import { byteText, type Row } from '../../debugger/disassembler.ts';
import type { KernelSymbols } from '../../debugger/symbols.ts';
import { debuggerOf, type Handler, stopped } from '../context.ts';
import type { Fields } from '../fields.ts';
import { listingRows, listingText } from '../listings.ts';
import { shownFile } from '../sourceFiles.ts';

const transferLimit = 16 * 1024 * 1024;
const endOfMemory = 1n << 64n;

function addressOf(args: Fields): bigint {
  const address = args.address('memoryReference') + BigInt(args.optionalInteger('offset') ?? 0);
  if (address < 0n || address >= endOfMemory)
    throw new UserError(`${args.where}: the offset leaves the address space.`);
  return address;
}

export const readMemory: Handler = async (args, context) => {
  const current = stopped(context);
  const address = addressOf(args);
  const count = args.integer('count', { min: 0, max: transferLimit });
  const end = address + BigInt(count) < endOfMemory ? address + BigInt(count) : endOfMemory;
  const available = Number(end - address);
  const memory = current.memory(current.focus);
  let data = new Uint8Array(0);
  try {
    data = new Uint8Array(await memory.read(Gva(address), available));
  } catch (error) {
    if (!(error instanceof MemoryFault)) throw error;
    // What lies before the fault can be shown.
    const readable = error.address > address && error.address < end ? Number(error.address - address) : 0;
    if (readable > 0) data = new Uint8Array(await memory.read(Gva(address), readable));
  }
  return {
    address: hex(address),
    ...(data.length > 0 ? { data: Buffer.from(data).toString('base64') } : {}),
    ...(data.length < count ? { unreadableBytes: count - data.length } : {}),
  };
};

export const writeMemory: Handler = async (args, context) => {
  const current = stopped(context);
  const address = addressOf(args);
  const text = args.string('data');
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(text) || text.length % 4 !== 0) throw args.wrong('data', 'base64');
  const bytes = Buffer.from(text, 'base64');
  if (bytes.length > transferLimit) throw new UserError(`${args.where}: more than ${transferLimit} bytes.`);
  await current.memory(current.focus).write(Gva(address), new Uint8Array(bytes));
  if (context.client.features.invalidatedEvent) {
    context.client.event('invalidated', { areas: ['stacks', 'variables'] });
  }
  return { bytesWritten: bytes.length };
};

export const disassemble: Handler = async (args, context) => {
  const current = stopped(context);
  const instance = debuggerOf(context);
  const address = addressOf(args);
  const skip = args.optionalInteger('instructionOffset', { min: -1_000_000, max: 1_000_000 }) ?? 0;
  const count = args.integer('instructionCount', { min: 0, max: 20_000 });
  const rows = await instance.disassembler.rows(current.memory(current.focus), Gva(address), skip, count);
  const line = { file: '', number: 0 };
  return {
    instructions: rows.map((row) => ({
      ...instruction(row),
      ...symbolOf(row, instance.symbols),
      ...lineOf(row, line),
    })),
  };

  // The location is given where it changes only, as the protocol asks.
  function lineOf(row: Row, last: typeof line): object {
    const found = row.valid ? instance.symbols?.lineAt(row.address) : undefined;
    if (!found || found.line === 0) return {};
    // VS Code's view draws no row whose file is missing.
    const path = shownFile(found, context);
    if (path === undefined) return {};
    if (path === last.file && found.line === last.number) return {};
    const location = path === last.file ? {} : { location: { name: path.split('/').at(-1), path } };
    last.file = path;
    last.number = found.line;
    return { ...location, line: found.line - (context.client.features.linesStartAt1 ? 0 : 1) };
  }
};

// Rows outside of the address space are asked for by views that scroll; their address is shown modulo 2^64.
const instruction = (row: Row): object => ({
  address: hex(row.address),
  instruction: row.text,
  ...(row.bytes.length > 0 ? { instructionBytes: byteText(row.bytes) } : {}),
  ...(row.valid ? {} : { presentationHint: 'invalid' }),
});

function symbolOf(row: Row, symbols: KernelSymbols | undefined): object {
  const symbol = symbols?.describe(row.address);
  return symbol === undefined ? {} : { symbol };
}

export const source: Handler = async (args, context) => {
  const current = stopped(context);
  const reference = args.has('source')
    ? args.object('source').integer('sourceReference', { min: 1 })
    : args.integer('sourceReference', { min: 1 });
  const rows = await listingRows(reference, current, context);
  // VS Code takes the colours, and that breakpoints can be set, from the language of this type (package.json, `languages`).
  return { content: listingText(rows, context), mimeType: `text/x-gas-${current.target.architecture.name}` };
};
