import type { Architecture } from '../arch/architecture.ts';
import { Gva } from '../base/address.ts';

/** Where the code at `start` goes when it is left other than by calls: behind its end, and where its jumps go. Undefined
 *  when one of its instructions, a return or a jump by a register, may go anywhere. */
export function exitsOf(
  start: Gva,
  code: Uint8Array,
  architecture: Pick<Architecture, 'decode'>,
): readonly Gva[] | undefined {
  const end = start + BigInt(code.length);
  const exits = new Set<bigint>([end]);
  for (let offset = 0; offset < code.length; ) {
    const { length, kind, displacement } = architecture.decode(code.subarray(offset));
    if (kind === 'return') return undefined;
    if (kind === 'jump' || kind === 'branch') {
      if (displacement === undefined) return undefined;
      const target = BigInt.asUintN(64, start + BigInt(offset) + displacement);
      if (target < start || target >= end) exits.add(target);
    }
    offset += length;
  }
  return [...exits].map(Gva);
}
