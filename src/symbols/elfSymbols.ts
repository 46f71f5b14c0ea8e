// .symtab (gABI, "Symbol Table"). It comes before DWARF for names: aliases and assembly are only here.

import { Cursor } from '../base/bytes.ts';
import { FormatError } from '../base/errors.ts';
import type { ElfFile } from './elf.ts';
import type { SectionHeader } from './elfHeaders.ts';
import { sortedOrder } from './sortedOrder.ts';
import { symbolEntryBytes as entryBytes, SHN_LORESERVE } from './symbolEntries.ts';

export interface ElfSymbol {
  readonly name: string;
  readonly kind: 'function' | 'object' | 'other';
  /** Link-time address. */
  readonly address: bigint;
  /** Bytes; 0 where the symbol table does not say (labels in assembly). */
  readonly size: bigint;
  readonly global: boolean;
}

// st_info type: 0 NOTYPE  1 OBJECT  2 FUNC  3 SECTION  4 FILE  5 COMMON  6 TLS  10 GNU_IFUNC
const STT_OBJECT = 1;
const STT_FUNC = 2;
const STT_SECTION = 3;
const STT_FILE = 4;
const STT_TLS = 6;
const STT_GNU_IFUNC = 10;
const SHN_UNDEF = 0;
/** sh_flags. */
const SHF_ALLOC = 0x2;
/** How many symbols that begin between a function and an address inside it are looked past. */
const nestingLimit = 1024;

/** Sorting a kernel's symbols takes as long as fifty looks at all of them: it is for those who go on asking. */
const scannedLookups = 4;

/** In the order of their addresses, in columns: the halves of the address, and the index in the table. */
interface SortedSymbols {
  readonly high: Uint32Array;
  readonly low: Uint32Array;
  readonly index: Uint32Array;
}

export class SymbolTable {
  readonly #entries: Cursor;
  readonly #view: DataView;
  readonly #strings: Cursor;
  readonly #count: number;
  readonly #sections: readonly SectionHeader[];
  #sorted: SortedSymbols | undefined;
  #lookups = 0;

  /** The static symbol table, or undefined when the image is stripped. */
  static of(elf: ElfFile): SymbolTable | undefined {
    const header = elf.symbolTable();
    if (header === undefined) return undefined;
    const strings = elf.sections[header.link];
    if (strings === undefined) throw new FormatError(header.name, 0, `its string table ${header.link} does not exist`);
    const names = elf.contentsOf(strings);
    return new SymbolTable(
      new Cursor(elf.symbols(header.index), header.name),
      new Cursor(names.read(0, names.size), strings.name),
      elf.sections,
    );
  }

  private constructor(entries: Cursor, strings: Cursor, sections: readonly SectionHeader[]) {
    this.#entries = entries;
    this.#view = new DataView(entries.bytes.buffer, entries.bytes.byteOffset, entries.bytes.byteLength);
    this.#strings = strings;
    this.#count = Math.floor(entries.bytes.length / entryBytes);
    this.#sections = sections;
  }

