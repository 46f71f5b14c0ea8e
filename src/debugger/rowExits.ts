import type { Architecture } from '../arch/architecture.ts';
import { Gva } from '../base/address.ts';

export interface WayOut {
  /** Where the code goes when it is left other than by calls: behind its end, and where its jumps go. Undefined when one of
   *  its instructions, a return or a jump by a register, may go anywhere. */
  readonly exits: readonly Gva[] | undefined;
  readonly calls: boolean;
}

/** How the code at `start` is left. */
export function wayOut(start: Gva, code: Uint8Array, architecture: Pick<Architecture, 'decode'>): WayOut {
  const end = start + BigInt(code.length);
  const exits = new Set<bigint>([end]);
  let anywhere = false;
  let calls = false;
  for (let offset = 0; offset < code.length; ) {
    const { length, kind, displacement } = architecture.decode(code.subarray(offset));
    calls ||= kind === 'call';
    if (kind === 'jump' || kind === 'branch') {
      const target = displacement && BigInt.asUintN(64, start + BigInt(offset) + displacement);
      if (target === undefined) anywhere = true;
      else if (target < start || target >= end) exits.add(target);
    }
    anywhere ||= kind === 'return';
    offset += length;
  }
  return { exits: anywhere ? undefined : [...exits].map(Gva), calls };
}
