// What the debugger asks of an image: symbols, lines, places for breakpoints, unwind rows, bytes.

import { Recent } from '../base/recent.ts';
import { BreakpointPlaces } from './breakpointPlaces.ts';
import { defaultDebugFolders, findDebugFile, hasDebugInformation } from './debugFiles.ts';
import { FrameSection } from './dwarf/cfi.ts';
import { Dies } from './dwarf/dies.ts';
import { readLineHeader } from './dwarf/line.ts';
import { LineTable } from './dwarf/lineTable.ts';
import type { FrameAccess, Location } from './dwarf/location.ts';
import { UnitScopes } from './dwarf/scopes.ts';
import { DwarfSections } from './dwarf/sections.ts';
import { DwarfTypes } from './dwarf/types.ts';
import type { Unit } from './dwarf/unit.ts';
import { Units } from './dwarf/units.ts';
import type { UnwindRow } from './dwarf/unwindRow.ts';
import { ElfFile, type Machine } from './elf.ts';
import { type ElfSymbol, SymbolTable } from './elfSymbols.ts';
import type { Progress } from './index/builder.ts';
import { type IndexOptions, NameIndex, type TypeKind } from './index/nameIndex.ts';
import { type InlineFrame, Inlines } from './inlines.ts';
import { Locator } from './locator.ts';
import { NamedEntries } from './namedEntries.ts';
import { SourceLines } from './sourceLines.ts';
import type { Type } from './types.ts';
import { type Variable, Variables } from './variables.ts';

export type { FrameAccess, Location } from './dwarf/location.ts';
export type { CfaRule, RegisterRule, UnwindRow } from './dwarf/unwindRow.ts';
export type { Machine } from './elf.ts';
export type { ElfSymbol, ElfSymbol as Symbol } from './elfSymbols.ts';
export type { InlineFrame } from './inlines.ts';
export type { Variable } from './variables.ts';

export interface SourceLocation {
  /** As DWARF says: the name joined with its directory. What is in the compilation directory stays relative
   *  (`init/main.c`). Empty where there is no line information. */
  readonly file: string;
  /** The unit's compilation directory. It may be empty, relative, or, in kernels built with -fmacro-prefix-map and its
   *  like, not what `file` is relative to: there `file` is relative to the source tree. */
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
  /** The instructions around the address are recommended breakpoint places (DWARF 5, 6.2.2 is_stmt). */
  readonly isStatement: boolean;
}

/** A section that is loaded. */
export interface ImageSection {
  readonly name: string;
  /** In a relocatable file (a kernel module): where all this file's addresses take it to be. Who loads it adds the
   *  distance to where it really is. */
  readonly address: bigint;
  readonly size: bigint;
  readonly isCode: boolean;
}

export interface OpenOptions extends IndexOptions {
  /** Where separate debug files are looked for besides the image's own folder; /usr/lib/debug unless given. */
  readonly debugFolders?: readonly string[];
  /** The bundle of indexer.ts, which `indexNames` runs in a worker; it works in this thread when there is none. */
  readonly indexer?: string | URL;
}

/** What reads the debug information, by what is asked. */
interface DebugInformation {
  readonly units: Units;
  readonly lines: SourceLines;
  readonly places: BreakpointPlaces;
  readonly inlines: Inlines;
  readonly variables: Variables;
  readonly locator: Locator;
  readonly names: NameIndex;
  readonly named: NamedEntries;
}

/** The symbols and debug information of one ELF image. All addresses are link-time addresses. Everything is read on
 *  demand, synchronously; what is read is kept in small part only. Malformed input is a FormatError, thrown by the call
 *  that meets it. The owner closes it. */
export class SymbolFile {
  /** The GNU build-id, lower-case hexadecimal. */
  readonly buildId: string | undefined;
  readonly machine: Machine;
  readonly entry: bigint;
  /** There is debug information to find lines in: in the file, or in a separate debug file. */
  readonly hasDebugInformation: boolean;
  /** Why there is none: one sentence for the user. */
  readonly debugInformationNotice: string | undefined;
  /** The file that the debug information is read from. */
  readonly debugPath: string;
  readonly #elf: ElfFile;
  /** The separate debug file. */
  readonly #debugElf: ElfFile | undefined;
  readonly #sections: DwarfSections;
  readonly #tables = new Recent<number, LineTable>(keptTables);
  #symbols: SymbolTable | undefined;
  #frames: FrameSection[] | undefined;
  #debug: DebugInformation | undefined;

