// ELF files, little endian (System V gABI, chapters 4 and 5): sections by name, bytes by address. The tables are read by
// elfHeaders.ts, symbols by elfSymbols.ts.

import { realpathSync, statSync } from 'node:fs';
import { Cursor, decodeText, hexDigits } from '../base/bytes.ts';
import { FormatError } from '../base/errors.ts';
import { FileSection } from './byteSource.ts';
import { decompress, decompressZdebug } from './compression.ts';
import { ET_REL, readElfHeaders, type SectionHeader, type Segment, SHT_NOBITS } from './elfHeaders.ts';
import { type ByteSource, PagedFile } from './file.ts';
import { linkLayout } from './linkLayout.ts';
import { RelocatedSection } from './relocations.ts';
import { symbolEntries } from './symbolEntries.ts';

/** sh_type. */
const SHT_SYMTAB = 2;
const SHT_RELA = 4;
const SHT_NOTE = 7;
const SHT_REL = 9;

/** sh_flags. */
const SHF_ALLOC = 0x2;
const SHF_EXECINSTR = 0x4;
const SHF_GROUP = 0x200;
const SHF_COMPRESSED = 0x800;

const PT_LOAD = 1;
const PT_NOTE = 4;
const NT_GNU_BUILD_ID = 3;

/** Relocation sections of one section: assemblers and linkers write one. */
const relocationTables = 4;

export type Machine = 'aarch64' | 'x86_64' | number;

const machineNames = new Map<number, Machine>([
  [183, 'aarch64'],
  [62, 'x86_64'],
]);

export class ElfFile {
  /** Bytes of an address: 4 or 8. */
  readonly addressSize: 4 | 8;
  /** Relocatable, as kernel modules are: its sections have link addresses, see linkLayout.ts. */
  readonly isRelocatable: boolean;
  readonly machine: Machine;
  readonly entry: bigint;
  readonly sections: readonly SectionHeader[];
  readonly segments: readonly Segment[];
  readonly #machineNumber: number;
  readonly #file: PagedFile;
  readonly #contents = new Map<number, ByteSource>();
  readonly #symbols = new Map<number, Uint8Array>();

