// The folder of the indexes, $XDG_CACHE_HOME/kvm-debug/symbols (XDG Base Directory Specification): one file for each
// image, by what the image is and not where. Everything in it may be deleted at any time.

import {
  closeSync,
  fstatSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { messageOf } from '../../base/errors.ts';
import { type IndexBytes, IndexReader } from './layout.ts';
import { hashOf } from './nameHash.ts';

export const defaultCacheFolder = (): string =>
  join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'kvm-debug', 'symbols');

/** Bytes of all indexes: those of seventy kernels. */
const folderLimit = 256 << 20;
/** A builder that was killed leaves its file behind; one that lives is done long before this many milliseconds. */
const abandonedAfter = 60 * 60_000;

export class IndexCache {
  constructor(readonly folder: string) {}

  /** Where the index of an image is. The key is in the file too: names of files only have to be different. */
  path(key: string): string {
    const short = key.replaceAll(/[^0-9a-zA-Z]+/g, '-').slice(0, 80);
    return join(this.folder, `${short}-${hashOf(key).toString(16).padStart(8, '0')}.index`);
  }

  /** undefined when there is none that can be used: not written yet, damaged, of another version. */
  open(key: string): { readonly reader: IndexReader; close(): void } | undefined {
    let file: IndexFile;
    try {
      file = new IndexFile(this.path(key));
    } catch {
      return undefined; // whatever the reason is, an index can be built
    }
    let reader: IndexReader | undefined;
    try {
      reader = IndexReader.open(file, key);
    } finally {
      if (reader === undefined) file.close();
    }
    return reader && { reader, close: () => file.close() };
  }

  /** Writes an index whole or not at all; of several builders of one the last wins. Throws an Error when it cannot. */
  write(key: string, bytes: Uint8Array): void {
    const path = this.path(key);
    makeFolder(this.folder);
    const temporary = `${path}.${process.pid}-${Math.random().toString(36).slice(2)}.tmp`;
    try {
      const descriptor = openSync(temporary, 'wx');
      try {
        for (let at = 0; at < bytes.length; ) at += writeSync(descriptor, bytes, at);
        fsyncSync(descriptor);
      } finally {
        closeSync(descriptor);
      }
      renameSync(temporary, path);
    } catch (error) {
      rmSync(temporary, { force: true });
      throw new Error(`Cannot write ${path}: ${messageOf(error)}`, { cause: error });
    }
    this.#trim(path);
  }

  /** Drops the oldest until the rest fits. `kept` stays. */
  #trim(kept: string): void {
    const files: { readonly path: string; readonly size: number; readonly time: number }[] = [];
    for (const name of readdirSync(this.folder)) {
      const path = join(this.folder, name);
      const stat = statSync(path, { throwIfNoEntry: false });
      if (stat?.isFile() !== true) continue;
      if (name.endsWith('.tmp')) {
        if (Date.now() - stat.mtimeMs > abandonedAfter) rmSync(path, { force: true });
      } else if (name.endsWith('.index')) {
        files.push({ path, size: stat.size, time: stat.mtimeMs });
      }
    }
    let total = files.reduce((sum, { size }) => sum + size, 0);
    for (const { path, size } of files.sort((a, b) => a.time - b.time)) {
      if (total <= folderLimit) return;
      if (path === kept) continue;
      rmSync(path, { force: true });
      total -= size;
    }
  }
}

/** With the folders above it. mkdirSync's own `recursive` never ends where the system says ENOENT for a folder whose
 *  parent is there, as in /proc (Node 20). */
const makeFolder = (path: string, hasParent = false): void => {
  try {
    mkdirSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return; // if it is no folder, writing to it says so
    if (code !== 'ENOENT' || hasParent || dirname(path) === path) throw error;
    makeFolder(dirname(path));
    makeFolder(path, true);
  }
};

/** Searches touch neighbouring words. */
const windowBytes = 1 << 14;

/** An index on disk, read by parts. A file that is replaced meanwhile stays as it was for who has it open. */
class IndexFile implements IndexBytes {
  readonly size: number;
  readonly #descriptor: number;
  #window = new Uint8Array(0);
  #start = 0;

  constructor(path: string) {
    this.#descriptor = openSync(path, 'r');
    this.size = fstatSync(this.#descriptor).size;
  }

  read(offset: number, length: number): Uint8Array {
    const start = offset - this.#start;
    if (start >= 0 && start + length <= this.#window.length) return this.#window.subarray(start, start + length);
    const window = new Uint8Array(Math.min(Math.max(length, windowBytes), this.size - offset));
    let filled = 0;
    while (filled < window.length) {
      const count = readSync(this.#descriptor, window, filled, window.length - filled, offset + filled);
      if (count === 0) break; // truncated under us: what is missing reads as zeros, which are no DIEs
      filled += count;
    }
    this.#window = window;
    this.#start = offset;
    return window.subarray(0, length);
  }

  close(): void {
    closeSync(this.#descriptor);
  }
}

/** An index in memory, where none can be written. */
export const bytesInMemory = (bytes: Uint8Array): IndexBytes => ({
  size: bytes.length,
  read: (offset, length) => bytes.subarray(offset, offset + length),
});
