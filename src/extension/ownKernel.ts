// The kernel that a project with a Makefile builds when it is no Linux: an ELF program for no operating system.
import { basename, dirname, extname, join } from 'node:path';
import { beginning, entriesOf, modified } from './files.ts';
import { elfMachine } from './kernelTree.ts';

export interface OwnKernel {
  /** The ELF file, which has the symbols. Absolute path. */
  readonly program: string;
  /** What a VMM boots: the flat image beside it, as objcopy makes one, or itself. */
  readonly image: string;
}

const makefiles = ['GNUmakefile', 'makefile', 'Makefile'];
const programNames = ['', '.elf', '.axf', '.out'];
const imageNames = ['.bin', '.img', '.raw'];
/** Of files that are opened: a project may have any number of them. */
const fileLimit = 500;
const headerLength = 4096;

/** The newest program for bare arm64 in a folder with a Makefile, or in a folder directly below it. */
export async function findOwnKernel(folder: string): Promise<OwnKernel | undefined> {
  const { files, folders } = await entriesOf(folder);
  if (!files.some((path) => makefiles.includes(basename(path)))) return undefined;
  const below = await Promise.all(folders.map(async (path) => (await entriesOf(path)).files));
  const candidates = [...files, ...below.flat()].filter((path) => programNames.includes(extname(path)));
  let program: { readonly path: string; readonly time: number } | undefined;
  for (const path of candidates.slice(0, fileLimit)) {
    const header = await beginning(path, headerLength);
    if (header === undefined || !isBareProgram(header)) continue;
    const time = (await modified(path)) ?? 0;
    if (program === undefined || time > program.time) program = { path, time };
  }
  return program && { program: program.path, image: (await imageBeside(program.path)) ?? program.path };
}

async function imageBeside(program: string): Promise<string | undefined> {
  const stem = join(dirname(program), basename(program, extname(program)));
  for (const path of imageNames.map((suffix) => `${stem}${suffix}`)) {
    if ((await modified(path)) !== undefined) return path;
  }
  return undefined;
}

/** ELF gABI, chapters 4 and 5: a little-endian 64-bit program for AArch64 that asks for no dynamic linker, as those for
 *  Linux do. */
function isBareProgram(header: Buffer): boolean {
  if (elfMachine(header) !== 183 /* EM_AARCH64 */) return false;
  if (header.length < 64 || header.readUInt16BE(4) !== 0x0201) return false;
  const type = header.readUInt16LE(16);
  if (type !== 2 /* ET_EXEC */ && type !== 3 /* ET_DYN */) return false;
  const table = header.readBigUInt64LE(32); // e_phoff
  const [size, count] = [header.readUInt16LE(54), header.readUInt16LE(56)];
  for (let index = 0; index < count; index++) {
    const offset = table + BigInt(index * size);
    if (offset + 4n > BigInt(header.length)) break;
    if (header.readUInt32LE(Number(offset)) === 3 /* PT_INTERP */) return false;
  }
  return true;
}
