// Build-ids of kernels, in files and in memory.

// An ELF note (gABI, "Note Section") of type NT_GNU_BUILD_ID: name size 4, descriptor size 20, type 3, "GNU\0", then
// the id. A raw arm64 Image holds the kernel's among its read-only data.
const noteHeader = Buffer.from('040000001400000003000000474e5500', 'hex');
const idLength = 20;
/** Bytes of a whole note. */
export const noteLength = noteHeader.length + idLength;

/** The build-ids in `bytes`, with the offsets of their notes; those that are not there as a whole are left out. The
 *  vDSO's are among them: see `inEmbeddedElf`. */
export function buildIdsIn(bytes: Uint8Array): readonly { readonly offset: number; readonly id: string }[] {
  const window = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found: { offset: number; id: string }[] = [];
  for (let at = window.indexOf(noteHeader); at >= 0; at = window.indexOf(noteHeader, at + 4)) {
    const id = window.subarray(at + noteHeader.length, at + noteLength);
    if (id.length === idLength) found.push({ offset: at, id: id.toString('hex') });
  }
  return found;
}

/** Bytes: the vDSO begins on a page of its own with its ELF header, and its notes are on that page. */
export const embeddedPageSize = 4096;

/** Whether a page with a note is an embedded ELF file's, by its first bytes. */
export const isElf = (page: Uint8Array): boolean => Buffer.from(page.subarray(0, 4)).toString('latin1') === '\x7fELF';
