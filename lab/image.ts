/** Assembly of what the lab boots, from Debian and npm packages, into the cache. */
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { appletNames } from './busybox.ts';
import { cacheEntry, cacheRoot, dropEntries, type Progress, reportProgress } from './cache.ts';
import { command } from './command.ts';
import { type Architecture, Archive, DownloadError, unpack, unpackSome } from './debian.ts';
import { guestInitrd } from './guest.ts';
import { KOFFI, KOFFI_ARM64, NODE, unpackNpm } from './npm.ts';
import {
  abiOf,
  debugPackage,
  imagePackage,
  packagesKey,
  type Release,
  resolveRelease,
  sourcePackage,
} from './release.ts';
import { tool } from './tools.ts';

/** Raised when a recipe below changes what it makes, so that caches of an older recipe are not used. */
const RECIPE = { host: 1, vmlinux: 3, source: 1 };
/** The modules whose debug files are kept, and which nested guests have along. */
export const GUEST_MODULES = ['dummy'];
/** Further modules whose debug files are kept: large ones, to be read. */
const READ_MODULES = ['xfs'];
/** What koffi is without its binaries and its sources. */
const KOFFI_PARTS = ['package.json', 'index.cjs', 'index.js', 'indirect.cjs', 'indirect.js', 'src/koffi'];

/** Where the assembled pieces are on this machine. */
export interface HostImage {
  release: Release;
  /** arm64 kernel Image: the lab's host and its nested guests run the same one. */
  kernel: string;
  /** Initramfs of a nested guest. */
  guestInitrd: string;
  /** Read-only ext4 file system of all packages. */
  disk: string;
  /** Static arm64 busybox. */
  busybox: string;
  /** Folder of the kernel's modules; see `kernelModules`. */
  modules: string;
}

/** The host's image; assembled by the first call on a machine, which takes a minute and the network. */
export function hostImage(progress: Progress = reportProgress): Promise<HostImage> {
  return assemble(assembleHost, progress);
}

/** vmlinux with DWARF of the lab's kernel; the first call fetches 260 MB. */
export function vmlinux(progress: Progress = reportProgress): Promise<DebugImage> {
  return assemble(assembleDebug, progress);
}

/** vmlinux with DWARF of the same kernel for any machine; the first call fetches 260 MB (arm64) or 600 MB (amd64). */
export function kernelDebugFiles(architecture: Architecture, progress: Progress = reportProgress): Promise<DebugFiles> {
  if (architecture === 'arm64') return vmlinux(progress);
  return assemble((release) => debugFiles(release, architecture, progress), progress);
}

/** Root of the kernel's sources (`init/main.c` is below it); the first call fetches 140 MB. */
export function kernelSource(progress: Progress = reportProgress): Promise<string> {
  return assemble(assembleSource, progress);
}

/** Archives drop old versions: then all pieces move on to the newest one. */
async function assemble<T>(
  piece: (release: Release, progress: Progress) => Promise<T>,
  progress: Progress,
): Promise<T> {
  const release = await resolveRelease(progress);
  try {
    return await piece(release, progress);
  } catch (error) {
    if (!(error instanceof DownloadError)) throw error;
    const newest = await resolveRelease(progress, true).catch(() => release);
    if (JSON.stringify(newest) === JSON.stringify(release)) throw error;
    return await piece(newest, progress);
  }
}

/** Names of cache entries. */
export const hostEntry = (release: Release): string =>
  `host-${RECIPE.host}-${release.version}-${packagesKey(release)}-node${NODE.version}-koffi${KOFFI.version}`;
export const debugEntry = (release: Release, architecture: Architecture = 'arm64'): string =>
  `${debugKind(architecture)}-${RECIPE.vmlinux}-${release.version}`;
export const sourceEntry = (release: Release): string => `source-${RECIPE.source}-${release.version}`;
const debugKind = (architecture: Architecture): string =>
  architecture === 'arm64' ? 'vmlinux' : `vmlinux.${architecture}`;

async function assembleHost(release: Release, progress: Progress): Promise<HostImage> {
  const name = hostEntry(release);
  const folder = await cacheEntry(name, async (scratch) => {
    const root = join(scratch, 'root');
    const downloads = join(scratch, 'downloads');
    mkdirSync(root);
    progress(`fetching ${release.packages.length + 1} Debian packages for arm64`);
    const archive = new Archive('arm64', progress);
    const debs = await archive.download([imagePackage(release), ...release.packages], downloads);
    progress('unpacking them');
    for (const deb of debs) await unpack(deb, root);
    progress(`fetching ${NODE.name} ${NODE.version} and ${KOFFI_ARM64.name} ${KOFFI_ARM64.version}`);
    const modules = join(root, 'node_modules');
    for (const { name } of [KOFFI, KOFFI_ARM64]) mkdirSync(join(modules, name), { recursive: true });
    await unpackNpm(NODE, downloads, join(root, 'usr'), ['bin/node']);
    await unpackNpm(KOFFI_ARM64, downloads, join(modules, KOFFI_ARM64.name));
    await unpackNpm(KOFFI, downloads, join(modules, KOFFI.name), KOFFI_PARTS);
    layOut(root, scratch, release);
    progress('writing the disk image');
    await makeExt4(root, join(scratch, 'disk.ext4'), progress);
    rmSync(root, { recursive: true });
    rmSync(downloads, { recursive: true });
  });
  dropOlder('host', name);
  return {
    release,
    kernel: join(folder, 'Image'),
    guestInitrd: writeGuestInitrd(folder),
    disk: join(folder, 'disk.ext4'),
    busybox: join(folder, 'busybox'),
    modules: join(folder, 'modules'),
  };
}

