/** Debian's gdb for arm64, to run in the lab beside the adapter. Not part of the lab's image: only the benchmark needs it. */
import { linkSync, mkdirSync, readdirSync, readFileSync, realpathSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { cacheEntry, type Progress } from '../../lab/cache.ts';
import { Archive, unpack } from '../../lab/debian.ts';
import type { LabFiles } from '../../lab/initramfs.ts';

/** Raised when what is kept of the packages changes. */
const RECIPE = 1;
const HOME = '/gdb';
const LIBRARIES = ['lib', 'usr/lib'].map((folder) => `${folder}/aarch64-linux-gnu`);
/** All that gdb reads when it runs, beside its libraries. */
const KEPT = ['usr/bin/gdb', 'usr/lib/python3.11', 'usr/share/gdb'];

export interface LabGdb {
  /** For `LabOptions.files`; 100 MB. */
  readonly files: LabFiles;
  /** Starts it in the lab: with the C library of its own packages. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** The first call on a machine fetches 40 MB. */
export async function labGdb(progress: Progress): Promise<LabGdb> {
  const folder = await cacheEntry(`gdb-arm64-${RECIPE}`, async (scratch) => {
    const archive = new Archive('arm64', progress);
    await archive.update();
    progress('fetching gdb for the lab');
    const [debs, root] = [join(scratch, 'debs'), join(scratch, 'root')];
    for (const deb of await archive.download(await archive.closure(['gdb']), debs)) await unpack(deb, root);
    for (const path of LIBRARIES) keepLibraries(join(root, path), join(scratch, path));
    for (const path of KEPT) {
      mkdirSync(dirname(join(scratch, path)), { recursive: true });
      renameSync(join(root, path), join(scratch, path));
    }
    // Of Python only what runs programs, not what builds them.
    rmSync(join(scratch, 'usr/lib/python3.11/config-3.11-aarch64-linux-gnu'), { recursive: true });
    for (const path of [debs, root]) rmSync(path, { recursive: true });
  });
  const libraries = LIBRARIES.map((path) => `${HOME}/${path}`);
  return {
    files: { [HOME]: folder },
    argv: [
      ...[`${libraries[0]}/ld-linux-aarch64.so.1`, '--library-path', libraries.join(':')],
      ...[`${HOME}/usr/bin/gdb`, '--data-directory', `${HOME}/usr/share/gdb`],
    ],
    env: { PYTHONHOME: `${HOME}/usr` },
  };
}

/** Takes the shared libraries of a folder, each under the name that it says programs ask for (DT_SONAME, gABI chapter 5,
 *  whose text is in the file's string table): files brought into the lab are followed through links, and would be there
 *  once for each name. */
function keepLibraries(from: string, to: string): void {
  mkdirSync(to, { recursive: true });
  for (const name of readdirSync(from).filter((each) => each.includes('.so'))) {
    const path = realpathSync(join(from, name));
    if (readFileSync(path).includes(`\0${name}\0`)) linkSync(path, join(to, name));
  }
}
