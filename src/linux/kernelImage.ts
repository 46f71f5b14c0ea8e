// Where an arm64 Linux kernel lies in guest memory, and how far it has moved itself from its link-time addresses (KASLR).
//
// Documentation/arch/arm64/booting.rst: the loader puts the Image, whose first byte is `_text`, at a multiple of 2 MiB
// (before v5.10 plus `text_offset`), and enters it at its first byte with the MMU off. Up to the branch to
// `__primary_switched` the kernel runs at the addresses where it was loaded; from there on at link-time addresses plus
// the offset it drew from /chosen/kaslr-seed. The image stays where it is in physical memory.

import { branchTargetRegister, instructionWord } from '../arch/aarch64/instructions.ts';
import { translationRegime } from '../arch/aarch64/regime.ts';
import type { RegisterValues } from '../arch/architecture.ts';
import { Gpa } from '../base/address.ts';
import { MemoryFault } from '../base/errors.ts';
import type { PhysicalMemory } from '../base/memory.ts';
import type { SymbolFile } from '../symbols/image.ts';
import { buildIdsIn, embeddedPageSize, isElf, noteLength } from './buildId.ts';

export type ImageSource = Pick<SymbolFile, 'symbolsNamed' | 'imageBytes' | 'sections' | 'machine' | 'buildId'>;

/** What tells where a vCPU's kernel is. SCTLR_EL1 (Arm ARM, D24.2): 0 M, the MMU is on. */
export const placeRegisters = ['pc', 'sctlr_el1', 'ttbr1_el1'] as const;
export type PlaceRegisters = Readonly<Record<(typeof placeRegisters)[number], bigint>>;
/** With these, where a vCPU has them: what a host kernel at EL2 has instead. */
export const hostPlaceRegisters = ['pstate', 'hcr_el2', 'sctlr_el2', 'ttbr1_el2'] as const;

/** From the values of the registers above, as far as the vCPU has them; undefined when that does not tell. */
export function placeIn(values: RegisterValues): PlaceRegisters | undefined {
  const regime = translationRegime(values.get('pstate') ?? 0n, values.get('hcr_el2') ?? 0n) ?? 'el1';
  const [pc, sctlr, ttbr1] = ['pc', `sctlr_${regime}`, `ttbr1_${regime}`].map((name) => values.get(name));
  if (pc === undefined || sctlr === undefined || ttbr1 === undefined) return undefined;
  return { pc, sctlr_el1: sctlr, ttbr1_el1: ttbr1 };
}

export const isMmuOn = ({ sctlr_el1 }: PlaceRegisters): boolean => (sctlr_el1 & 1n) !== 0n;

/** An instruction at which the kernel leaves the addresses it was loaded at. */
export interface Departure {
  /** Link-time address of the branch. */
  readonly address: bigint;
  /** Name of the register that holds where it goes: the run-time address of `arrival`. */
  readonly register: string;
}

const mebibyte = 1n << 20n;
/** MIN_KIMG_ALIGN (arch/arm64/include/asm/boot.h). */
const loadAlignment = 2n * mebibyte;
/** `text_offset` of the Image's header, which was 0x80000 before v5.10. */
const textOffsets = [0n, 0x8_0000n];
/** How far from the first instruction a loader may have put the image. */
const searchLimit = 1024n * mebibyte;
/** Larger than images are: how far in front of its page tables another kernel's notes are looked for. */
const imageLimit = 64n * mebibyte;
/** What TTBR1_EL1 points at: the kernel's own tables; those of the exception trampoline in user space (KPTI); those of
 *  the boot. */
const tables = ['swapper_pg_dir', 'tramp_pg_dir', 'init_pg_dir', 'reserved_pg_dir'];
/** TTBR1_EL1 (Arm ARM, D24.2): 47:1 BADDR. Linux's tables are whole pages, but with 64 KiB pages and 52-bit virtual
 *  addresses on CPUs of 48 bits the register points into the table (TTBR1_BADDR_4852_OFFSET). With 52-bit physical
 *  addresses 5:2 are bits 51:48. */
const tableAddresses = (ttbr1: bigint): readonly bigint[] => {
  const low = [ttbr1 & 0xffff_ffff_f000n, ttbr1 & 0xffff_ffff_0000n];
  const high = ((ttbr1 >> 2n) & 0xfn) << 48n;
  return [...new Set(high === 0n ? low : [...low.map((address) => address | high), ...low])];
};