/** Takes out what the host needs not, and takes aside what is booted rather than mounted. */
function layOut(root: string, aside: string, release: Release): void {
  const unused = ['doc', 'man', 'locale', 'iso-codes', 'xml', 'lintian', 'bug', 'gcc', 'perl5', 'X11'];
  for (const name of unused) rmSync(join(root, 'usr/share', name), { recursive: true, force: true });
  rmSync(join(root, 'usr/bin/qemu-system-arm'), { force: true });
  mkdirSync(join(root, 'lab/guest'), { recursive: true });
  // Debian's arm64 vmlinuz is an uncompressed Image.
  copyFileSync(join(root, `boot/vmlinuz-${release.abi}`), join(aside, 'Image'));
  renameSync(join(root, `boot/vmlinuz-${release.abi}`), join(root, 'lab/guest/Image'));
  renameSync(join(root, `lib/modules/${release.abi}/kernel`), join(aside, 'modules'));
  rmSync(join(root, 'boot'), { recursive: true });
  const busybox = join(root, 'bin/busybox');
  copyFileSync(busybox, join(aside, 'busybox'));
  for (const applet of appletNames(readFileSync(busybox))) {
    const folders = ['bin', 'sbin', 'usr/bin', 'usr/sbin'].map((folder) => join(root, folder, applet));
    if (!folders.some((path) => existsSync(path))) symlinkSync('busybox', join(root, 'bin', applet));
  }
  for (const name of ['dev', 'proc', 'sys', 'run', 'tmp', 'root', 'etc', 'lab/debug']) {
    mkdirSync(join(root, name), { recursive: true });
  }
  writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\n');
  writeFileSync(join(root, 'etc/group'), 'root:x:0:\n');
  writeFileSync(join(root, 'etc/hosts'), '127.0.0.1 localhost lab\n');
  symlinkSync('debug/vmlinux', join(root, 'lab/vmlinux'));
}

/** Small and quick to make, so it follows its recipe at every boot instead of having a version. */
function writeGuestInitrd(folder: string): string {
  const path = join(folder, 'guest.cpio');
  const bytes = guestInitrd(readFileSync(join(folder, 'busybox')), guestModules(join(folder, 'modules')));
  if (!existsSync(path) || !readFileSync(path).equals(bytes)) {
    // Other processes may be booting the one that is there.
    writeFileSync(`${path}.${process.pid}`, bytes);
    renameSync(`${path}.${process.pid}`, path);
  }
  return path;
}

/** Paths of the modules that nested guests have along; `folder`: `HostImage.modules`. */
export function guestModules(folder: string): string[] {
  const named = new Set(GUEST_MODULES.map((module) => `${module}.ko`));
  return filesBelow(folder).filter((file) => named.has(basename(file)));
}

/** Entries of other versions are not read again, and large. */
function dropOlder(kind: string, current: string): void {
  dropEntries((name) => name.startsWith(`${kind}-`) && !name.startsWith(current));
}

