// The tables at the head of an ELF file, of either class, little endian (System V gABI, chapters 4 and 5).

import { Cursor } from '../base/bytes.ts';
import { FormatError, UserError } from '../base/errors.ts';
import type { PagedFile } from './file.ts';

/** e_type: relocatable, not linked yet. */
export const ET_REL = 1;

/** sh_type. */
export const SHT_NOBITS = 8;

const SHN_XINDEX = 0xffff;
/** p_flags. */
const PF_X = 0x1;

/** What a class makes of the sizes of its tables' entries. Offsets are those of the fields in the ELF header. */
interface ElfClass {
  readonly addressSize: 4 | 8;
  readonly headerBytes: number;
  readonly segmentHeaderBytes: number;
  readonly sectionHeaderBytes: number;
  /** Offset of e_phentsize. */
  readonly entrySizesAt: number;
  /** Offset of sh_size in a section header; sh_link follows it. */
  readonly sectionSizeAt: number;
}

// EI_CLASS 1: Elf32_Ehdr 52 bytes, Elf32_Phdr 32, Elf32_Shdr 40. EI_CLASS 2: 64, 56, 64.
const classes = new Map<number, ElfClass>([
  [
    1,
    {
      addressSize: 4,
      headerBytes: 52,
      segmentHeaderBytes: 32,
      sectionHeaderBytes: 40,
      entrySizesAt: 42,
      sectionSizeAt: 20,
    },
  ],
  [
    2,
    {
      addressSize: 8,
      headerBytes: 64,
      segmentHeaderBytes: 56,
      sectionHeaderBytes: 64,
      entrySizesAt: 54,
      sectionSizeAt: 32,
    },
  ],
]);

export interface SectionHeader {
  readonly index: number;
  readonly name: string;
  readonly type: number;
  readonly flags: number;
  /** Where it is loaded; in a relocatable file the link address that linkLayout.ts gives it. 0 when it is not loaded. */
  readonly address: bigint;
  /** In the file; meaningless for SHT_NOBITS. */
  readonly offset: number;
  readonly size: number;
  readonly link: number;
  readonly info: number;
  readonly alignment: bigint;
  readonly entrySize: number;
}

export interface Segment {
  readonly type: number;
  readonly executable: boolean;
  readonly offset: number;
  readonly address: bigint;
  readonly fileSize: number;
  /** What is beyond the bytes of the file is zeros (p_memsz). */
  readonly memorySize: number;
}

export interface ElfHeaders {
  readonly addressSize: 4 | 8;
  readonly type: number;
  readonly machine: number;
  readonly entry: bigint;
  readonly segments: readonly Segment[];
  readonly sections: readonly SectionHeader[];
}

/** Throws a UserError that names the path when the file is not ELF, or of a kind that is not read. */
export const readElfHeaders = (file: PagedFile): ElfHeaders => {
  const { elfClass, header } = readIdentification(file);
  const { addressSize } = elfClass;
  const type = header.u16();
  const machine = header.u16();
  header.advance(4); // e_version
  const entry = header.unsigned(addressSize);
  const segmentsAt = word(header, elfClass);
  const sectionsAt = word(header, elfClass);
  header.advance(6); // e_flags, e_ehsize
  const segmentEntry = header.u16();
  const segmentCount = header.u16();
  const sectionEntry = header.u16();
  const sectionCount = header.u16();
  const nameSection = header.u16();
  return {
    addressSize,
    type,
    machine,
    entry,
    segments: readSegments(file, elfClass, segmentsAt, segmentCount, segmentEntry),
    sections: readSections(file, elfClass, sectionsAt, sectionCount, sectionEntry, nameSection),
  };
};

/** The class, and the header positioned at e_type. */
const readIdentification = (file: PagedFile): { readonly elfClass: ElfClass; readonly header: Cursor } => {
  // e_ident: 0x7f 'E' 'L' 'F', EI_CLASS (1: 32-bit, 2: 64-bit), EI_DATA (1: little endian, 2: big endian).
  const identification = new Cursor(file.read(0, Math.min(16, file.size)), 'ELF header');
  if (identification.remaining < 16 || identification.u32() !== 0x464c457f) {
    throw new UserError(`${file.path} is not an ELF file. Give the kernel's vmlinux, not its Image or bzImage.`);
  }
  const number = identification.u8();
  const encoding = identification.u8();
  if (encoding === 2) {
    throw new UserError(`${file.path} is of a big-endian machine: only little-endian kernels can be debugged.`);
  }
  const elfClass = classes.get(number);
  if (elfClass === undefined || encoding !== 1) {
    throw new UserError(`${file.path} is no ELF file of a known kind (class ${number}, data encoding ${encoding}).`);
  }
  const header = new Cursor(file.read(0, Math.min(elfClass.headerBytes, file.size)), 'ELF header');
  header.position = 16;
  return { elfClass, header };
};