export class KernelImage {
  private constructor(
    /** Link-time address of the image's first byte. */
    readonly text: bigint,
    private readonly notes: { readonly address: bigint; readonly bytes: Uint8Array },
    private readonly source: ImageSource,
  ) {}

  /** Undefined when the symbols are not those of an arm64 Linux kernel, or do not tell one build from another. */
  static of(source: ImageSource): KernelImage | undefined {
    const text = addressOf(source, '_text');
    const section = source.sections.find(({ name }) => name === '.notes');
    const bytes = section && source.imageBytes(section.address, Number(section.size));
    if (source.machine !== 'aarch64' || text === undefined || section === undefined || bytes === undefined) {
      return undefined;
    }
    return new KernelImage(text, { address: section.address, bytes }, source);
  }

  /** Whether `base` is where this very build was loaded: its notes, the build-id among them, are where they must be. */
  async isAt(base: Gpa, memory: PhysicalMemory): Promise<boolean> {
    const found = await readIfThere(memory, this.physical(this.notes.address, base), this.notes.bytes.length);
    return found !== undefined && Buffer.from(found).equals(this.notes.bytes);
  }

  /** Where the image is that a vCPU runs or is about to enter. */
  find(registers: PlaceRegisters, memory: PhysicalMemory): Promise<Gpa | undefined> {
    return isMmuOn(registers)
      ? this.findRunning(registers.ttbr1_el1, memory)
      : this.findLoaded(Gpa(registers.pc), memory);
  }

  /** Where the image is that a vCPU at `pc`, with its MMU off, is about to enter: there, or where the loader's own code
   *  at `pc` goes to. */
  async findLoaded(pc: Gpa, memory: PhysicalMemory): Promise<Gpa | undefined> {
    if (await this.isAt(pc, memory)) return pc;
    const start = pc - (pc % loadAlignment);
    // A vCPU that is past the first instruction is in the image.
    for (let offset = -imageLimit; offset < searchLimit; offset += loadAlignment) {
      for (const textOffset of textOffsets) {
        const base = Gpa(start + offset + textOffset);
        if (start + offset >= 0n && (await this.isAt(base, memory))) return base;
      }
    }
    return undefined;
  }

  /** Where the image is that a vCPU runs whose TTBR1_EL1 is this. */
  async findRunning(ttbr1: bigint, memory: PhysicalMemory): Promise<Gpa | undefined> {
    for (const name of tables) {
      const table = addressOf(this.source, name);
      if (table === undefined) continue;
      for (const address of tableAddresses(ttbr1)) {
        const base = Gpa(address - (table - this.text));
        if (await this.isAt(base, memory)) return base;
      }
    }
    return undefined;
  }

  /** The build-id of another kernel: in front of the page tables that TTBR1_EL1 names or, with the MMU off, in the image
   *  that is loaded where the vCPU is or in front of it. Undefined when there is none, or several. */
  async otherBuild(registers: PlaceRegisters, memory: PhysicalMemory): Promise<string | undefined> {
    const ids = new Set<string>();
    if (isMmuOn(registers)) {
      for (const table of tableAddresses(registers.ttbr1_el1)) {
        const first = table > imageLimit ? table - imageLimit : 0n;
        for (const id of await idsIn(first, table, memory)) ids.add(id);
      }
    } else {
      const loaded = await loadedImage(registers.pc, memory);
      for (const id of loaded ? await idsIn(loaded.start, loaded.end, memory) : []) ids.add(id);
    }
    // It may be this very kernel, with page tables that nothing here knows.
    if (this.source.buildId !== undefined && ids.has(this.source.buildId)) return undefined;
    return ids.size === 1 ? [...ids][0] : undefined;
  }

  /** What the kernel added to its link-time addresses, modulo 2^64; undefined while it has not said so. `__primary_switched`
   *  (arch/arm64/kernel/head.S) stores the distance of its virtual from its physical addresses in `kimage_voffset`. */
  async bias(base: Gpa, memory: PhysicalMemory): Promise<bigint | undefined> {
    const variable = addressOf(this.source, 'kimage_voffset');
    const bytes = variable === undefined ? undefined : await readIfThere(memory, this.physical(variable, base), 8);
    if (bytes === undefined) return undefined;
    const offset = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
    return offset === 0n ? undefined : BigInt.asUintN(64, base + offset - this.text);
  }

