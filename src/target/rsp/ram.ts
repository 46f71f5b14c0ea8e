// Where a QEMU guest has memory. By physical address QEMU's stub reads and writes whatever is there, devices too, and what
// a device does then is nobody's wish.

import type { Gpa } from '../../base/address.ts';

export interface MemoryRange {
  readonly start: bigint;
  /** Exclusive. */
  readonly end: bigint;
  readonly isWritable: boolean;
}

//   FlatView #0
//    AS "memory", root: system
//    …
//     0000000000000000-0000000003ffffff (prio 0, romd): virt.flash0
//     0000000040000000-000000004bffffff (prio 0, ram): mach-virt.ram
/** The memory in `info mtree -f` (QEMU softmmu/memory.c, mtree_print_flatview). Empty when it cannot be understood. */
export function memoryIn(text: string): readonly MemoryRange[] {
  const view = text.split(/^FlatView\b.*$/m).find((each) => /^[ \t]*AS "memory",/m.test(each)) ?? '';
  return [...view.matchAll(/^[ \t]*([0-9a-f]{16})-([0-9a-f]{16}) \(prio [^,\n]*, (?:nv-)?(ram|rom|romd)\):/gim)].map(
    ([, first, last, kind]) => ({
      start: BigInt(`0x${first}`),
      end: BigInt(`0x${last}`) + 1n,
      isWritable: kind === 'ram',
    }),
  );
}

/** How many bytes of [address, address + length) from its beginning are memory. */
export function memoryFrom(
  ranges: readonly MemoryRange[],
  address: Gpa,
  length: number,
  needsWriting: boolean,
): number {
  let at: bigint = address;
  const end = address + BigInt(length);
  while (at < end) {
    const range = ranges.find(({ start, end: over }) => at >= start && at < over);
    if (range === undefined || (needsWriting && !range.isWritable)) break;
    at = range.end;
  }
  return Number((at < end ? at : end) - address);
}
