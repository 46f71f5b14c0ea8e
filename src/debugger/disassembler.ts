import { Capstone, Const, type Insn, loadCapstone } from 'capstone-wasm';
import type { Architecture } from '../arch/architecture.ts';
import { Gva } from '../base/address.ts';
import { MemoryFault } from '../base/errors.ts';
import type { VirtualMemory } from '../base/memory.ts';

/** One row of a disassembly. */
export interface Row {
  readonly address: Gva;
  readonly bytes: Uint8Array;
  readonly text: string;
  /** Whether there is an instruction at all: false where memory is not mapped or does not decode. */
  readonly valid: boolean;
}

const rowLimit = 20_000;
let loading: Promise<void> | undefined;

/** Machine code as text. Capstone is loaded with the first use. */
export class Disassembler {
  #capstone: Capstone | undefined;

  constructor(
    private readonly architecture: Architecture,
    private readonly describe: (address: bigint) => string | undefined,
  ) {}

  /** Exactly `count` rows, `skip` instructions from `address` on; rows that are no instruction say so. */
  async rows(memory: VirtualMemory, address: Gva, skip: number, count: number): Promise<readonly Row[]> {
    if (count <= 0) return [];
    if (count > rowLimit) return this.rows(memory, address, skip, rowLimit);
    const capstone = await this.#load();
    const unit = this.architecture.instructionAlignment;
    if (unit === 1) return this.#variable(capstone, memory, address, skip, count);
    const start = address - (address % BigInt(unit)) + BigInt(skip * unit);
    const bytes = await readable(memory, start, count * unit, unit);
    return Array.from({ length: count }, (_, n) => {
      const at = Gva(start + BigInt(n * unit));
      const word = bytes[n];
      return word ? this.#row(capstone, at, word) : invalid(at);
    });
  }

  // Instructions of varying length can be decoded forwards only: what lies before the address is not shown yet.
  async #variable(
    capstone: Capstone,
    memory: VirtualMemory,
    address: Gva,
    skip: number,
    count: number,
  ): Promise<Row[]> {
    const before = Math.min(count, Math.max(0, -skip));
    const rows: Row[] = Array.from({ length: before }, (_, n) => invalid(Gva(address + BigInt(skip + n))));
    let at = address;
    for (let n = Math.min(skip, 0) + before; rows.length < count; n++) {
      const bytes = (await readable(memory, at, 15, 1)).flatMap((byte) => (byte ? [...byte] : []));
      const row = bytes.length > 0 ? this.#row(capstone, at, Uint8Array.from(bytes)) : invalid(at);
      if (n >= skip) rows.push(row);
      at = Gva(at + BigInt(Math.max(1, row.bytes.length)));
    }
    return rows;
  }

  #row(capstone: Capstone, address: Gva, code: Uint8Array): Row {
    const instruction = decode(capstone, code, address);
    if (!instruction) {
      const bytes = code.subarray(0, this.architecture.instructionAlignment);
      const word = [...bytes].reverse().map((byte) => byte.toString(16).padStart(2, '0'));
      return { address, bytes, text: `.inst 0x${word.join('')}`, valid: false };
    }
    const { mnemonic, opStr, size } = instruction;
    const text = opStr ? `${mnemonic} ${this.#named(opStr)}` : mnemonic;
    return { address, bytes: code.subarray(0, size), text, valid: true };
  }

  // Immediates that are code addresses get their symbol behind them: `bl 0xffff800008012340 <printk+0x10>`.
  #named(operands: string): string {
    return operands.replace(/#?(0x[0-9a-f]{6,16})\b/g, (whole, number: string) => {
      const symbol = this.describe(BigInt(number));
      return symbol === undefined ? whole : `${number} <${symbol}>`;
    });
  }

  async #load(): Promise<Capstone> {
    loading ??= loadCapstone();
    await loading;
    const { arch } = this.architecture.disassembler;
    this.#capstone ??=
      arch === 'arm64'
        ? new Capstone(Const.CS_ARCH_ARM64, Const.CS_MODE_ARM)
        : new Capstone(Const.CS_ARCH_X86, Const.CS_MODE_64);
    return this.#capstone;
  }
}

// Capstone's addresses are signed, and it throws at what is no instruction.
function decode(capstone: Capstone, code: Uint8Array, address: Gva): Insn | undefined {
  try {
    return capstone.disasm(code, { address: BigInt.asIntN(64, address), count: 1 })[0];
  } catch {
    return undefined;
  }
}

const invalid = (address: Gva): Row => ({ address, bytes: new Uint8Array(0), text: '??', valid: false });

const pageSize = 4096n;

/** Memory in units of `unit` bytes, page by page; undefined where a page cannot be read. */
async function readable(
  memory: VirtualMemory,
  start: bigint,
  length: number,
  unit: number,
): Promise<readonly (Uint8Array | undefined)[]> {
  const units: (Uint8Array | undefined)[] = [];
  const end = start + BigInt(length);
  for (let at = start; at < end; ) {
    const pageEnd = at - (BigInt.asUintN(64, at) % pageSize) + pageSize;
    const to = pageEnd < end ? pageEnd : end;
    const size = Number(to - at);
    let bytes: Uint8Array | undefined;
    // Rows before address 0 or past the end of memory are asked for by views that scroll.
    if (at >= 0n && to <= 1n << 64n) {
      bytes = await memory.read(Gva(at), size).catch((error: unknown) => {
        if (error instanceof MemoryFault) return undefined;
        throw error;
      });
    }
    for (let offset = 0; offset < size; offset += unit) units.push(bytes?.subarray(offset, offset + unit));
    at = to;
  }
  return units;
}

/** For texts: the bytes of a row in memory order. */
export const byteText = (bytes: Uint8Array): string =>
  Buffer.from(bytes)
    .toString('hex')
    .replace(/(..)(?=.)/g, '$1 ');