  /** The tables that the kernel runs user space with where it unmaps itself from there (CONFIG_UNMAP_KERNEL_AT_EL0), and
   *  its own. */
  tables(base: Gpa): { readonly trampoline: Gpa; readonly own: Gpa } | undefined {
    const [trampoline, own] = ['tramp_pg_dir', 'swapper_pg_dir'].map((name) => addressOf(this.source, name));
    if (trampoline === undefined || own === undefined) return undefined;
    return { trampoline: this.physical(trampoline, base), own: this.physical(own, base) };
  }

  /** The bias while the kernel runs where it was loaded. */
  loadedBias(base: Gpa): bigint {
    return BigInt.asUintN(64, base - this.text);
  }

  /** Link-time address of what a departure leads to. */
  get arrival(): bigint | undefined {
    return addressOf(this.source, '__primary_switched');
  }

  /** The branches by which the kernel goes to its virtual addresses, in `__primary_switch`. Before v6.0 (commit
   *  aacd149b6238) there are two: the first goes to the link-time addresses, where the offset is drawn, the second to the
   *  final ones. */
  departures(): readonly Departure[] {
    const [symbol] = this.source.symbolsNamed('__primary_switch');
    const code = symbol && this.source.imageBytes(symbol.address, Number(symbol.size));
    if (symbol === undefined || code === undefined || this.arrival === undefined) return [];
    const found: Departure[] = [];
    for (let offset = 0; offset + 4 <= code.length; offset += 4) {
      const number = branchTargetRegister(instructionWord(code.subarray(offset)));
      if (number !== undefined) found.push({ address: symbol.address + BigInt(offset), register: `x${number}` });
    }
    return found;
  }

  /** Physical address of what is linked at `address`. */
  physical(address: bigint, base: Gpa): Gpa {
    return Gpa(base + address - this.text);
  }
}

const addressOf = (source: ImageSource, name: string): bigint | undefined => source.symbolsNamed(name)[0]?.address;

async function readIfThere(memory: PhysicalMemory, address: Gpa, length: number): Promise<Uint8Array | undefined> {
  try {
    return await memory.read(address, length);
  } catch (error) {
    if (error instanceof MemoryFault) return undefined;
    throw error;
  }
}

/** Build-ids between two addresses, without those of embedded ELF files. */
async function idsIn(from: bigint, to: bigint, memory: PhysicalMemory): Promise<ReadonlySet<string>> {
  const ids = new Set<string>();
  // RAM begins and ends at whole mebibytes.
  for (let start = from - (from % mebibyte); start < to; start += mebibyte) {
    const window =
      (await readIfThere(memory, Gpa(start), Number(mebibyte) + noteLength)) ??
      (await readIfThere(memory, Gpa(start), Number(mebibyte)));
    for (const { offset, id } of window === undefined ? [] : buildIdsIn(window)) {
      const at = start + BigInt(offset);
      if (at < from || at >= to) continue;
      const page = await readIfThere(memory, Gpa(at - (at % BigInt(embeddedPageSize))), 4);
      if (page === undefined || !isElf(page)) ids.add(id);
    }
  }
  return ids;
}

/** The header of an Image: u64 image_size at 16, u32 magic "ARM\x64" at 56. */
const header = { length: 64, imageSize: 16, magic: 56 } as const;
const imageMagic = 0x644d_5241;

/** Whatever kernel is loaded where a vCPU starts, or where the loader's code there goes to. */
async function loadedImage(
  pc: bigint,
  memory: PhysicalMemory,
): Promise<{ readonly start: bigint; readonly end: bigint } | undefined> {
  const first = pc - (pc % loadAlignment);
  for (let start = first; start < first + imageLimit; start += loadAlignment) {
    for (const textOffset of textOffsets) {
      const base = start + textOffset;
      const bytes = await readIfThere(memory, Gpa(base), header.length);
      const view = bytes && new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      if (view?.getUint32(header.magic, true) !== imageMagic) continue;
      const size = view.getBigUint64(header.imageSize, true);
      return { start: base, end: base + (size > 0n && size < imageLimit ? size : imageLimit) };
    }
  }
  return undefined;
}
