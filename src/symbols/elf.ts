// ELF-64, little endian (System V gABI, chapters 4 and 5). Symbols are in elfSymbols.ts.

import { realpathSync, statSync } from 'node:fs';
import zlib from 'node:zlib';
import { Cursor, decodeText, hexDigits } from '../base/bytes.ts';
import { FormatError, messageOf, UserError } from '../base/errors.ts';
import { type ByteSource, PagedFile } from './file.ts';

/** e_type. */
export const ET_REL = 1;

/** sh_type. */
export const SHT_SYMTAB = 2;
const SHT_NOTE = 7;
const SHT_NOBITS = 8;

/** sh_flags. */
const SHF_ALLOC = 0x2;
const SHF_EXECINSTR = 0x4;
const SHF_COMPRESSED = 0x800;

const PT_LOAD = 1;
const PT_NOTE = 4;
/** p_flags. */
const PF_X = 0x1;
const SHN_XINDEX = 0xffff;
const NT_GNU_BUILD_ID = 3;

const headerBytes = 64;
const sectionHeaderBytes = 64;
const segmentHeaderBytes = 56;
// DEFLATE cannot expand more than this (zlib's technical notes, "Maximum Compression Factor").
const deflateFactor = 1032;

export interface SectionHeader {
  readonly index: number;
  readonly name: string;
  readonly type: number;
  readonly flags: number;
  readonly address: bigint;
  /** In the file; meaningless for SHT_NOBITS. */
  readonly offset: number;
  readonly size: number;
  readonly link: number;
  readonly entrySize: number;
}

export interface Segment {
  readonly type: number;
  readonly executable: boolean;
  readonly offset: number;
  readonly address: bigint;
  readonly fileSize: number;
}

export type Machine = 'aarch64' | 'x86_64' | number;

const machineNames = new Map<number, Machine>([
  [183, 'aarch64'],
  [62, 'x86_64'],
]);

export class ElfFile {
  readonly type: number;
  readonly machine: Machine;
  readonly entry: bigint;
  readonly sections: readonly SectionHeader[];
  readonly segments: readonly Segment[];
  readonly #file: PagedFile;
  readonly #contents = new Map<number, ByteSource>();

  /** Throws a UserError that names the path when it cannot be read or is not ELF for a 64-bit little-endian machine. */
  constructor(readonly path: string) {
    this.#file = new PagedFile(path);
    try {
      const header = this.#readHeader();
      this.type = header.u16();
      const machine = header.u16();
      this.machine = machineNames.get(machine) ?? machine;
      header.skip(4); // e_version
      this.entry = header.u64();
      const segmentsAt = header.u64AsNumber();
      const sectionsAt = header.u64AsNumber();
      header.skip(6); // e_flags, e_ehsize
      const segmentEntry = header.u16();
      const segmentCount = header.u16();
      const sectionEntry = header.u16();
      const sectionCount = header.u16();
      const nameSection = header.u16();
      this.segments = this.#readSegments(segmentsAt, segmentCount, segmentEntry);
      this.sections = this.#readSections(sectionsAt, sectionCount, sectionEntry, nameSection);
    } catch (error) {
      this.#file.close();
      throw error;
    }
  }

  section(name: string): SectionHeader | undefined {
    return this.sections.find((section) => section.name === name);
  }

  /** The contents of a section, decompressed; undefined when there is none of that name or it has no bytes here. */
  contents(name: string): ByteSource | undefined {
    const header = this.section(name);
    return header === undefined || header.type === SHT_NOBITS ? undefined : this.contentsOf(header);
  }

  /** Whether `contents` would be there. */
  hasContents(name: string): boolean {
    const header = this.section(name);
    return header !== undefined && header.type !== SHT_NOBITS;
  }

