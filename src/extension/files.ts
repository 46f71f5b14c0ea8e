// What is read of folders that hold anything: bounded, and never an error.
import { constants } from 'node:fs';
import { open, opendir, stat } from 'node:fs/promises';
import { join } from 'node:path';

/** Bounds for a folder that holds anything but a kernel; the top of a kernel tree has some thirty entries. */
const entryLimit = 2000;
const folderLimit = 200;

/** The paths in a folder, in the order of their names, without those that begin with a dot; what can be read of it. */
export async function entriesOf(
  folder: string,
): Promise<{ readonly folders: readonly string[]; readonly files: readonly string[] }> {
  const [folders, files]: [string[], string[]] = [[], []];
  try {
    let seen = 0;
    for await (const entry of await opendir(folder)) {
      if (++seen > entryLimit || folders.length === folderLimit) break;
      if (entry.name.startsWith('.')) continue;
      const path = join(folder, entry.name);
      const isLink = entry.isSymbolicLink();
      if (entry.isDirectory() || (isLink && (await stat(path).catch(() => undefined))?.isDirectory()))
        folders.push(path);
      else if (entry.isFile()) files.push(path);
    }
  } catch {
    // Not there, or not to be read: what was found so far.
  }
  return { folders: folders.sort(), files: files.sort() };
}

/** When a regular file was written; undefined when there is none. */
export async function modified(path: string): Promise<number | undefined> {
  const found = await stat(path).catch(() => undefined);
  return found?.isFile() ? found.mtimeMs : undefined;
}

/** The first bytes of a regular file; undefined when it cannot be read. */
export async function beginning(path: string, length: number): Promise<Buffer | undefined> {
  if ((await modified(path)) === undefined) return undefined;
  try {
    // Should it be a FIFO by now, nobody waits for its other end.
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, 0);
      return buffer.subarray(0, bytesRead);
    } finally {
      await file.close();
    }
  } catch {
    return undefined;
  }
}
