/** Variables that an instance of a function has no entry for, but blocks of its abstract instance have (DWARF 5, 3.3.8):
 *  an account of entries that is simpler than that of the symbols' reader, and says nothing about what it shows. */
import { DW_AT, DW_TAG } from '../../src/symbols/dwarf/constants.ts';
import { type Die, Dies } from '../../src/symbols/dwarf/dies.ts';
import { DwarfSections } from '../../src/symbols/dwarf/sections.ts';
import { Units } from '../../src/symbols/dwarf/units.ts';
import { ElfFile } from '../../src/symbols/elf.ts';

export class AbstractBlocks {
  readonly #file: ElfFile;
  readonly #dies: Dies;

  constructor(vmlinux: string) {
    this.#file = new ElfFile(vmlinux);
    this.#dies = new Dies(new Units(new DwarfSections(this.#file)));
  }

  close(): void {
    this.#file.close();
  }

  /** Whether only blocks of the abstract instance have that name: none of the instance at `offset` does that is for `pc`,
   *  in its blocks or outside of them. */
  haveAlone(name: string, offset: number, pc: bigint): boolean {
    const instance = this.#dies.at(offset);
    const abstract = this.#dies.referenced(instance, DW_AT.abstractOrigin);
    if (abstract === undefined || this.#has(name, instance, (block) => this.#isFor(block, pc))) return false;
    return [...this.#dies.children(abstract)].some(
      (block) => block.tag === DW_TAG.lexicalBlock && this.#has(name, block, () => true),
    );
  }

  #has(name: string, parent: Die, isWanted: (block: Die) => boolean): boolean {
    return [...this.#dies.children(parent)].some((die) => {
      if (die.tag === DW_TAG.lexicalBlock) return isWanted(die) && this.#has(name, die, isWanted);
      return (die.tag === DW_TAG.variable || die.tag === DW_TAG.formalParameter) && this.#dies.name(die) === name;
    });
  }

  #isFor({ attributes, unit }: Die, pc: bigint): boolean {
    if (!attributes.has(DW_AT.lowPc) && !attributes.has(DW_AT.ranges)) return true;
    return this.#dies.units.codeRanges(attributes, unit).some(({ start, end }) => pc >= start && pc < end);
  }
}