  /** Throws a UserError that names the path when it cannot be read or is not ELF for a little-endian machine. */
  constructor(readonly path: string) {
    this.#file = new PagedFile(path);
    try {
      const headers = readElfHeaders(this.#file);
      this.addressSize = headers.addressSize;
      this.isRelocatable = headers.type === ET_REL;
      this.#machineNumber = headers.machine;
      this.machine = machineNames.get(headers.machine) ?? headers.machine;
      this.entry = headers.entry;
      this.segments = headers.segments;
      this.sections = this.isRelocatable ? linkLayout(headers.sections) : headers.sections;
    } catch (error) {
      this.#file.close();
      throw error;
    }
  }

  /** Of several sections of one name the first. */
  section(name: string): SectionHeader | undefined {
    return this.sections.find((section) => section.name === name);
  }

  /** The sections of that name that have bytes here, compressed the old way (`.zdebug_info`) included. Those of section
   *  groups come last: compilers put type units there, and offsets that others refer to count from the first. */
  debugSections(name: string): readonly SectionHeader[] {
    const zname = name.replace(/^\.debug_/, '.zdebug_');
    const found = this.sections.filter(
      (section) => (section.name === name || section.name === zname) && section.type !== SHT_NOBITS,
    );
    return found.sort((a, b) => (a.flags & SHF_GROUP) - (b.flags & SHF_GROUP));
  }

  /** The contents of a section; undefined when there is none of that name or it has no bytes here. */
  contents(name: string): ByteSource | undefined {
    const [header] = this.debugSections(name);
    return header && this.contentsOf(header);
  }

  /** The contents of a section, decompressed, and, in a relocatable file, relocated to the link addresses. */
  contentsOf(header: SectionHeader): ByteSource {
    let contents = this.#contents.get(header.index);
    if (contents === undefined) {
      contents = this.#open(header);
      this.#contents.set(header.index, contents);
    }
    return contents;
  }

  #open(header: SectionHeader): ByteSource {
    const raw = new FileSection(this.#file, header);
    const isZdebug = header.name.startsWith('.zdebug_');
    const plain =
      (header.flags & SHF_COMPRESSED) !== 0
        ? decompress(raw, this.addressSize)
        : isZdebug
          ? decompressZdebug(raw)
          : raw;
    return this.isRelocatable ? this.#relocated(header, plain) : plain;
  }

  // Linked files may keep the relocations that the linker has applied (vmlinux of x86-64): only ET_REL's are to be applied.
  #relocated(header: SectionHeader, contents: ByteSource): ByteSource {
    const tables = this.sections.filter(
      ({ type, info, size }) => (type === SHT_RELA || type === SHT_REL) && info === header.index && size > 0,
    );
    if (tables.length > relocationTables) {
      throw new FormatError(header.name, 0, `${tables.length} relocation sections`);
    }
    let relocated = contents;
    for (const section of tables) {
      relocated = new RelocatedSection(relocated, header.address, {
        machine: this.#machineNumber,
        addressSize: this.addressSize,
        hasAddend: section.type === SHT_RELA,
        entries: new FileSection(this.#file, section),
        symbols: () => this.symbols(section.link),
      });
    }
    return relocated;
  }

  /** The symbol table that is section `index`, as Elf64_Sym with addresses for values. */
  symbols(index: number): Uint8Array {
    let entries = this.#symbols.get(index);
    if (entries === undefined) {
      const header = this.sections[index];
      if (header?.type !== SHT_SYMTAB) throw new FormatError(this.path, 0, `the section ${index} is no symbol table`);
      const sections = this.isRelocatable ? this.sections : undefined;
      entries = symbolEntries(new FileSection(this.#file, header), this.addressSize, sections);
      this.#symbols.set(index, entries);
    }
    return entries;
  }

  /** The static symbol table. */
  symbolTable(): SectionHeader | undefined {
    return this.sections.find((section) => section.type === SHT_SYMTAB);
  }

  /** The bytes the file holds for [address, address + length), link-time addresses; undefined unless it holds all.
   *  Instructions of a relocatable file that depend on where it will be loaded are not held. */
  imageBytes(address: bigint, length: number): Uint8Array | undefined {
    // Sections before segments: in a split debug file (objcopy --only-keep-debug) the segments may still claim bytes.
    let outside = true;
    for (const section of this.sections) {
      if ((section.flags & SHF_ALLOC) === 0 || section.size === 0) continue;
      const start = Number(address - section.address);
      if (start >= section.size || start + length <= 0) continue;
      outside = outside && section.type !== SHT_NOBITS;
      if (start < 0 || start + length > section.size || section.type === SHT_NOBITS) continue;
      if ((section.flags & SHF_COMPRESSED) !== 0) continue;
      const contents = this.contentsOf(section);
      const isCode = (section.flags & SHF_EXECINSTR) !== 0;
      if (isCode && contents instanceof RelocatedSection && contents.changes(start, length)) return undefined;
      return isCode && contents instanceof RelocatedSection
        ? contents.contents.read(start, length)
        : contents.read(start, length);
    }
    if (!outside) return undefined;
    for (const segment of this.segments) {
      const start = Number(address - segment.address);
      if (segment.type !== PT_LOAD || start < 0 || start + length > segment.fileSize) continue;
      if (segment.offset + start + length > this.#file.size) return undefined;
      return this.#file.read(segment.offset + start, length);
    }
    return undefined;
  }

  /** What [address, address + length) holds once the file is loaded: its bytes, and zeros where memory has none in the file
   *  (.bss). undefined outside of what is loaded, and where the bytes are in another file. Not for comparing with code:
   *  what is in memory by then may be anything. */
  initialBytes(address: bigint, length: number): Uint8Array | undefined {
    const held = this.imageBytes(address, length);
    if (held !== undefined || this.#isEmptied()) return held;
    const isIn = (start: bigint, size: number): boolean =>
      address >= start && address + BigInt(length) <= start + BigInt(size);
    const loaded = this.sections.filter(({ flags, size }) => (flags & SHF_ALLOC) !== 0 && size > 0);
    const section = loaded.find(({ address, size }) => isIn(address, size));
    if (section !== undefined) return section.type === SHT_NOBITS ? new Uint8Array(length) : undefined;
    const segment = this.segments.find(
      ({ type, address, memorySize }) => type === PT_LOAD && isIn(address, memorySize),
    );
    if (segment === undefined) return undefined;
    const inFile = Math.min(Math.max(segment.fileSize - Number(address - segment.address), 0), length);
    const bytes = new Uint8Array(length);
    const start = inFile === 0 ? undefined : this.imageBytes(address, inFile);
    if (inFile > 0 && start === undefined) return undefined;
    if (start !== undefined) bytes.set(start);
    return bytes;
  }

  /** A split debug file (objcopy --only-keep-debug): no section that is loaded has its bytes here, code neither. */
  #isEmptied(): boolean {
    return this.sections.some(
      ({ type, flags, size }) => type === SHT_NOBITS && (flags & SHF_EXECINSTR) !== 0 && size > 0,
    );
  }

  /** The sections that have a place in memory. */
  loadedSections(): { name: string; address: bigint; size: bigint; isCode: boolean }[] {
    return this.sections
      .filter(({ flags }) => (flags & SHF_ALLOC) !== 0)
      .map(({ name, address, size, flags }) => {
        return { name, address, size: BigInt(size), isCode: (flags & SHF_EXECINSTR) !== 0 };
      });
  }

  /** Whether an address is in a section (without sections: a segment) of instructions. */
  isCode(address: bigint): boolean {
    if (this.sections.length === 0) {
      return this.segments.some(
        (segment) =>
          segment.executable && address >= segment.address && address - segment.address < BigInt(segment.fileSize),
      );
    }
    return this.sections.some(
      (section) =>
        (section.flags & SHF_EXECINSTR) !== 0 &&
        address >= section.address &&
        address - section.address < BigInt(section.size),
    );
  }

  /** The GNU build-id, lower-case hexadecimal. */
  buildId(): string | undefined {
    for (const segment of this.segments) {
      if (segment.type !== PT_NOTE) continue;
      const id = this.#buildIdIn(segment.offset, segment.fileSize, 'PT_NOTE');
      if (id !== undefined) return id;
    }
    for (const section of this.sections) {
      if (section.type !== SHT_NOTE) continue;
      const id = this.#buildIdIn(section.offset, section.size, section.name);
      if (id !== undefined) return id;
    }
    return undefined;
  }

  /** What the file is when there is no build-id: another path, size or time of modification is another file. */
  identity(): string {
    const { size, mtimeMs } = statSync(this.path);
    return `file:${realpathSync(this.path)}:${size}:${mtimeMs}`;
  }

  close(): void {
    this.#contents.clear();
    this.#symbols.clear();
    this.#file.close();
  }

  // Elf64_Nhdr: namesz, descsz, type; name and descriptor each padded to 4 bytes.
  #buildIdIn(offset: number, size: number, where: string): string | undefined {
    // Split debug files keep PT_NOTE headers whose bytes are gone; a note section never is large.
    if (size > 1 << 20 || offset + size > this.#file.size) return undefined;
    const notes = new Cursor(this.#file.read(offset, size), where);
    while (notes.remaining >= 12) {
      const nameSize = notes.u32();
      const descriptorSize = notes.u32();
      const type = notes.u32();
      if (nameSize + descriptorSize > notes.remaining) return undefined;
      const name = decodeText(notes.take(nameSize));
      notes.position = Math.min((notes.position + 3) & ~3, size);
      if (descriptorSize > notes.remaining) return undefined;
      const descriptor = notes.take(descriptorSize);
      notes.position = Math.min((notes.position + 3) & ~3, size);
      if (type === NT_GNU_BUILD_ID && name === 'GNU\0' && descriptorSize > 0) return hexDigits(descriptor);
    }
    return undefined;
  }
}