  private constructor(
    elf: ElfFile,
    readonly indexOptions: OpenOptions,
  ) {
    this.#elf = elf;
    const isComplete = hasDebugInformation(elf);
    const found = isComplete ? undefined : findDebugFile(elf, indexOptions.debugFolders ?? defaultDebugFolders);
    this.#debugElf = found?.file;
    this.debugPath = found?.file?.path ?? elf.path;
    this.debugInformationNotice = found?.notice;
    this.#sections = found?.file === undefined ? new DwarfSections(elf) : new DwarfSections(found.file, elf);
    this.buildId = elf.buildId();
    this.machine = elf.machine;
    this.entry = elf.entry;
    this.hasDebugInformation = isComplete || found?.file !== undefined;
  }

  /** Throws a UserError that names the path when there is no such file, it cannot be read, or it is not ELF. */
  static open(path: string, options: OpenOptions = {}): SymbolFile {
    const elf = new ElfFile(path);
    try {
      return new SymbolFile(elf, options);
    } catch (error) {
      elf.close();
      throw error;
    }
  }

  get path(): string {
    return this.#elf.path;
  }

  /** It is relocatable, as kernel modules are: each of its `sections` is loaded where there is room. */
  get isRelocatable(): boolean {
    return this.#elf.isRelocatable;
  }

  /** The sections that are loaded, in the order of the file. A relocatable file may have several of one name. */
  get sections(): readonly ImageSection[] {
    return this.#elf.loadedSections();
  }

  /** Every symbol of that name in .symtab, in the order of the table. */
  symbolsNamed(name: string): readonly ElfSymbol[] {
    return this.#symbolTable()?.named(name) ?? [];
  }

  /** Names in .symtab that begin so, in alphabetical order and each once; at most `limit`. */
  symbolsBeginningWith(prefix: string, limit: number): readonly Pick<ElfSymbol, 'name' | 'kind'>[] {
    return this.#symbolTable()?.beginningWith(prefix, limit) ?? [];
  }

  /** The symbol that contains the address: within its size, or up to the next symbol when it has none. Functions and
   *  objects before labels, global before local; never a mapping symbol (`$x`, `$d`). */
  symbolAt(address: bigint): { readonly symbol: ElfSymbol; readonly offset: bigint } | undefined {
    return this.#symbolTable()?.at(address);
  }

  lineAt(address: bigint): LineRow | undefined {
    const unit = this.#debugInformation()?.units.containing(address);
    const table = unit === undefined ? undefined : this.#tableOf(unit);
    const run = table?.at(address);
    if (unit === undefined || table === undefined || run === undefined) return undefined;
    return {
      ...this.#fileOf(table, unit, run.file),
      line: run.line,
      column: run.column,
      start: run.start,
      end: run.end,
      isStatement: run.isStatement,
    };
  }

