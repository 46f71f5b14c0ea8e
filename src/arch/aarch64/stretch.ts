// Stretches of code that can be run as one step: nothing in them sees or changes the interrupt masks, and it is known
// beforehand where they are left.
import { isLoadExclusive, isStoreExclusive } from './exclusive.ts';
import { decodeWord, matches, type Pattern, waitsOrMasks } from './instructions.ts';

export interface Stretch {
  /** Bytes from its first instruction to behind its last. */
  readonly length: bigint;
  /** Where it can be left for: behind its end, and where its branches go. Never within. */
  readonly exits: readonly bigint[];
}

/** Instructions at most. */
export const longestStretch = 64;

// C4.1 "Branches, Exception Generating and System instructions": 28:26 101. Of these, the ones below go on behind
// themselves and change nothing that a run of the vCPU depends on.
const branchesAndSystem: Pattern = [0x1c00_0000, 0x1400_0000];
const harmless: readonly Pattern[] = [
  [0xffff_f01f, 0xd503_201f], // hints
  [0xffff_f01f, 0xd503_301f], // barriers, CLREX
  [0xfff0_0000, 0xd530_0000], // MRS
];
/** ESB sees whether SError is masked. */
const errorBarrier = 0xd503_221f;

const isPlain = (word: number): boolean => {
  if (isLoadExclusive(word) || isStoreExclusive(word)) return false;
  if (!matches(word, branchesAndSystem)) return true;
  return harmless.some((pattern) => matches(word, pattern)) && word !== errorBarrier && !waitsOrMasks(word);
};

/** The stretch that begins at `start`, the address of `words[0]`, runs straight on, and ends at the latest with the last of
 *  `words` or a direct branch. Undefined when it is no longer than one instruction, or `start` is no place for any. */
export function straightStretch(start: bigint, words: readonly number[]): Stretch | undefined {
  if (start & 3n) return undefined;
  const limited = words.slice(0, longestStretch);
  const found = limited.findIndex((word) => !isPlain(word));
  const count = found < 0 ? limited.length : found;
  const end = BigInt.asUintN(64, start + BigInt(4 * count));
  const branch = decodeWord(limited[count] ?? 0);
  const isDirect = (branch.kind === 'branch' || branch.kind === 'jump') && branch.displacement !== undefined;
  const target = BigInt.asUintN(64, end + (branch.displacement ?? 0n));
  // A loop's beginning may be passed on the way to its end.
  if (count > 0 && isDirect && (target < start || target > end)) {
    const behind = BigInt.asUintN(64, end + 4n);
    const exits = branch.kind === 'branch' ? [behind, target] : [target];
    return { length: behind - start, exits: [...new Set(exits)] };
  }
  return count > 1 ? { length: end - start, exits: [end] } : undefined;
}
