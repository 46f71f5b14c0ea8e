import { closeSync, openSync, readSync } from 'node:fs';
import { messageOf, UserError } from '../base/errors.ts';

// An ELF note (gABI, "Note Section") of type NT_GNU_BUILD_ID: name size 4, descriptor size 20, type 3, "GNU\0", then
// the id. A raw arm64 Image holds the kernel's among its read-only data.
const noteHeader = Buffer.from('040000001400000003000000474e5500', 'hex');
const idLength = 20;
const pageSize = 4096;
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
    const overlap = noteHeader.length + idLength;
    const window = Buffer.alloc(windowSize + overlap);
    for (let start = 0; ; start += windowSize) {
      const length = readSync(descriptor, window, 0, window.length, start);
      const bytes = window.subarray(0, length);
      for (let at = bytes.indexOf(noteHeader); at >= 0; at = bytes.indexOf(noteHeader, at + 4)) {
        const id = bytes.subarray(at + noteHeader.length, at + overlap);
        if (id.length === idLength && !inEmbeddedElf(descriptor, start + at)) ids.add(id.toString('hex'));
      }
      if (length < window.length) return [...ids];
    }
  } finally {
    closeSync(descriptor);
  }
}

// The vDSO begins on a page of its own with its ELF header, and its notes are on that page.
function inEmbeddedElf(descriptor: number, offset: number): boolean {
  const magic = Buffer.alloc(4);
  readSync(descriptor, magic, 0, 4, offset - (offset % pageSize));
  return magic.toString('latin1') === '\x7fELF';
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
