// The kernel's table of the breakpoint instructions of BUG and WARN (CONFIG_GENERIC_BUG): struct bug_entry of
// include/asm-generic/bug.h, one for each; the core kernel's in the section __bug_table, a module's in its own memory.

import { Gva } from '../base/address.ts';
import type { VirtualMemory } from '../base/memory.ts';
import type { SymbolFile } from '../symbols/image.ts';
import { type Layout, layoutOf } from './tables.ts';

export type BugSource = Pick<SymbolFile, 'symbolsNamed' | 'typeNamed'>;

/** BUGFLAG_WARNING (include/asm-generic/bug.h). */
const warningFlag = 1;
/** Bounds against lists and counts that a guest has destroyed. */
const moduleLimit = 4096;
const entryLimit = 1 << 18;

export class BugTable {
  readonly #entry: Layout;
  /** Entries of the core kernel: flags by the link-time address of the instruction. */
  #core: ReadonlyMap<bigint, number> | undefined;

  private constructor(
    private readonly source: BugSource,
    entry: Layout,
  ) {
    this.#entry = entry;
  }

  /** Undefined where the kernel has no such table. */
  static of(source: BugSource): BugTable | undefined {
    const entry = layoutOf(source, 'bug_entry');
    return entry && source.symbolsNamed('__start___bug_table').length > 0 ? new BugTable(source, entry) : undefined;
  }

  /** Whether the instruction at `pc` is WARN's; undefined when it is in no table. `bias`: run-time minus link-time address.
   *  MemoryFault when the tables cannot be read. */
  async isWarning(pc: Gva, bias: bigint, memory: VirtualMemory): Promise<boolean | undefined> {
    this.#core ??= await this.#readCore(bias, memory);
    const flags = this.#core.get(BigInt.asUintN(64, pc - bias)) ?? (await this.#flagsInModules(pc, bias, memory));
    return flags === undefined ? undefined : (flags & warningFlag) !== 0;
  }

  async #readCore(bias: bigint, memory: VirtualMemory): Promise<ReadonlyMap<bigint, number>> {
    const [start = 0n, end = 0n] = ['__start___bug_table', '__stop___bug_table'].map((name) =>
      this.#address(name, bias),
    );
    const entries = await this.#read(start, Number(end - start) / this.#entry.size, memory);
    return new Map([...entries].map(([address, flags]) => [BigInt.asUintN(64, address - bias), flags]));
  }

  /** `module_bug_list` (lib/bug.c) links the modules by their member `bug_list`. */
  async #flagsInModules(pc: bigint, bias: bigint, memory: VirtualMemory): Promise<number | undefined> {
    const head = this.#address('module_bug_list', bias);
    const module = layoutOf(this.source, 'module');
    const [list, table, count] = ['bug_list', 'bug_table', 'num_bugs'].map((name) => module?.offsetOf(name));
    if (head === undefined || list === undefined || table === undefined || count === undefined) return undefined;
    let link = await word(memory, head);
    for (let number = 0; link !== head && number < moduleLimit; number++) {
      const start = BigInt.asUintN(64, link - BigInt(list));
      const entries = await view(memory, start + BigInt(count), 4);
      const flags = (
        await this.#read(await word(memory, start + BigInt(table)), entries.getUint32(0, true), memory)
      ).get(pc);
      if (flags !== undefined) return flags;
      link = await word(memory, link);
    }
    return undefined;
  }

  async #read(start: bigint, count: number, memory: VirtualMemory): Promise<ReadonlyMap<bigint, number>> {
    const { size } = this.#entry;
    const flags = new Map<bigint, number>();
    const displacement = this.#entry.offsetOf('bug_addr_disp');
    const pointer = this.#entry.offsetOf('bug_addr');
    const flagsAt = this.#entry.offsetOf('flags');
    if (count === 0 || count > entryLimit || flagsAt === undefined) return flags;
    const bytes = await view(memory, start, count * size);
    for (let at = 0; at < count * size; at += size) {
      // CONFIG_GENERIC_BUG_RELATIVE_POINTERS: relative to the member itself.
      const address =
        displacement === undefined
          ? bytes.getBigUint64(at + (pointer ?? 0), true)
          : start + BigInt(at + displacement + bytes.getInt32(at + displacement, true));
      flags.set(BigInt.asUintN(64, address), bytes.getUint16(at + flagsAt, true));
    }
    return flags;
  }

  #address(name: string, bias: bigint): bigint | undefined {
    const [symbol] = this.source.symbolsNamed(name);
    return symbol && BigInt.asUintN(64, symbol.address + bias);
  }
}

async function view(memory: VirtualMemory, address: bigint, length: number): Promise<DataView> {
  const bytes = await memory.read(Gva(address), length);
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

const word = async (memory: VirtualMemory, address: bigint): Promise<bigint> =>
  (await view(memory, address, 8)).getBigUint64(0, true);
