import { Gva, hex } from '../base/address.ts';
import { ExceptionTable } from '../linux/exceptionTable.ts';
import { PatchedText } from '../linux/patchedText.ts';
import type {
  CodeLocation,
  FrameAccess,
  Symbol as ImageSymbol,
  InlineFrame,
  LineRow,
  Location,
  SymbolFile,
  UnwindRow,
  Variable,
} from '../symbols/image.ts';
import type { Type } from '../symbols/types.ts';

/** What the debugger asks of an image. Addresses are link-time ones. */
export type SymbolSource = Pick<
  SymbolFile,
  | 'path'
  | 'buildId'
  | 'machine'
  | 'sections'
  | 'debugInformationNotice'
  | 'symbolsNamed'
  | 'symbolsBeginningWith'
  | 'symbolAt'
  | 'lineAt'
  | 'hasStatement'
  | 'locationsOf'
  | 'linesWithCode'
  | 'functionBreakpoint'
  | 'entryOf'
  | 'unwindRow'
  | 'frameRule'
  | 'imageBytes'
  | 'inlinesAt'
  | 'neverReturns'
  | 'variablesAt'
  | 'staticsAt'
  | 'locate'
  | 'locateReferenced'
  | 'typeNamed'
  | 'variableNamed'
  | 'functionType'
  | 'enumeratorNamed'
>;

/** An image as it lies in the guest: every address in and out is a run-time address, `bias` above the link-time one.
 *  The only place that adds or subtracts the bias. */
export class KernelSymbols {
  /** Run-time minus link-time address, modulo 2^64 (the KASLR slide). */
  bias = 0n;
  readonly patchedText: PatchedText;
  readonly #exceptionTable: ExceptionTable;

  constructor(readonly source: SymbolSource) {
    this.patchedText = new PatchedText(source);
    this.#exceptionTable = new ExceptionTable(source);
  }

  /** Whether the kernel itself replaces the instruction at an address. */
  isPatched(address: Gva): boolean {
    return this.patchedText.has(this.#down(address));
  }

  /** The name of the section of data that an address is in; undefined in code, and outside of the image. */
  dataSectionAt(address: Gva): string | undefined {
    const linked = this.#down(address);
    const isInside = ({ address: start, size }: { address: bigint; size: bigint }): boolean =>
      linked >= start && linked < start + size;
    const found = this.source.sections.filter(isInside);
    return found.some(({ isCode }) => isCode) ? undefined : found[0]?.name;
  }

  /** Where an address in the image at a former bias is now; others stay. */
  moved(address: Gva, before: bigint): Gva {
    const linked = BigInt.asUintN(64, address - before);
    const isInside = this.source.sections.some(({ address: start, size }) => linked >= start && linked < start + size);
    return isInside ? this.#up(linked) : address;
  }

  /** Addresses of every symbol of that name. */
  named(name: string): readonly (ImageSymbol & { readonly address: Gva })[] {
    return this.source.symbolsNamed(name).map((symbol) => ({ ...symbol, address: this.#up(symbol.address) }));
  }

  beginningWith(prefix: string, limit: number): readonly Pick<ImageSymbol, 'name' | 'kind'>[] {
    return this.source.symbolsBeginningWith(prefix, limit);
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

  /** The value of an expression in an unwind row. Takes and gives run-time addresses. */
  frameRule(expression: Uint8Array, frame: FrameAccess, initial: readonly bigint[]): Promise<bigint | undefined> {
    return this.source.frameRule(expression, frame, initial);
  }

  imageBytes(address: bigint, length: number): Uint8Array | undefined {
    return this.source.imageBytes(this.#down(address), length);
  }

  /** The functions around an address, innermost first; the last is the one the others were inlined into. */
  inlinesAt(address: bigint): readonly InlineFrame[] {
    return this.source.inlinesAt(this.#down(address)).map((frame) => ({ ...frame, entry: this.#up(frame.entry) }));
  }

  /** How many of `inlinesAt`, from the innermost on, have a piece that begins at an address where the statement of their call
   *  begins too: who stops there is about to call them, and sees their caller. gdb goes by the pieces alone
   *  (gdb/inline-frame.c, skip_inline_frames), and shows the caller also at those in the middle of the function. */
  callsAhead(address: bigint): number {
    const isAhead = ({ begins, call }: InlineFrame): boolean =>
      begins && call !== undefined && this.source.hasStatement(this.#down(address), call);
    return this.inlinesAt(address).findLastIndex(isAhead) + 1;
  }

  /** Where the kernel goes on when the instruction there faults, if it has foreseen that. */
  fixupOf(address: bigint): Gva | undefined {
    const fixup = this.#exceptionTable.fixupOf(this.#down(address));
    return fixup === undefined ? undefined : this.#up(fixup);
  }

  neverReturns(address: bigint): boolean {
    return this.source.neverReturns(this.#down(address));
  }

  variablesAt(address: bigint, depth: number): readonly Variable[] {
    return this.source.variablesAt(this.#down(address), depth);
  }

  staticsAt(address: bigint): readonly Variable[] {
    return this.source.staticsAt(this.#down(address));
  }

  /** Where a variable is in a frame; run-time addresses, but for the ranges of one that has no value there. */
  locate(variable: Variable, frame: FrameAccess): Promise<Location> {
    return this.source.locate(variable, frame);
  }

  /** The same for the entry that an implicit pointer refers to. */
  locateReferenced(die: number, frame: FrameAccess): Promise<Location> {
    return this.source.locateReferenced(die, frame);
  }

  typeNamed(tag: 'struct' | 'union' | 'enum' | undefined, name: string, address: bigint): Type | undefined {
    return this.source.typeNamed(tag, name, this.#down(address));
  }

  variableNamed(name: string, address: bigint, where?: string): Variable | undefined {
    return this.source.variableNamed(name, this.#down(address), where);
  }

  functionType(name: string, address: bigint): Type | undefined {
    return this.source.functionType(name, this.#down(address));
  }

  enumeratorNamed(name: string, address: bigint): { readonly type: Type; readonly value: bigint } | undefined {
    return this.source.enumeratorNamed(name, this.#down(address));
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
