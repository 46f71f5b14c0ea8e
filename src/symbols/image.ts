import type { UnwindRow } from './dwarf/unwindRow.ts';

export type { CfaRule, RegisterRule, UnwindRow } from './dwarf/unwindRow.ts';

export interface SourceLocation {
  /** As DWARF says: the name joined with its directory. A path below the compilation directory that DWARF keeps
   *  relative stays relative (`init/main.c`). */
  readonly file: string;
  /** DW_AT_comp_dir of the unit: what a relative `file` is relative to. May be empty or itself relative. */
  readonly directory: string;
  /** From 1. 0 where the compiler attributes the code to no line. */
  readonly line: number;
  /** From 1; 0 is unknown. */
  readonly column: number;
}

/** A place for a breakpoint. The address is a link-time address; whoever knows the slide adds it. */
export interface CodeLocation extends SourceLocation {
  readonly address: bigint;
}

/** The contiguous code [start, end) of one source line around an address. */
export interface LineRow extends SourceLocation {
  readonly start: bigint;
  readonly end: bigint;
  /** The instruction asked for begins a statement (DWARF 5, 6.2.2 is_stmt). */
  readonly isStatement: boolean;
}

export interface Symbol {
  readonly name: string;
  readonly kind: 'function' | 'object' | 'other';
  readonly address: bigint;
  readonly size: bigint;
  readonly global: boolean;
}

export type Machine = 'aarch64' | 'x86_64' | number;

/** The symbols and debug information of one ELF image. All addresses are link-time addresses. Everything is read on
 *  demand and synchronously. Malformed input is a FormatError, thrown by the call that meets it. */
export class SymbolFile {
  private constructor(readonly path: string) {}

  /** Throws a UserError that names the path when there is no such file, it cannot be read, or it is not ELF. */
  static open(path: string): SymbolFile {
    return new SymbolFile(path);
  }
  /** The GNU build-id, lower-case hexadecimal. */
  declare readonly buildId: string | undefined;
  declare readonly machine: Machine;
  declare readonly entry: bigint;
  /** Whether line breakpoints can work at all: the image has .debug_line. */
  declare readonly hasDebugInformation: boolean;

  /** Every symbol of that name in .symtab, in the order of the table. */
  declare symbolsNamed: (name: string) => readonly Symbol[];
  /** The symbol that contains the address: within its size, or up to the next symbol when it has none. Global before
   *  local, functions and objects before others; never a mapping symbol (`$x`, `$d`). */
  declare symbolAt: (address: bigint) => { readonly symbol: Symbol; readonly offset: bigint } | undefined;
  declare lineAt: (address: bigint) => LineRow | undefined;
  /** Every address where a breakpoint for that line goes: one for each function or inlined copy. `file` is matched by
   *  whole trailing path components. A line without code moves to the next line of the file that has some; `line` of
   *  the result says which. Empty when the file is unknown or has no code from that line on. */
  declare locationsOf: (file: string, line: number) => readonly CodeLocation[];
  /** The lines in [from, to] of a file that have code, ascending. */
  declare linesWithCode: (file: string, from: number, to: number) => readonly number[];
  /** Where a breakpoint on a function goes: after the prologue of each definition, at each inlined copy. */
  declare functionBreakpoint: (name: string) => readonly CodeLocation[];
  /** The CFI row of .debug_frame, or .eh_frame, for an address. */
  declare unwindRow: (address: bigint) => UnwindRow | undefined;
  /** Bytes of the image at a link-time virtual address; undefined unless the file holds all of them. */
  declare imageBytes: (address: bigint, length: number) => Uint8Array | undefined;
  /** The source files the line tables name, each once, sorted; those whose path contains `pattern`. */
  declare files: (pattern?: string) => readonly string[];
  declare close: () => void;
}
