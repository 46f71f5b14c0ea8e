// Debug information in a file of its own (GDB manual, "Debugging Information in Separate Files"): found by build-id, then by
// the name and checksum in .gnu_debuglink.

import { realpathSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { Cursor } from '../base/bytes.ts';
import { FormatError, messageOf, UserError } from '../base/errors.ts';
import { crc32 } from './crc32.ts';
import { ElfFile } from './elf.ts';
import { PagedFile } from './file.ts';

/** Where distributions install them. */
export const defaultDebugFolders: readonly string[] = ['/usr/lib/debug'];

/** Without these there are no lines and types. */
const required = ['.debug_info', '.debug_abbrev', '.debug_line'];

export const hasDebugInformation = (elf: ElfFile): boolean =>
  required.every((name) => elf.debugSections(name).length > 0);

export interface DebugFileSearch {
  /** The caller's to close. */
  readonly file: ElfFile | undefined;
  /** Why there is none: one sentence, with the remedy. */
  readonly notice: string | undefined;
}

/** A path to look at. `checksum`: that of the whole file, where the reference says it. */
interface Candidate {
  readonly path: string;
  readonly checksum?: number;
}

/** The separate debug file of an image, below one of the folders or beside the image. A damaged reference is none. */
export const findDebugFile = (elf: ElfFile, folders: readonly string[]): DebugFileSearch => {
  const refusals: string[] = [];
  const candidates = [...byBuildId(elf, folders), ...byDebugLink(elf, folders)];
  for (const candidate of candidates) {
    const found = open(candidate, elf);
    if (found instanceof ElfFile) return { file: found, notice: undefined };
    if (found !== undefined) refusals.push(`${candidate.path} ${found}`);
  }
  return { file: undefined, notice: noticeOf(elf, candidates, refusals) };
};

const byBuildId = (elf: ElfFile, folders: readonly string[]): Candidate[] => {
  const id = elf.buildId();
  if (id === undefined || id.length < 4) return [];
  return folders.map((folder) => ({ path: join(folder, '.build-id', id.slice(0, 2), `${id.slice(2)}.debug`) }));
};

const byDebugLink = (elf: ElfFile, folders: readonly string[]): Candidate[] => {
  const link = debugLink(elf);
  if (link === undefined) return [];
  const beside = dirname(realpathSync(elf.path));
  const places = [beside, join(beside, '.debug'), ...folders.map((folder) => join(folder, beside))];
  return places.map((place) => ({ path: join(place, link.name), checksum: link.checksum }));
};

// .gnu_debuglink: a file name, NUL, zeros up to a multiple of 4, the CRC-32 of the file in 4 bytes.
const debugLink = (elf: ElfFile): { readonly name: string; readonly checksum: number } | undefined => {
  try {
    return readDebugLink(elf);
  } catch (error) {
    if (error instanceof FormatError) return undefined; // nobody needs it to read the rest
    throw error;
  }
};

const readDebugLink = (elf: ElfFile): { readonly name: string; readonly checksum: number } | undefined => {
  const section = elf.contents('.gnu_debuglink');
  if (section === undefined || section.size > 4096) return undefined;
  const cursor = new Cursor(section.read(0, section.size), section.name);
  const name = cursor.string();
  cursor.position = Math.ceil(cursor.position / 4) * 4;
  const checksum = cursor.u32();
  // A name only: whoever made the image has no say in which folders are read.
  return name === '' || name !== basename(name) || name === '..' ? undefined : { name, checksum };
};

/** undefined: no such file. A text: why it is not the one. */
const open = ({ path, checksum }: Candidate, elf: ElfFile): ElfFile | string | undefined => {
  // Not even opened when it is a pipe or a device.
  if (statSync(path, { throwIfNoEntry: false })?.isFile() !== true) return undefined;
  if (realpathSync(path) === realpathSync(elf.path)) return undefined;
  let file: ElfFile | undefined;
  try {
    file = new ElfFile(path);
    const problem = mismatch(file, elf, checksum);
    if (problem === undefined) return file;
    file.close();
    return problem;
  } catch (error) {
    file?.close();
    if (!(error instanceof UserError)) throw error;
    return `cannot be read (${messageOf(error)})`;
  }
};

const mismatch = (file: ElfFile, elf: ElfFile, checksum: number | undefined): string | undefined => {
  const [ours, theirs] = [elf.buildId(), file.buildId()];
  // By build-id the file has to have one; beside a checksum both may be without.
  if (ours !== theirs && (checksum === undefined || (ours !== undefined && theirs !== undefined))) {
    return `is of another build (build-id ${theirs ?? 'missing'}, not ${ours})`;
  }
  if (file.machine !== elf.machine || file.addressSize !== elf.addressSize) return 'is for another machine';
  if (!hasDebugInformation(file)) return 'has no debug information';
  // Link addresses follow from the sections: both files must give a module's the same.
  if (elf.isRelocatable !== file.isRelocatable || (elf.isRelocatable && placesOf(elf) !== placesOf(file))) {
    return 'has other sections';
  }
  if (checksum !== undefined && checksumOf(file.path) !== checksum) return 'is another file (its checksum differs)';
  return undefined;
};

const placesOf = (elf: ElfFile): string =>
  elf.sections
    .filter(({ address }) => address !== 0n)
    .map(({ name, address }) => `${name} ${address}`)
    .join();

const checksumOf = (path: string): number => {
  const file = new PagedFile(path);
  try {
    let checksum = 0;
    for (let offset = 0; offset < file.size; offset += chunkBytes) {
      checksum = crc32(file.peek(offset, Math.min(chunkBytes, file.size - offset)), checksum);
    }
    return checksum;
  } finally {
    file.close();
  }
};

const chunkBytes = 1 << 20;

const noticeOf = (elf: ElfFile, candidates: readonly Candidate[], refusals: readonly string[]): string => {
  const remedy = 'Install the debug package of this very build, or use a file built with CONFIG_DEBUG_INFO.';
  if (refusals.length > 0) return `${elf.path} has no debug information, and ${refusals.join('; ')}. ${remedy}`;
  const looked = [...new Set(candidates.map(({ path }) => path))].join(', ');
  const places =
    looked === '' ? 'it has neither a build-id nor a .gnu_debuglink to find any by' : `none was found at ${looked}`;
  return `${elf.path} has no debug information, and ${places}. ${remedy}`;
};
