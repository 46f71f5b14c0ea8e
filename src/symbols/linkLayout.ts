// Addresses for the sections of relocatable files (ET_REL: kernel modules), which have none before they are loaded.

import { FormatError } from '../base/errors.ts';
import type { SectionHeader } from './elfHeaders.ts';

/** sh_flags. */
const SHF_ALLOC = 0x2;

/** Not 0: debug information says 0 of what was discarded. Below 2 GiB: R_X86_64_32S must be able to express it. */
export const linkBase = 0x100_0000n;

/** Sections begin this far apart at least, and something lies between any two: an address at the end of one is never the
 *  start of another. */
const granule = 0x1000n;

/** Gives the sections that are loaded (SHF_ALLOC) consecutive, aligned addresses from `linkBase` on, in the order of the
 *  section headers. A module and its split debug file have the same of these, and so the same addresses. */
export const linkLayout = (sections: readonly SectionHeader[]): SectionHeader[] => {
  let next = linkBase;
  return sections.map((section) => {
    if ((section.flags & SHF_ALLOC) === 0) return { ...section, address: 0n };
    const alignment = section.alignment > granule ? section.alignment : granule;
    // gABI, sh_addralign: 0 and positive powers of two.
    if ((section.alignment & (section.alignment - 1n)) !== 0n || alignment > 1n << 32n) {
      throw new FormatError(section.name, 0, `an alignment of ${section.alignment}`);
    }
    const address = roundedUp(next, alignment);
    next = address + BigInt(section.size) + 1n;
    if (next > 0xffff_ffff_ffff_ffffn) throw new FormatError(section.name, 0, `a section of ${section.size} bytes`);
    return { ...section, address };
  });
};

const roundedUp = (value: bigint, alignment: bigint): bigint => (value + alignment - 1n) & -alignment;
