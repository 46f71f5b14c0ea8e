// Where the kernel goes on after a fault of its own that it has foreseen: struct exception_table_entry of
// arch/arm64/include/asm/extable.h, int insn and int fixup, each relative to itself; the core kernel's entries are between
// __start___ex_table and __stop___ex_table.

import type { SymbolFile } from '../symbols/image.ts';
import { imageTable, layoutOf } from './tables.ts';

export type ExceptionTableSource = Pick<SymbolFile, 'symbolsNamed' | 'typeNamed' | 'imageBytes'>;

export class ExceptionTable {
  #fixups: ReadonlyMap<bigint, bigint> | undefined;

  constructor(private readonly source: ExceptionTableSource) {}

  /** Where an instruction that faults goes on; undefined when its fault is not foreseen. Link-time addresses. */
  fixupOf(address: bigint): bigint | undefined {
    this.#fixups ??= this.#read();
    return this.#fixups.get(address);
  }

  #read(): ReadonlyMap<bigint, bigint> {
    const layout = layoutOf(this.source, 'exception_table_entry');
    if (layout === undefined) return new Map();
    const entries = imageTable(this.source, '__start___ex_table', '__stop___ex_table', layout.size);
    return new Map(
      entries.map(({ address, entry }) => {
        const target = (at: number): bigint =>
          BigInt.asUintN(64, address + BigInt(at) + BigInt(entry.getInt32(at, true)));
        return [target(0), target(4)];
      }),
    );
  }
}
