// A walk through the translation tables as views show it: level by level, in the words of the architecture.
import type { Gpa } from '../base/address.ts';

/** Reads guest physical memory; throws MemoryFault where there is none. */
export type ReadPhysical = (address: Gpa, length: number) => Promise<Uint8Array>;

/** What a descriptor says beside the address that it holds. */
export interface WalkAttribute {
  /** The field, as the manual calls it. */
  readonly name: string;
  readonly value: bigint;
  /** In words; undefined where the value speaks for itself. */
  readonly meaning: string | undefined;
  /** What of it is worth telling in a line that has room for little; empty when nothing is. */
  readonly short: string;
}

export interface WalkLevel {
  readonly level: number;
  readonly table: Gpa;
  readonly index: number;
  /** Of the descriptor. */
  readonly address: Gpa;
  readonly descriptor: bigint;
  readonly kind: 'table' | 'block' | 'page' | 'invalid';
  /** The next table, or the first byte of the block or page; undefined for an invalid descriptor. */
  readonly output: Gpa | undefined;
  readonly attributes: readonly WalkAttribute[];
}

/** Which tables translate the address, and how they are shaped. */
export interface WalkRegime {
  /** Name of the register that holds the first table's address, and its value. */
  readonly register: string;
  readonly value: bigint;
  /** Bytes of a page. */
  readonly granule: number;
  /** Bits of virtual addresses. */
  readonly addressBits: number;
  /** Bits of physical addresses. */
  readonly outputBits: number;
}

export interface WalkPermissions {
  readonly writable: boolean;
  readonly user: boolean;
  readonly executable: boolean;
  readonly userExecutable: boolean;
}

export interface WalkTarget {
  readonly address: Gpa;
  /** Bytes of the page or block, and from `address` to its end. */
  readonly pageSize: number;
  readonly remaining: number;
  readonly permissions: WalkPermissions;
}

export interface WalkFault {
  readonly kind: string;
  readonly level: number;
  /** As the CPU would report it, and why where that is more. */
  readonly message: string;
}

export interface PageWalk {
  readonly isMmuOn: boolean;
  /** Undefined where no tables are walked: the MMU is off, or its control registers hold reserved values. */
  readonly regime: WalkRegime | undefined;
  readonly levels: readonly WalkLevel[];
  /** Where the address leads. With a fault too where the page is there, and only an access would not be let through. */
  readonly target: WalkTarget | undefined;
  readonly fault: WalkFault | undefined;
  /** All that in lines for people. */
  readonly lines: readonly string[];
}