  contentsOf(header: SectionHeader): ByteSource {
    let contents = this.#contents.get(header.index);
    if (contents === undefined) {
      const raw = new FileSection(this.#file, header);
      contents = (header.flags & SHF_COMPRESSED) !== 0 ? decompress(raw) : raw;
      this.#contents.set(header.index, contents);
    }
    return contents;
  }

  /** The bytes the file holds for [address, address + length), link-time addresses; undefined unless it holds all. */
  imageBytes(address: bigint, length: number): Uint8Array | undefined {
    if (this.type === ET_REL) return undefined; // its sections have no addresses yet
    // Sections before segments: in a split debug file (objcopy --only-keep-debug) the segments may still claim bytes.
    let outside = true;
    for (const section of this.sections) {
      if ((section.flags & SHF_ALLOC) === 0 || section.size === 0) continue;
      const start = Number(address - section.address);
      if (start >= section.size || start + length <= 0) continue;
      outside = outside && section.type !== SHT_NOBITS;
      if (start < 0 || start + length > section.size || section.type === SHT_NOBITS) continue;
      if ((section.flags & SHF_COMPRESSED) === 0) return this.contentsOf(section).read(start, length);
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

  /** Whether an address is in a section (without sections: a segment) of instructions. */
  isCode(address: bigint): boolean {
    if (this.type === ET_REL) return false;
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

  /** The header, positioned at e_type. */
  #readHeader(): Cursor {
    const header = new Cursor(this.#file.read(0, Math.min(headerBytes, this.#file.size)), 'ELF header');
    // e_ident: 0x7f 'E' 'L' 'F', EI_CLASS (1: 32-bit, 2: 64-bit), EI_DATA (1: little endian, 2: big endian).
    if (header.remaining < 16 || header.u32() !== 0x464c457f) {
      throw new UserError(`${this.path} is not an ELF file. Give the kernel's vmlinux, not its Image or bzImage.`);
    }
    const elfClass = header.u8();
    const encoding = header.u8();
    if (elfClass !== 2) throw new UserError(`${this.path} is not ELF for a 64-bit machine (class ${elfClass}).`);
    if (encoding !== 1) throw new UserError(`${this.path} is not little endian (encoding ${encoding}).`);
    header.position = 16;
    return header;
  }

  #readSegments(offset: number, count: number, entrySize: number): Segment[] {
    if (count === 0) return [];
    if (entrySize < segmentHeaderBytes) {
      throw new FormatError('ELF header', 54, `program headers of ${entrySize} bytes`);
    }
    const table = new Cursor(this.#table(offset, count * entrySize, 'program headers'), 'program headers');
    return Array.from({ length: count }, (_, index) => {
      table.position = index * entrySize;
      const type = table.u32();
      const executable = (table.u32() & PF_X) !== 0;
      const at = table.u64AsNumber();
      const address = table.u64();
      table.skip(8); // p_paddr
      return { type, executable, offset: at, address, fileSize: table.u64AsNumber() };
    });
  }

  #readSections(offset: number, count: number, entrySize: number, nameIndex: number): SectionHeader[] {
    if (offset === 0) return [];
    if (entrySize < sectionHeaderBytes) {
      throw new FormatError('ELF header', 58, `section headers of ${entrySize} bytes`);
    }
    const first = new Cursor(this.#table(offset, entrySize, 'section headers'), 'section headers');
    first.position = 32;
    // Counts of 0xff00 and more are in the first header (gABI, "Section Header Table": e_shnum, e_shstrndx).
    const sizeOfFirst = first.u64AsNumber();
    const linkOfFirst = first.u32();
    const total = count === 0 ? sizeOfFirst : count;
    const namesAt = nameIndex === SHN_XINDEX ? linkOfFirst : nameIndex;
    const table = new Cursor(this.#table(offset, total * entrySize, 'section headers'), 'section headers');
    const raw = Array.from({ length: total }, (_, index) => {
      table.position = index * entrySize;
      const nameOffset = table.u32();
      const type = table.u32();
      const flags = Number(BigInt.asUintN(32, table.u64()));
      const address = table.u64();
      const at = table.u64AsNumber();
      const size = table.u64AsNumber();
      const link = table.u32();
      table.skip(4 + 8); // sh_info, sh_addralign
      return {
        index,
        name: '',
        nameOffset,
        type,
        flags,
        address,
        offset: at,
        size,
        link,
        entrySize: table.u64AsNumber(),
      };
    });
    const names = raw[namesAt];
    if (names === undefined || names.type === SHT_NOBITS) return raw;
    const strings = new Cursor(this.#table(names.offset, names.size, 'section names'), '.shstrtab');
    return raw.map(({ nameOffset, ...section }) => {
      strings.position = nameOffset;
      return { ...section, name: section.type === 0 ? '' : strings.string() };
    });
  }

  #table(offset: number, length: number, what: string): Uint8Array {
    if (offset + length > this.#file.size) {
      throw new FormatError(this.path, offset, `the ${what} (${length} bytes) reach beyond the end of the file`);
    }
    return this.#file.read(offset, length);
  }
}

class FileSection implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly #file: PagedFile;
  readonly #start: number;

  constructor(file: PagedFile, header: SectionHeader) {
    this.name = header.name;
    this.size = header.size;
    this.#file = file;
    this.#start = header.offset;
    if (header.offset + header.size > file.size) {
      throw new FormatError(header.name, 0, `the section reaches beyond the end of ${file.path}`);
    }
  }

  read(offset: number, length: number): Uint8Array {
    checkRange(this, offset, length);
    return this.#file.read(this.#start + offset, length);
  }
  peek(offset: number, length: number): Uint8Array {
    checkRange(this, offset, length);
    return this.#file.peek(this.#start + offset, length);
  }
}

/** A section whose bytes are in memory. */
export class BufferSection implements ByteSource {
  readonly size: number;
  readonly #bytes: Uint8Array;

  constructor(
    readonly name: string,
    bytes: Uint8Array,
  ) {
    this.size = bytes.length;
    this.#bytes = bytes;
  }

  read(offset: number, length: number): Uint8Array {
    return this.peek(offset, length).slice();
  }
  peek(offset: number, length: number): Uint8Array {
    checkRange(this, offset, length);
    return this.#bytes.subarray(offset, offset + length);
  }
}

const checkRange = (section: ByteSource, offset: number, length: number): void => {
  if (!(offset >= 0 && length >= 0 && offset + length <= section.size)) {
    throw new FormatError(section.name, offset, `${length} bytes wanted of a section of ${section.size}`);
  }
};

// Elf64_Chdr (gABI, "Section Compression"): ch_type u32, reserved u32, ch_size u64, ch_addralign u64.
//   ch_type 1: ELFCOMPRESS_ZLIB    2: ELFCOMPRESS_ZSTD
const decompress = (raw: ByteSource): ByteSource => {
  const header = new Cursor(raw.read(0, Math.min(24, raw.size)), raw.name);
  const type = header.u32();
  header.skip(4);
  const size = header.u64AsNumber();
  header.skip(8);
  const limit = { maxOutputLength: Math.max(size, 1) };
  const bytes = raw.read(24, raw.size - 24);
  let contents: Uint8Array | undefined;
  try {
    if (type === 1) {
      if (size > bytes.length * deflateFactor) header.fail(`${bytes.length} bytes cannot expand to ${size}`, 8);
      contents = zlib.inflateSync(bytes, limit);
    } else if (type === 2) {
      contents = zstdDecompress(raw.name)(bytes, limit);
    } else {
      header.fail(`compression type ${type} is unknown`, 0);
    }
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new FormatError(raw.name, 24, `cannot decompress: ${messageOf(error)}`, { cause: error });
  }
  if (contents?.length !== size)
    return header.fail(`${contents?.length} bytes after decompression, ${size} declared`, 8);
  return new BufferSection(raw.name, contents);
};

type Decompress = (bytes: Uint8Array, options: { maxOutputLength: number }) => Uint8Array;

const zstdDecompress = (section: string): Decompress => {
  // Since Node 22.15; the types of the oldest supported Node do not know it.
  const found = (zlib as { zstdDecompressSync?: Decompress }).zstdDecompressSync;
  if (found !== undefined) return found;
  throw new UserError(
    `${section} is compressed with zstd, which this Node (${process.version}) cannot read. ` +
      'Use Node 22.15 or later, or build with CONFIG_DEBUG_INFO_COMPRESSED_ZLIB or _NONE.',
  );
};
