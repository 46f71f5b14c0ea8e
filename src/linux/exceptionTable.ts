// Where the kernel goes on after a fault of its own that it has foreseen: struct exception_table_entry of
// arch/arm64/include/asm/extable.h, int insn and int fixup, each relative to itself; the core kernel's entries are between
// __start___ex_table and __stop___ex_table.

import type { SymbolFile } from '../symbols/image.ts';
import { stripped } from '../symbols/types.ts';

export type ExceptionTableSource = Pick<SymbolFile, 'symbolsNamed' | 'typeNamed' | 'imageBytes'>;

/** Bytes; the kernel's own is some 50 KiB. */
const sizeLimit = 1n << 24n;

export class ExceptionTable {
  #fixups: ReadonlyMap<bigint, bigint> | undefined;

  constructor(private readonly source: ExceptionTableSource) {}

  /** Where an instruction that faults goes on; undefined when its fault is not foreseen. Link-time addresses. */
  fixupOf(address: bigint): bigint | undefined {
    this.#fixups ??= this.#read();
    return this.#fixups.get(address);
  }

  #read(): ReadonlyMap<bigint, bigint> {
    const fixups = new Map<bigint, bigint>();
    const [start, stop] = ['__start___ex_table', '__stop___ex_table'].map(
      (name) => this.source.symbolsNamed(name)[0]?.address,
    );
    const type = this.source.typeNamed('struct', 'exception_table_entry');
    const entry = type && stripped(type);
    if (start === undefined || stop === undefined || !entry || !('members' in entry) || entry.size === 0) return fixups;
    if (stop <= start || stop - start > sizeLimit) return fixups;
    const bytes = this.source.imageBytes(start, Number(stop - start));
    if (bytes === undefined) return fixups;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const target = (at: number): bigint => BigInt.asUintN(64, start + BigInt(at) + BigInt(view.getInt32(at, true)));
    for (let at = 0; at + entry.size <= bytes.length; at += entry.size) fixups.set(target(at), target(at + 4));
    return fixups;
  }
}
