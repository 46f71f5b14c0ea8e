// The kernel's tables of structs, by its debug information and its image.

import type { SymbolFile } from '../symbols/image.ts';
import { type Member, stripped } from '../symbols/types.ts';

export interface Layout {
  /** Bytes, of which there are some. */
  readonly size: number;
  offsetOf(member: string): number | undefined;
  member(name: string): Member | undefined;
}

/** The layout of `struct name`; undefined where the kernel has none, or only its name. */
export function layoutOf(source: Pick<SymbolFile, 'typeNamed'>, name: string): Layout | undefined {
  const type = source.typeNamed('struct', name);
  const real = type && stripped(type);
  if (real === undefined || !('members' in real) || real.size === 0) return undefined;
  const member = (wanted: string): Member | undefined => real.members.find((each) => each.name === wanted);
  return { size: real.size, offsetOf: (wanted) => member(wanted)?.offset, member };
}

/** Offsets of members that nothing can be done without; undefined where one of them is not there. */
export function offsetsOf<Name extends string>(
  layout: Layout | undefined,
  ...names: readonly Name[]
): (Readonly<Record<Name, number>> & { readonly size: number }) | undefined {
  if (layout === undefined) return undefined;
  const offsets = names.map((name) => [name, layout.offsetOf(name)] as const);
  if (offsets.some(([, offset]) => offset === undefined)) return undefined;
  return { ...(Object.fromEntries(offsets) as Record<Name, number>), size: layout.size };
}

/** Entries of `size` bytes in the image between two symbols, with their link-time addresses; none where it has no such
 *  table. */
export function imageTable(
  source: Pick<SymbolFile, 'symbolsNamed' | 'imageBytes'>,
  from: string,
  to: string,
  size: number,
): readonly { readonly address: bigint; readonly entry: DataView }[] {
  const [start, end] = [from, to].map((name) => source.symbolsNamed(name)[0]?.address);
  if (start === undefined || end === undefined || end <= start) return [];
  const bytes = source.imageBytes(start, Number(end - start));
  if (bytes === undefined) return [];
  return Array.from({ length: Math.floor(bytes.length / size) }, (_, index) => ({
    address: start + BigInt(index * size),
    entry: new DataView(bytes.buffer, bytes.byteOffset + index * size, size),
  }));
}