  /** The source of the instruction at an address. `lineAt` may say another line: a statement that begins at the same
   *  address, which is where a breakpoint belongs. */
  sourceAt(address: bigint): SourceLocation | undefined {
    const units = this.#debugInformation()?.units;
    // No unit claims what a patchable function has in front of its entry, but its line table may go over it.
    const unit = units?.containing(address) ?? units?.containing(address + patchableBytes);
    const table = unit === undefined ? undefined : this.#tableOf(unit);
    const row = table?.lastRow(address);
    if (unit === undefined || table === undefined || row === undefined) return undefined;
    return { ...this.#fileOf(table, unit, row.file), line: row.line, column: row.column };
  }

  /** Whether a statement of a line begins at an address. */
  hasStatement(address: bigint, { file, line }: Pick<SourceLocation, 'file' | 'line'>): boolean {
    const unit = this.#debugInformation()?.units.containing(address);
    const table = unit === undefined ? undefined : this.#tableOf(unit);
    if (unit === undefined || table === undefined) return false;
    return table
      .statementsAt(address)
      .some((place) => place.line === line && this.#fileOf(table, unit, place.file).file === file);
  }

  /** Every address where a breakpoint for that line goes: one for each function or inlined copy, ascending. `file` is
   *  matched by whole trailing path components. A line without code moves to the next line of the file that has some;
   *  `line` of the result says which. Empty when the file is unknown or has no code from that line on. */
  locationsOf(file: string, line: number): readonly CodeLocation[] {
    const debug = this.#debugInformation();
    const found = debug?.lines.statementsFrom(file, line);
    if (debug === undefined || found === undefined) return [];
    return debug.places.ofStatements(found.statements).map((statement) => ({
      address: statement.address,
      file: statement.file,
      directory: this.#directoryAt(statement.address),
      line: found.line,
      column: statement.column,
    }));
  }

  /** The lines in [from, to] of a file that have code, ascending. */
  linesWithCode(file: string, from: number, to: number): readonly number[] {
    return this.#debugInformation()?.lines.linesBetween(file, from, to) ?? [];
  }

  /** Where a breakpoint on a function goes: each definition, after its prologue where that matters, and each inlined
   *  copy; ascending. Without line information (assembly, aliases) `file` is empty and `line` 0. */
  functionBreakpoint(name: string): readonly CodeLocation[] {
    const places = this.#debugInformation()?.places;
    const dies = this.names?.functions(name) ?? [];
    const addresses = new Set<bigint>(places?.ofFunctions(dies));
    const described = addresses.size > 0 ? [...addresses] : [];
    for (const symbol of this.symbolsNamed(name)) {
      if (symbol.kind === 'object' || !this.#isCode(symbol.address)) continue;
      // DWARF has already found most of them.
      const end = symbol.address + symbol.size;
      if (described.some((address) => address >= symbol.address && address < end)) continue;
      addresses.add(places?.ofSymbol(symbol.address, symbol.address + patchableBytes) ?? symbol.address);
    }
    return [...addresses]
      .sort((a, b) => (a < b ? -1 : 1))
      .map((address) => {
        const row = this.lineAt(address);
        const { file = '', directory = '', line = 0, column = 0 } = row ?? {};
        return { address, file, directory, line, column };
      });
  }

  /** Where a breakpoint on the one function whose symbol is at `address` goes. Reads that function's unit only: a step into
   *  a function must not search all units for its inlined copies. */
  entryOf(address: bigint): bigint {
    return this.#debugInformation()?.places.ofSymbol(address, address + patchableBytes) ?? address;
  }

  /** The functions around an address: inlined ones, innermost first, then the one they were inlined into. */
  inlinesAt(address: bigint): readonly InlineFrame[] {
    return this.#debugInformation()?.inlines.at(address) ?? [];
  }

  /** Whether the function around an address, not one inlined there, is declared never to return. */
  neverReturns(address: bigint): boolean {
    return this.#debugInformation()?.inlines.neverReturns(address) ?? false;
  }

  /** The variables at an address of the function that `depth` counts out from the innermost of `inlinesAt`. */
  variablesAt(address: bigint, depth: number): readonly Variable[] {
    const scope = this.inlinesAt(address)[depth];
    return (scope && this.#debugInformation()?.variables.of(scope.die, address)) ?? [];
  }

  /** Where a variable is in a frame. */
  async locate(variable: Pick<Variable, 'die'>, frame: FrameAccess): Promise<Location> {
    const found = await this.#debugInformation()?.locator.locate(variable.die, frame);
    return found ?? { kind: 'none', why: 'optimised out' };
  }

  /** Where that is in a frame which an implicit pointer refers to by the offset of its entry. */
  async locateReferenced(die: number, frame: FrameAccess): Promise<Location> {
    const found = await this.#debugInformation()?.locator.locateReferenced(die, frame);
    return found ?? { kind: 'none', why: 'optimised out' };
  }

  /** The CFI row of .debug_frame, else of .eh_frame, for an address. */
  unwindRow(address: bigint): UnwindRow | undefined {
    for (const frames of this.#frameSections()) {
      const row = frames.row(address);
      if (row !== undefined) return row;
    }
    return undefined;
  }

  /** The value of an expression in an unwind row; undefined when it needs what the frame does not have. `initial`: what is
   *  on the expression's stack at first, which is the canonical frame address in the rules of registers (6.4.2). */
  async frameRule(expression: Uint8Array, frame: FrameAccess, initial: readonly bigint[]): Promise<bigint | undefined> {
    return this.#debugInformation()?.locator.frameRule(expression, frame, initial);
  }

  /** Bytes of the image at a link-time virtual address; undefined unless the file holds all of them. */
  imageBytes(address: bigint, length: number): Uint8Array | undefined {
    return this.#elf.imageBytes(address, length) ?? this.#debugElf?.imageBytes(address, length);
  }

  /** What is in memory at an address before the program runs: as `imageBytes`, and zeros where the file needs to hold none
   *  (.bss). */
  initialBytes(address: bigint, length: number): Uint8Array | undefined {
    return this.#elf.initialBytes(address, length) ?? this.#debugElf?.imageBytes(address, length);
  }

  /** The source files that line tables name, each once, sorted; those whose path contains `pattern`. */
  files(pattern = ''): readonly string[] {
    return this.#debugInformation()?.lines.files(pattern) ?? [];
  }

  /** Builds the index of names, unless an earlier session has left one. Resolves when lookups use it, or the file was closed
   *  meanwhile; `progress` is told units, and nothing when there is nothing to build. Rejects when it cannot be built:
   *  lookups then go on without it, as when `abandoned` is aborted, which resolves. */
  async indexNames(progress?: Progress, abandoned?: AbortSignal): Promise<void> {
    const { indexer } = this.indexOptions;
    if (indexer === undefined) this.names?.build(progress);
    else await this.names?.buildInBackground(indexer, this.debugPath, progress, abandoned);
  }

  /** The names of the debug information; undefined when there is none. Its index is built by who wants to. */
  get names(): NameIndex | undefined {
    return this.#debugInformation()?.names;
  }

  /** Entries of .debug_info by name. `pc`, where somebody stands: the entries of its unit come first. */
  functionsNamed(name: string, pc?: bigint): readonly number[] {
    return this.names?.functions(name, this.#unitAt(pc)) ?? [];
  }

  /** Variables of static storage: global ones, those of files, those of functions. A variable that only a linker script
   *  defines (jiffies) is found by its declaration, which has no location: its symbol has. */
  variablesNamed(name: string, pc?: bigint): readonly number[] {
    return this.names?.variables(name, this.#unitAt(pc)) ?? [];
  }

  /** Complete types: tags of structures, unions and enumerations, typedefs, base types. */
  typesNamed(name: string, kind?: TypeKind, pc?: bigint): readonly number[] {
    return this.names?.types(name, kind, this.#unitAt(pc)) ?? [];
  }

  /** The enumerations that have an enumerator of that name. */
  enumeratorsNamed(name: string, pc?: bigint): readonly number[] {
    return this.names?.enumerations(name, this.#unitAt(pc)) ?? [];
  }

  /** A type by its tag, or the name of a typedef or base type, as seen from `pc`. */
  typeNamed(tag: 'struct' | 'union' | 'enum' | undefined, name: string, pc?: bigint): Type | undefined {
    return this.#debugInformation()?.named.type(tag, name, this.#unitAt(pc));
  }

  /** A variable with static storage as seen from `pc`, or in the file or function that `where` names. */
  variableNamed(name: string, pc?: bigint, where?: string): Variable | undefined {
    const named = this.#debugInformation()?.named;
    return where === undefined ? named?.variable(name, this.#unitAt(pc)) : named?.variableIn(where, name);
  }

  /** The type of a function of that name. */
  functionType(name: string, pc?: bigint): Type | undefined {
    return this.#debugInformation()?.named.function(name, this.#unitAt(pc));
  }

  enumeratorNamed(name: string, pc?: bigint): { readonly type: Type; readonly value: bigint } | undefined {
    return this.#debugInformation()?.named.enumerator(name, this.#unitAt(pc));
  }

  /** The variables of the file whose code is at an address: its statics, and the global ones that it defines. */
  staticsAt(pc: bigint): readonly Variable[] {
    const unit = this.#unitAt(pc);
    return (unit && this.#debugInformation()?.variables.ofUnit(unit)) ?? [];
  }

  close(): void {
    this.#debug?.names.close();
    this.#debugElf?.close();
    this.#elf.close();
  }

  #unitAt(pc: bigint | undefined): Unit | undefined {
    return pc === undefined ? undefined : this.#debugInformation()?.units.containing(pc);
  }

  /** What an index depends on. The sizes tell the files of one build-id apart: with split or compressed debug
   *  information the offsets of entries may be others. */
  #indexKey(): string {
    const identity = this.buildId === undefined ? (this.#debugElf ?? this.#elf).identity() : `build-id:${this.buildId}`;
    const sizes = ['.debug_info', '.debug_abbrev', '.debug_str'].map((name) => this.#sections.find(name)?.size ?? 0);
    return `${identity}:${sizes.join(',')}`;
  }

  /** Stripping leaves an image fewer symbols than its debug file has, or none. */
  #symbolElf(): ElfFile {
    const size = (elf: ElfFile): number => elf.symbolTable()?.size ?? 0;
    return this.#debugElf !== undefined && size(this.#debugElf) > size(this.#elf) ? this.#debugElf : this.#elf;
  }

  #symbolTable(): SymbolTable | undefined {
    this.#symbols ??= SymbolTable.of(this.#symbolElf());
    return this.#symbols;
  }

  #debugInformation(): DebugInformation | undefined {
    if (this.#debug === undefined && this.hasDebugInformation) {
      const units = new Units(this.#sections);
      const scopes = new UnitScopes(units);
      const tableOf = (unit: Unit): LineTable | undefined => this.#tableOf(unit);
      const dies = new Dies(units);
      const types = new DwarfTypes(dies);
      const variables = new Variables(dies, types);
      const names = new NameIndex(dies, this.#indexKey(), this.indexOptions);
      this.#debug = {
        units,
        lines: new SourceLines(
          this.#sections,
          (baseName) => names.linePrograms(baseName),
          () => units.directories(),
        ),
        places: new BreakpointPlaces(units, scopes, tableOf),
        inlines: new Inlines(dies, scopes, tableOf, patchableBytes, (pc) => this.symbolAt(pc)?.symbol),
        variables,
        locator: new Locator(dies, scopes),
        names,
        named: new NamedEntries(dies, names, types, variables),
      };
    }
    return this.#debug;
  }

  #frameSections(): readonly FrameSection[] {
    if (this.#frames === undefined) {
      this.#frames = [];
      for (const kind of ['debug_frame', 'eh_frame'] as const) {
        const name = `.${kind}`;
        const section = this.#sections.find(name);
        if (section === undefined) continue;
        const address = this.#sections.addressOf(name);
        this.#frames.push(new FrameSection(section, kind, address, this.#elf.addressSize));
      }
    }
    return this.#frames;
  }

  #tableOf(unit: Unit): LineTable | undefined {
    const { stmtList } = unit;
    if (stmtList === undefined) return undefined;
    return this.#tables.of(stmtList, () => new LineTable(readLineHeader(this.#sections, stmtList), this.#sections));
  }

  #fileOf(table: LineTable, unit: Unit, number: number): { readonly file: string; readonly directory: string } {
    return { file: table.file(number) ?? unit.name ?? '', directory: unit.compDir ?? table.directory ?? '' };
  }

  #directoryAt(address: bigint): string {
    return this.#debugInformation()?.units.containing(address)?.compDir ?? '';
  }

  #isCode(address: bigint): boolean {
    return this.#elf.isCode(address);
  }
}

/** Line tables kept; a stop's stack touches a dozen units. */
const keptTables = 24;

/** A symbol and its DIE may be this far apart: with -fpatchable-function-entry=N gcc counts N instructions of 4 bytes
 *  (kernels: 2) as in front of the function. */
const patchableBytes = 8n;
