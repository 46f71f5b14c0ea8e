// Builds stage 1 translation tables in an imaginary physical memory, for tests of the walk.
//
// Written from the manual's figures for descriptors and lookup levels (Arm ARM, D8.2 and D8.3), per granule and not from
// formulas, so that it does not share a mistake with what it tests.

import { type Gpa, hex } from '../../src/base/address.ts';
import { MemoryFault } from '../../src/base/errors.ts';

export type Granule = '4K' | '16K' | '64K';

export interface Geometry {
  readonly granule: Granule;
  readonly vaBits: number;
  /** 52-bit output addresses: LPA2 for 4K and 16K, LPA for 64K. */
  readonly large: boolean;
}

// Address bits that index the table of each level, 4 KiB: level -1 to 3; the first level in use is cut to the VA size.
const indexBits: Readonly<Record<Granule, Readonly<Record<number, readonly [high: number, low: number]>>>> = {
  '4K': { [-1]: [51, 48], 0: [47, 39], 1: [38, 30], 2: [29, 21], 3: [20, 12] },
  '16K': { 0: [51, 47], 1: [46, 36], 2: [35, 25], 3: [24, 14] },
  '64K': { 1: [51, 42], 2: [41, 29], 3: [28, 16] },
};
const pageBytes: Readonly<Record<Granule, bigint>> = { '4K': 0x1000n, '16K': 0x4000n, '64K': 0x1_0000n };

export class PageTables {
  readonly memory = new Map<bigint, bigint>();
  readonly reads: bigint[] = [];
  readonly root: bigint;
  readonly firstLevel: number;
  private next: bigint;

  /** Tables are laid out from `base` up, which decides whether they need 52-bit addresses. */
  constructor(
    readonly geometry: Geometry,
    base: bigint,
  ) {
    const levels = Object.keys(indexBits[geometry.granule]).map(Number);
    this.firstLevel = Math.min(...levels.filter((level) => this.low(level) < geometry.vaBits));
    // The first table may be short and is aligned to its size only; the others fill a page each.
    this.root = base;
    const page = pageBytes[geometry.granule];
    this.next = (base & ~(page - 1n)) + page;
  }

  private low(level: number): number {
    const range = indexBits[this.geometry.granule][level];
    if (!range) throw new Error(`no level ${level}`);
    return range[1];
  }

  /** Size of a page or block of `level`. */
  size(level: number): bigint {
    return 1n << BigInt(this.low(level));
  }

  private slot(table: bigint, level: number, va: bigint): bigint {
    const range = indexBits[this.geometry.granule][level];
    if (!range) throw new Error(`no level ${level}`);
    const high = Math.min(range[0], this.geometry.vaBits - 1);
    const index = (va >> BigInt(range[1])) & ((1n << BigInt(high - range[1] + 1)) - 1n);
    return table + 8n * index;
  }

  /** An address as a descriptor holds it. */
  private encode(address: bigint): bigint {
    const { granule, large } = this.geometry;
    const low48 = address & 0xffff_ffff_ffffn;
    if (!large) return low48;
    if (granule === '64K') return low48 | (((address >> 48n) & 0xfn) << 12n);
    return (address & 0x3_ffff_ffff_ffffn) | (((address >> 50n) & 3n) << 8n);
  }

  /** Maps the page or block of `level` at `va`. `attributes` is or-ed into the descriptor, `table` into new tables'. */
  map(va: bigint, pa: bigint, level: number, attributes = 1n << 10n, table = 0n): void {
    let at = this.root;
    for (let current = this.firstLevel; current < level; current++) {
      const slot = this.slot(at, current, va);
      let child = this.children.get(slot);
      if (child === undefined) {
        child = this.next;
        this.next += pageBytes[this.geometry.granule];
        this.children.set(slot, child);
        this.memory.set(slot, this.encode(child) | table | 3n);
      }
      at = child;
    }
    this.memory.set(this.slot(at, level, va), this.encode(pa) | attributes | (level === 3 ? 3n : 1n));
  }
  private readonly children = new Map<bigint, bigint>();

  /** The slot of `va` at `level`, whose descriptor a test wants to change. */
  slotOf(va: bigint, level: number): bigint {
    let at = this.root;
    for (let current = this.firstLevel; current < level; current++) {
      const child = this.children.get(this.slot(at, current, va));
      if (child === undefined) throw new Error(`no table for ${hex(va)} below level ${current}`);
      at = child;
    }
    return this.slot(at, level, va);
  }

  get end(): bigint {
    return this.next;
  }

  /** Physical memory: zero where nothing was written, no memory outside the tables. */
  readonly read = async (address: Gpa, length: number): Promise<Uint8Array> => {
    this.reads.push(address);
    if (address < this.root || address + BigInt(length) > this.next) {
      throw new MemoryFault('physical', address, 'no memory there');
    }
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, this.memory.get(address) ?? 0n, true);
    return bytes.subarray(0, length);
  };
}

/** TTBRn_EL1 for a table: with large addresses bits 51:48 stand in 5:2. ASID and CnP are set too: they do not matter. */
export const ttbr = (root: bigint, large: boolean): bigint =>
  (root & 0xffff_ffff_ffffn) | (large ? ((root >> 48n) & 0xfn) << 2n : 0n) | (0x1234n << 48n) | 1n;