function filesBelow(folder: string): string[] {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

/** A file system of just the size that holds `folder`. Without a journal: it is mounted read-only. */
async function makeExt4(folder: string, image: string, progress: Progress): Promise<void> {
  const used = Number.parseInt(await command(['du', '-sk', '--apparent-size', folder]), 10);
  const files = (await command(['find', folder])).split('\n').length;
  const kibibytes = Math.ceil(used * 1.04) + files * 5 + 8192;
  const { argv, env } = await tool('mke2fs', progress);
  const features = ['-t', 'ext4', '-O', '^has_journal,^metadata_csum', '-m', '0', '-b', '4096', '-N', `${files + 64}`];
  await command([...argv, '-q', '-F', ...features, '-E', 'root_owner=0:0', '-d', folder, image, `${kibibytes}k`], {
    env,
  });
}

/** Files with DWARF of one kernel. */
export interface DebugFiles {
  /** vmlinux. */
  file: string;
  /** Folder of the modules that nested guests can load, as `NAME.ko`. */
  modules: string;
  /** Folder of modules that are only read, as `NAME.ko`. */
  otherModules: string;
}

/** Files with DWARF of the lab's kernel. */
export interface DebugImage extends DebugFiles {
  /** ext4 image of `vmlinux` and `modules/`. */
  disk: string;
}

async function assembleDebug(release: Release, progress: Progress): Promise<DebugImage> {
  const disk = 'vmlinux.ext4';
  const files = await debugFiles(release, 'arm64', progress, (content, scratch) =>
    makeExt4(content, join(scratch, disk), progress),
  );
  return { ...files, disk: join(dirname(dirname(files.file)), disk) };
}

async function debugFiles(
  release: Release,
  architecture: Architecture,
  progress: Progress,
  finish?: (content: string, scratch: string) => Promise<void>,
): Promise<DebugFiles> {
  const name = debugEntry(release, architecture);
  const abi = abiOf(release, architecture);
  const folder = await cacheEntry(name, async (scratch) => {
    progress(`fetching ${debugPackage(release, architecture)} (260 MB and more)`);
    const downloads = join(scratch, 'downloads');
    const archive = new Archive(architecture, progress);
    if (architecture !== 'arm64') await archive.update();
    const debs = await archive.download([debugPackage(release, architecture)], downloads);
    progress('unpacking vmlinux');
    const content = join(scratch, 'content');
    const other = join(scratch, 'modules');
    const unpacked = join(scratch, 'unpacked');
    const modules = [...GUEST_MODULES, ...READ_MODULES].map((module) => `./usr/lib/debug/lib/modules/*/${module}.ko`);
    for (const deb of debs) await unpackSome(deb, unpacked, [`./usr/lib/debug/boot/vmlinux-${abi}`, ...modules]);
    for (const path of [join(content, 'modules'), other]) mkdirSync(path, { recursive: true });
    renameSync(join(unpacked, `usr/lib/debug/boot/vmlinux-${abi}`), join(content, 'vmlinux'));
    for (const path of filesBelow(unpacked)) {
      const isGuests = GUEST_MODULES.includes(basename(path, '.ko'));
      renameSync(path, join(isGuests ? join(content, 'modules') : other, basename(path)));
    }
    for (const path of [downloads, unpacked]) rmSync(path, { recursive: true });
    await finish?.(content, scratch);
  });
  dropOlder(debugKind(architecture), name);
  return {
    file: join(folder, 'content/vmlinux'),
    modules: join(folder, 'content/modules'),
    otherModules: join(folder, 'modules'),
  };
}

/** What one steps through in a kernel of this architecture; the whole tree is 1.3 GB. */
const SOURCE_FOLDERS = ['arch/arm64', 'block', 'crypto', 'drivers/base', 'drivers/firmware', 'drivers/irqchip']
  .concat(['drivers/clocksource', 'drivers/of', 'drivers/tty', 'drivers/virtio', 'fs', 'include', 'init', 'ipc'])
  .concat(['kernel', 'lib', 'mm', 'net/core', 'net/socket.c', 'security', 'virt']);

/** What `kernelSource` has: paths as the compiler and the assembler saw them, to those relative to its root. Debian builds
 *  below the tree: the paths are relative for C, absolute for assembly. */
export function compiledPaths(release: Release): Record<string, string> {
  const tree = `/build/reproducible-path/linux-${release.version.replace(/-[^-]*$/, '')}`;
  return Object.fromEntries(
    SOURCE_FOLDERS.flatMap((path) => [
      [path, path],
      [`${tree}/${path}`, path],
    ]),
  );
}

async function assembleSource(release: Release, progress: Progress): Promise<string> {
  const name = sourceEntry(release);
  const folder = await cacheEntry(name, async (scratch) => {
    progress(`fetching ${sourcePackage(release)} (140 MB)`);
    const downloads = join(scratch, 'downloads');
    const [deb = ''] = await new Archive('arm64', progress).download([sourcePackage(release)], downloads);
    await unpack(deb, downloads);
    progress('unpacking the sources');
    const tarball = join(downloads, 'usr/src/linux-source-6.1.tar.xz');
    const { argv, env } = await tool('xz', progress);
    const folders = SOURCE_FOLDERS.map((path) => `'linux-source-6.1/${path}'`).join(' ');
    const script = `set -o pipefail; tarball=$1 scratch=$2; shift 2; "$@" -dc "$tarball" | tar -x -C "$scratch" ${folders}`;
    await command(['bash', '-c', script, 'unpack', tarball, scratch, ...argv], { env });
    rmSync(downloads, { recursive: true });
  });
  dropOlder('source', name);
  return join(folder, 'linux-source-6.1');
}

/** The static arm64 kvmtool to take into the lab, if there is one: `$LKVM`, else `lkvm-arm64` in the cache. */
export function lkvm(): string | undefined {
  const named = process.env.LKVM;
  if (named && !existsSync(named)) throw new Error(`LKVM names ${named}, which does not exist`);
  const path = named || join(cacheRoot(), 'lkvm-arm64');
  return existsSync(path) && statSync(path).isFile() ? path : undefined;
}
