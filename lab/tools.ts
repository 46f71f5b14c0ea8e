/** The programs the lab runs on this machine: the machine's own when installed, else Debian's, unpacked in the cache. */
import { accessSync, constants, existsSync, readdirSync, rmSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { cacheEntry, type Progress } from './cache.ts';
import { type Architecture, Archive, unpack } from './debian.ts';

/** A machine's own compiler is in another package than that of the others. */
function compilerFor(machine: NodeJS.Architecture, cross: string): string {
  return process.arch === machine ? 'gcc' : cross;
}

const PACKAGES = {
  'qemu-system-aarch64': 'qemu-system-arm',
  mke2fs: 'e2fsprogs',
  xz: 'xz-utils',
  pahole: 'dwarves',
  readelf: 'binutils',
  'aarch64-linux-gnu-addr2line': 'binutils-aarch64-linux-gnu',
  'x86_64-linux-gnu-addr2line': 'binutils-x86-64-linux-gnu',
  'aarch64-linux-gnu-ld': 'binutils-aarch64-linux-gnu',
  'aarch64-linux-gnu-as': 'binutils-aarch64-linux-gnu',
  'aarch64-linux-gnu-strip': 'binutils-aarch64-linux-gnu',
  'x86_64-linux-gnu-ld': 'binutils-x86-64-linux-gnu',
  'eu-addr2line': 'elfutils',
  'llvm-symbolizer': 'llvm',
  clang: 'clang',
  'aarch64-linux-gnu-gcc': compilerFor('arm64', 'gcc-aarch64-linux-gnu'),
  'x86_64-linux-gnu-gcc': compilerFor('x64', 'gcc-x86-64-linux-gnu'),
  'gdb-multiarch': 'gdb-multiarch',
  time: 'time',
} as const;
export type Tool = keyof typeof PACKAGES;

/** How to start a tool: the words before its arguments, and its environment. */
export interface ToolCommand {
  argv: string[];
  env: NodeJS.ProcessEnv;
}

/** A program of this machine. */
export function onPath(name: string): string | undefined {
  // Superusers' folders are left out of some users' PATH.
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  return folders
    .map((folder) => join(folder, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

/** `KVM_DEBUG_LAB_TOOLS=cache` ignores installed programs, to try what a bare machine does. */
const installedTool = (name: Tool): string | undefined =>
  process.env.KVM_DEBUG_LAB_TOOLS === 'cache' ? undefined : onPath(name);

const architectureHere = (): Architecture => (process.arch === 'x64' ? 'amd64' : 'arm64');

/** Name of the cache entry that a tool is, or would be, in; undefined when it is installed. */
export const toolEntry = (name: Tool): string | undefined =>
  installedTool(name) === undefined ? `tool-${name}-${architectureHere()}` : undefined;

export async function tool(name: Tool, progress: Progress): Promise<ToolCommand> {
  const installed = installedTool(name);
  if (installed) return { argv: [installed], env: process.env };
  if (process.arch !== 'x64' && process.arch !== 'arm64') {
    throw new Error(`install ${PACKAGES[name]}: the lab brings its own only to x86-64 and arm64 machines`);
  }
  const architecture = architectureHere();
  const folder = await cacheEntry(`tool-${name}-${architecture}`, async (scratch) => {
    const archive = new Archive(architecture, progress);
    await archive.update();
    progress(`fetching ${PACKAGES[name]} for this machine`);
    const debs = join(scratch, 'debs');
    for (const deb of await archive.download(await archive.closure([PACKAGES[name]]), debs)) await unpack(deb, scratch);
    for (const path of ['debs', 'usr/share/doc', 'usr/share/locale', 'usr/share/man']) {
      rmSync(join(scratch, path), { recursive: true, force: true });
    }
  });
  return unpackedTool(name, folder, process.arch === 'x64' ? 'x86_64' : 'aarch64');
}

/** A program of an unpacked closure, started by the closure's own loader, whatever C library the machine has. */
function unpackedTool(name: Tool, root: string, machine: 'x86_64' | 'aarch64'): ToolCommand {
  const triplet = `${machine}-linux-gnu`;
  const libraries = ['lib', 'usr/lib'].flatMap((prefix) => {
    const folder = join(root, prefix, triplet);
    if (!existsSync(folder)) return [];
    // Some packages keep private libraries one folder down.
    const below = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory());
    return [folder, ...below.map((entry) => join(folder, entry.name))];
  });
  const loader = ['lib64/ld-linux-x86-64.so.2', 'lib/ld-linux-aarch64.so.1']
    .map((path) => join(root, path))
    .find((path) => existsSync(path));
  const program = ['usr/bin', 'usr/sbin', 'bin', 'sbin'].map((folder) => join(root, folder, name)).find(existsSync);
  if (!loader || !program) throw new Error(`${name} is missing in ${root}: remove this folder, then run this again`);
  const load = [loader, '--library-path', libraries.join(':')];
  // The compiler and the assembler that gcc starts are of the closure too.
  const gcc = ['-wrapper', load.join(), '-B', join(root, 'usr/bin/')];
  const data = {
    'qemu-system-aarch64': ['-L', join(root, 'usr/share/qemu')],
    'gdb-multiarch': ['--data-directory', join(root, 'usr/share/gdb')],
    'aarch64-linux-gnu-gcc': gcc,
    'x86_64-linux-gnu-gcc': gcc,
  };
  return {
    argv: [...load, program, ...(name in data ? data[name as keyof typeof data] : [])],
    env: {
      ...process.env,
      QEMU_MODULE_DIR: join(root, 'usr/lib', triplet, 'qemu'),
      ...(name === 'gdb-multiarch' ? { PYTHONHOME: join(root, 'usr') } : {}),
    },
  };
}
