// Load-exclusive/store-exclusive sequences, which never complete when they are stepped: the exception of each step
// clears the monitor that the store-exclusive asks (Arm ARM, DDI 0487, B2.17 "Synchronization and semaphores").

import { decodeWord, matches, type Pattern, waitsOrMasks } from './instructions.ts';
import type { Stretch } from './stretch.ts';

const anyOf = (word: number, patterns: readonly Pattern[]): boolean =>
  patterns.some((pattern) => matches(word, pattern));

// C4.1 "Load/store exclusive register", "Load/store exclusive pair": 31:30 size, 29:24 001000, 23 0, 22 L, 21 pair,
// 15 ordered. With 31 clear, a pair is CASP, which is no exclusive.
const loads: readonly Pattern[] = [
  [0x3fe0_0000, 0x0840_0000], // LDXR, LDAXR, of every size
  [0xbfe0_0000, 0x8860_0000], // LDXP, LDAXP
];
const stores: readonly Pattern[] = [
  [0x3fe0_0000, 0x0800_0000], // STXR, STLXR, of every size
  [0xbfe0_0000, 0x8820_0000], // STXP, STLXP
];

/** Instructions of a sequence at most; B2.17.5 asks for no more than 128 bytes between the two. */
export const longestSequence = 32;

export const isLoadExclusive = (word: number): boolean => anyOf(word, loads);
export const isStoreExclusive = (word: number): boolean => anyOf(word, stores);

/** The sequence that begins with a load-exclusive at `start`, the address of `words[0]`. Undefined when there is none
 *  that runs straight to its store-exclusive: it is then stepped like all other code. */
export function exclusiveSequence(start: bigint, words: readonly number[]): Stretch | undefined {
  if (!isLoadExclusive(words[0] ?? 0)) return undefined;
  const targets = new Set<bigint>();
  for (const [index, word] of words.slice(0, longestSequence).entries()) {
    const address = start + BigInt(4 * index);
    if (isStoreExclusive(word)) {
      const end = BigInt.asUintN(64, address + 4n);
      const exits = [...targets].filter((target) => target < start || target >= end);
      return { length: end - start, exits: [...new Set([end, ...exits])] };
    }
    const target = branchTarget(word, address);
    // A loop within waits for somebody who would be held: not to be run to its end.
    if (target !== undefined && target >= start && target <= address) return undefined;
    if (target !== undefined) targets.add(target);
    else if (index > 0 && leaves(word)) return undefined;
  }
  return undefined;
}

function branchTarget(word: number, address: bigint): bigint | undefined {
  const { kind, displacement } = decodeWord(word);
  return kind === 'branch' && displacement !== undefined ? BigInt.asUintN(64, address + displacement) : undefined;
}

// C4.1 "Exception generation": 31:24 11010100.
const exceptions: Pattern = [0xff00_0000, 0xd400_0000];

const leaves = (word: number): boolean =>
  decodeWord(word).kind !== 'other' || waitsOrMasks(word) || matches(word, exceptions) || isLoadExclusive(word);
