import { Gva, hex } from '../base/address.ts';
import type { CodeLocation, Symbol as ImageSymbol, LineRow, SymbolFile, UnwindRow } from '../symbols/image.ts';

/** What the debugger asks of an image. Addresses are link-time ones. */
export type SymbolSource = Pick<
  SymbolFile,
  | 'path'
  | 'buildId'
  | 'hasDebugInformation'
  | 'symbolsNamed'
  | 'symbolAt'
  | 'lineAt'
  | 'locationsOf'
  | 'linesWithCode'
  | 'functionBreakpoint'
  | 'entryOf'
  | 'unwindRow'
  | 'imageBytes'
>;

/** An image as it lies in the guest: every address in and out is a run-time address, `bias` above the link-time one.
 *  The only place that adds or subtracts the bias. */
export class KernelSymbols {
  /** Run-time minus link-time address, modulo 2^64 (the KASLR slide). */
  bias = 0n;

  constructor(readonly source: SymbolSource) {}

  /** Addresses of every symbol of that name. */
  named(name: string): readonly (ImageSymbol & { readonly address: Gva })[] {
    return this.source.symbolsNamed(name).map((symbol) => ({ ...symbol, address: this.#up(symbol.address) }));
  }

  at(address: bigint): { readonly symbol: ImageSymbol; readonly offset: bigint } | undefined {
    return this.source.symbolAt(this.#down(address));
  }

  /** `name+0x10`, or undefined when no symbol covers the address. */
  describe(address: bigint): string | undefined {
    const found = this.at(address);
    if (!found) return undefined;
    return found.offset === 0n ? found.symbol.name : `${found.symbol.name}+${hex(found.offset)}`;
  }

  lineAt(address: bigint): LineRow | undefined {
    const row = this.source.lineAt(this.#down(address));
    return row && { ...row, start: this.#up(row.start), end: this.#up(row.end) };
  }

  locationsOf(file: string, line: number): readonly CodeLocation[] {
    return this.source.locationsOf(file, line).map((location) => this.#located(location));
  }

  functionBreakpoint(name: string): readonly CodeLocation[] {
    return this.source.functionBreakpoint(name).map((location) => this.#located(location));
  }

  /** Where a breakpoint on the function whose symbol is at `address` goes. */
  entryOf(address: bigint): Gva {
    return this.#up(this.source.entryOf(this.#down(address)));
  }

  linesWithCode(file: string, from: number, to: number): readonly number[] {
    return this.source.linesWithCode(file, from, to);
  }

  unwindRow(address: bigint): UnwindRow | undefined {
    return this.source.unwindRow(this.#down(address));
  }

  imageBytes(address: bigint, length: number): Uint8Array | undefined {
    return this.source.imageBytes(this.#down(address), length);
  }

  #located(location: CodeLocation): CodeLocation {
    return { ...location, address: this.#up(location.address) };
  }

  #up(address: bigint): Gva {
    return Gva(address + this.bias);
  }

  #down(address: bigint): bigint {
    return BigInt.asUintN(64, address - this.bias);
  }
}
