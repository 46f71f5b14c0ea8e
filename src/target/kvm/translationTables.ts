// The guest's translation tables as page walks read them: the walks of one stop read the same few tables over and over.
import { Gpa } from '../../base/address.ts';
import { Recent } from '../../base/recent.ts';
import type { SlotMemory } from './memorySlots.ts';

/** Divides every page, thus every slot. Neighbours of a descriptor are likely to be read next. */
const blockSize = 512;
const keptBlocks = 256;

export class TranslationTables {
  #blocks = new Recent<bigint, Uint8Array>(keptBlocks);

  constructor(private readonly memory: SlotMemory) {}

  /** To be called when anything may have been written: the guest has run, or its memory was changed. */
  forget(): void {
    this.#blocks = new Recent(keptBlocks);
  }

  /** A descriptor. Precondition: it does not cross a block, as no aligned one does. */
  readonly read = async (gpa: Gpa, length: number): Promise<Uint8Array> => {
    const start = gpa & -BigInt(blockSize);
    const block = this.#blocks.of(start, () => this.memory.readNow(Gpa(start), blockSize));
    const offset = Number(gpa - start);
    return block.subarray(offset, offset + length);
  };
}