/** An offset or size: Elf32_Off, Elf32_Word; Elf64_Off, Elf64_Xword. */
const word = (cursor: Cursor, { addressSize }: ElfClass): number =>
  addressSize === 8 ? cursor.u64AsNumber() : cursor.u32();

// Elf32_Phdr: p_type, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_flags, p_align.
// Elf64_Phdr: p_flags stands behind p_type.
const readSegments = (
  file: PagedFile,
  elfClass: ElfClass,
  offset: number,
  count: number,
  entrySize: number,
): Segment[] => {
  if (count === 0) return [];
  if (entrySize < elfClass.segmentHeaderBytes) {
    throw new FormatError('ELF header', elfClass.entrySizesAt, `program headers of ${entrySize} bytes`);
  }
  const { addressSize } = elfClass;
  const table = new Cursor(tableBytes(file, offset, count * entrySize, 'program headers'), 'program headers');
  return Array.from({ length: count }, (_, index) => {
    table.position = index * entrySize;
    const type = table.u32();
    const flags = addressSize === 8 ? table.u32() : 0;
    const at = word(table, elfClass);
    const address = table.unsigned(addressSize);
    table.advance(addressSize); // p_paddr
    const fileSize = word(table, elfClass);
    const memorySize = word(table, elfClass);
    const executable = ((addressSize === 8 ? flags : table.u32()) & PF_X) !== 0;
    return { type, executable, offset: at, address, fileSize, memorySize };
  });
};

const readSections = (
  file: PagedFile,
  elfClass: ElfClass,
  offset: number,
  count: number,
  entrySize: number,
  nameIndex: number,
): SectionHeader[] => {
  if (offset === 0) return [];
  if (entrySize < elfClass.sectionHeaderBytes) {
    throw new FormatError('ELF header', elfClass.entrySizesAt + 4, `section headers of ${entrySize} bytes`);
  }
  const first = new Cursor(tableBytes(file, offset, entrySize, 'section headers'), 'section headers');
  first.position = elfClass.sectionSizeAt;
  // Counts of 0xff00 and more are in the first header (gABI, "Section Header Table": e_shnum, e_shstrndx).
  const sizeOfFirst = word(first, elfClass);
  const linkOfFirst = first.u32();
  const total = count === 0 ? sizeOfFirst : count;
  const namesAt = nameIndex === SHN_XINDEX ? linkOfFirst : nameIndex;
  const table = new Cursor(tableBytes(file, offset, total * entrySize, 'section headers'), 'section headers');
  const { addressSize } = elfClass;
  const raw = Array.from({ length: total }, (_, index) => {
    table.position = index * entrySize;
    const nameOffset = table.u32();
    const type = table.u32();
    const flags = Number(BigInt.asUintN(32, table.unsigned(addressSize)));
    const address = table.unsigned(addressSize);
    const at = word(table, elfClass);
    const size = word(table, elfClass);
    const link = table.u32();
    const info = table.u32();
    const alignment = table.unsigned(addressSize);
    const entry = word(table, elfClass);
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
      info,
      alignment,
      entrySize: entry,
    };
  });
  const names = raw[namesAt];
  if (names === undefined || names.type === SHT_NOBITS) return raw;
  const strings = new Cursor(tableBytes(file, names.offset, names.size, 'section names'), '.shstrtab');
  return raw.map(({ nameOffset, ...section }) => {
    strings.position = nameOffset;
    return { ...section, name: section.type === 0 ? '' : strings.string() };
  });
};

const tableBytes = (file: PagedFile, offset: number, length: number, what: string): Uint8Array => {
  if (offset + length > file.size) {
    throw new FormatError(file.path, offset, `the ${what} (${length} bytes) reach beyond the end of the file`);
  }
  return file.read(offset, length);
};
