/** Reads ZIP archives (PKWARE's APPNOTE.TXT) as vsce writes them: no encryption, no ZIP64. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { inflateRawSync } from 'node:zlib';

/** The files by path. */
export function unzip(archive: Buffer): ReadonlyMap<string, Buffer> {
  const files = new Map<string, Buffer>();
  // 4.3.16: the end of central directory record; nothing follows it but a comment, which vsce leaves empty.
  const end = archive.lastIndexOf('PK\x05\x06', undefined, 'latin1');
  if (end < 0) throw new Error('no ZIP archive');
  let entry = archive.readUInt32LE(end + 16);
  for (let left = archive.readUInt16LE(end + 10); left > 0; left--) {
    // 4.3.12: a header of the central directory.
    const field = (offset: number): number => archive.readUInt16LE(entry + offset);
    const name = archive.toString('utf8', entry + 46, entry + 46 + field(28));
    const local = archive.readUInt32LE(entry + 42);
    // 4.3.7: a local header, whose extra field may have another length.
    const data = local + 30 + archive.readUInt16LE(local + 26) + archive.readUInt16LE(local + 28);
    const stored = archive.subarray(data, data + archive.readUInt32LE(entry + 20));
    if (!name.endsWith('/')) files.set(name, field(10) === 0 ? stored : inflateRawSync(stored));
    entry += 46 + field(28) + field(30) + field(32);
  }
  return files;
}

/** Writes the files below `prefix` into a folder. */
export function unpackBelow(files: ReadonlyMap<string, Buffer>, prefix: string, folder: string): void {
  for (const [path, content] of files) {
    if (!path.startsWith(prefix)) continue;
    const place = join(folder, path.slice(prefix.length));
    mkdirSync(dirname(place), { recursive: true });
    writeFileSync(place, content);
  }
}