  /** Every defined symbol of that name, in the order of the table. */
  named(name: string): ElfSymbol[] {
    // Linkers merge suffixes (`start_kernel` is the tail of `x86_64_start_kernel`): all places where the string ends
    // are candidates, and entries are compared by string offset alone.
    const offsets = stringOffsets(this.#strings.bytes, name);
    if (offsets.size === 0) return [];
    const found: ElfSymbol[] = [];
    for (let index = 1; index < this.#count; index++) {
      if (!offsets.has(this.#view.getUint32(index * entryBytes, true))) continue;
      if (this.#isNamed(index)) found.push(this.#symbol(index));
    }
    return found;
  }

  /** Names of defined symbols that begin so, in alphabetical order and each once; at most `limit`. */
  beginningWith(prefix: string, limit: number): readonly Pick<ElfSymbol, 'name' | 'kind'>[] {
    const wanted = Buffer.from(prefix, 'utf8');
    const text = this.#strings.bytes;
    const found = new Map<string, Pick<ElfSymbol, 'name' | 'kind'>>();
    for (let index = 1; index < this.#count; index++) {
      const at = this.#view.getUint32(index * entryBytes, true);
      if (wanted.some((byte, place) => text[at + place] !== byte) || !this.#hasPlace(index)) continue;
      const { name, kind } = this.#symbol(index);
      if (!found.has(name)) found.set(name, { name, kind });
    }
    return [...found.values()].sort((a, b) => (a.name < b.name ? -1 : 1)).slice(0, limit);
  }

  /** The symbol that contains an address: the innermost function or object of known size; failing that the symbol
   *  before it that has no size. Of several at one place: functions and objects before labels, then global before
   *  local, then the order of the table. Mapping symbols are no symbols here. */
  at(address: bigint): { readonly symbol: ElfSymbol; readonly offset: bigint } | undefined {
    const candidates = this.#lookups++ < scannedLookups ? this.#scan(address) : this.#search(address);
    let best: ElfSymbol | undefined;
    let label: ElfSymbol | undefined;
    let nearest: bigint | undefined;
    for (const index of candidates) {
      const start = this.#address(index);
      nearest ??= start;
      if (best !== undefined && start !== best.address) break;
      const symbol = this.#symbol(index);
      if (symbol.size === 0n) {
        if (start === nearest && this.#sectionHolds(index, address)) label = preferred(label, symbol);
      } else if (address - start < symbol.size) {
        if (symbol.kind === 'other' && start === nearest) label = preferred(label, symbol);
        if (symbol.kind !== 'other') best = preferred(best, symbol);
      }
    }
    const symbol = best ?? label;
    return symbol === undefined ? undefined : { symbol, offset: address - symbol.address };
  }

  /** The symbols at or before an address, nearest first, those at one place from the table's last to its first. */
  *#search(address: bigint): Generator<number> {
    this.#sorted ??= this.#sort();
    const sorted = this.#sorted;
    const high = Number(address >> 32n);
    const low = Number(address & 0xffff_ffffn);
    let begin = 0;
    let end = sorted.index.length;
    while (begin < end) {
      const middle = (begin + end) >>> 1;
      const h = sorted.high[middle] ?? 0;
      if (h < high || (h === high && (sorted.low[middle] ?? 0) <= low)) begin = middle + 1;
      else end = middle;
    }
    for (let i = begin - 1; i >= Math.max(0, begin - nestingLimit); i--) yield sorted.index[i] ?? 0;
  }

  /** Of what `#search` gives, the nearest ones and those that contain the address, without the order of the table. */
  #scan(address: bigint): number[] {
    const high = Number(address >> 32n);
    const low = Number(address & 0xffff_ffffn);
    const view = this.#view;
    let nearest = Number.POSITIVE_INFINITY;
    let found: { readonly index: number; readonly distance: number; readonly contains: boolean }[] = [];
    for (let index = 1; index < this.#count; index++) {
      const at = index * entryBytes;
      // Exact where it is small, and of the right sign always.
      const distance = (high - view.getUint32(at + 12, true)) * 2 ** 32 + (low - view.getUint32(at + 8, true));
      if (distance < 0) continue;
      const contains = distance < view.getUint32(at + 20, true) * 2 ** 32 + view.getUint32(at + 16, true);
      if ((distance > nearest && !contains) || !this.#hasPlace(index)) continue;
      if (distance < nearest) {
        nearest = distance;
        found = found.filter((each) => each.contains);
      }
      found.push({ index, distance, contains });
    }
    return found.sort((a, b) => a.distance - b.distance || b.index - a.index).map(({ index }) => index);
  }

  #symbol(index: number): ElfSymbol {
    const at = index * entryBytes;
    const info = this.#view.getUint8(at + 4);
    const type = info & 0xf;
    this.#strings.position = this.#view.getUint32(at, true);
    return {
      name: this.#strings.string(),
      kind:
        type === STT_FUNC || type === STT_GNU_IFUNC
          ? 'function'
          : type === STT_OBJECT || type === STT_TLS
            ? 'object'
            : 'other',
      address: this.#address(index),
      size: this.#view.getBigUint64(at + 16, true),
      global: info >> 4 !== 0,
    };
  }

  #address(index: number): bigint {
    return this.#view.getBigUint64(index * entryBytes + 8, true);
  }

  #isNamed(index: number): boolean {
    const at = index * entryBytes;
    const type = this.#view.getUint8(at + 4) & 0xf;
    return type !== STT_SECTION && type !== STT_FILE && this.#view.getUint16(at + 6, true) !== SHN_UNDEF;
  }

  /** Belongs to a section that is loaded, and is not a mapping symbol ($x, $d, $x.1: AAELF64, "Mapping symbols"). */
  #hasPlace(index: number): boolean {
    if (!this.#isNamed(index)) return false;
    const at = index * entryBytes;
    const section = this.#view.getUint16(at + 6, true);
    if (section >= SHN_LORESERVE || ((this.#sections[section]?.flags ?? 0) & SHF_ALLOC) === 0) return false;
    if ((this.#view.getUint8(at + 4) & 0xf) === STT_TLS) return false;
    const name = this.#view.getUint32(at, true);
    const text = this.#strings.bytes;
    if (name >= text.length) this.#entries.fail(`the name at ${name} is outside of the string table`, at);
    if (text[name] === 0) return false;
    if (text[name] !== 0x24) return true;
    const after = text[name + 2];
    return !((text[name + 1] === 0x78 || text[name + 1] === 0x64) && (after === 0 || after === 0x2e));
  }

  #sectionHolds(index: number, address: bigint): boolean {
    const section = this.#sections[this.#view.getUint16(index * entryBytes + 6, true)];
    return section !== undefined && address >= section.address && address - section.address < BigInt(section.size);
  }

  #sort(): SortedSymbols {
    const index: number[] = [];
    if (this.#sections.length > 0) {
      for (let i = 1; i < this.#count; i++) if (this.#hasPlace(i)) index.push(i);
    }
    const word = (offset: number) =>
      Uint32Array.from(index, (i) => this.#view.getUint32(i * entryBytes + offset, true));
    const low = word(8);
    const high = word(12);
    const order = sortedOrder(high, sortedOrder(low));
    const inOrder = (column: ArrayLike<number>) => order.map((at) => column[at] ?? 0);
    return { index: inOrder(index), high: inOrder(high), low: inOrder(low) };
  }
}

/** `candidate` comes earlier in the table when the sort is stable and the walk goes backwards, hence the ties. */
const preferred = (current: ElfSymbol | undefined, candidate: ElfSymbol): ElfSymbol => {
  if (current === undefined) return candidate;
  const rank = (symbol: ElfSymbol): number => (symbol.kind === 'other' ? 0 : 2) + (symbol.global ? 1 : 0);
  return rank(candidate) >= rank(current) ? candidate : current;
};

/** Every offset in a string table at which the string `text` begins, whatever stands before it. */
export const stringOffsets = (table: Uint8Array, text: string): Set<number> => {
  const bytes = Buffer.from(table.buffer, table.byteOffset, table.byteLength);
  const wanted = Buffer.from(`${text}\0`);
  const offsets = new Set<number>();
  if (text === '') return offsets;
  for (let at = bytes.indexOf(wanted); at >= 0; at = bytes.indexOf(wanted, at + 1)) offsets.add(at);
  return offsets;
};
