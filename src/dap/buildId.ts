import { closeSync, openSync, readSync } from 'node:fs';
import { messageOf, UserError } from '../base/errors.ts';
import { buildIdsIn, embeddedPageSize, isElf, noteLength } from '../linux/buildId.ts';

const windowSize = 1 << 20;

/** The build-ids in a kernel image, without those of ELF files that it embeds (the vDSO). Empty when it is compressed
 *  or has none. UserError when the file cannot be read. */
export function kernelBuildIds(path: string): readonly string[] {
  let descriptor: number;
  try {
    descriptor = openSync(path, 'r');
  } catch (error) {
    throw new UserError(`Cannot open the kernel ${path}: ${messageOf(error)}.`, { cause: error });
  }
  try {
    const ids = new Set<string>();
    const window = Buffer.alloc(windowSize + noteLength);
    for (let start = 0; ; start += windowSize) {
      const length = readSync(descriptor, window, 0, window.length, start);
      for (const { offset, id } of buildIdsIn(window.subarray(0, length))) {
        if (!inEmbeddedElf(descriptor, start + offset)) ids.add(id);
      }
      if (length < window.length) return [...ids];
    }
  } finally {
    closeSync(descriptor);
  }
}

function inEmbeddedElf(descriptor: number, offset: number): boolean {
  const magic = Buffer.alloc(4);
  readSync(descriptor, magic, 0, 4, offset - (offset % embeddedPageSize));
  return isElf(magic);
}

/** UserError when the kernel that boots is certainly not the one the symbols are of. */
export function checkBuildIds(kernel: string, symbols: string, symbolsId: string | undefined): void {
  const ids = kernelBuildIds(kernel);
  if (symbolsId === undefined || ids.length === 0 || ids.includes(symbolsId)) return;
  throw new UserError(
    `The symbols are not of this kernel: ${kernel} has build-id ${ids.join(' or ')}, ${symbols} has ${symbolsId}. ` +
      'Name the vmlinux of the same build in "symbols".',
  );
}
