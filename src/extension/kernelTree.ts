// What a folder holds of a Linux kernel: its sources, and what was built in it or directly below it (`make O=build`).
import { realpath } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { beginning, entriesOf, modified } from './files.ts';

export type Architecture = 'arm64' | 'x86_64';

interface Traits {
  /** What a VMM boots, below the folder of a build. */
  readonly image: string;
  /** e_machine of its vmlinux (ELF gABI, chapter 4). */
  readonly machine: number;
  readonly option: string;
}

const traits: Readonly<Record<Architecture, Traits>> = {
  arm64: { image: 'arch/arm64/boot/Image', machine: 183 /* EM_AARCH64 */, option: 'CONFIG_ARM64' },
  x86_64: { image: 'arch/x86/boot/bzImage', machine: 62 /* EM_X86_64 */, option: 'CONFIG_X86_64' },
};
const architectures = Object.keys(traits) as Architecture[];

export const imageOf = (architecture: Architecture): string => traits[architecture].image;

/** Guests of others cannot be debugged in this version. */
const debugged: readonly Architecture[] = ['arm64'];

export const isDebugged = ({ architecture, machine }: Pick<KernelBuild, 'architecture' | 'machine'>): boolean =>
  architecture === undefined ? machine === undefined : debugged.includes(architecture);

/** Of a build that is not debugged. */
export const whyNotDebugged = ({ image, vmlinux, architecture, machine }: KernelBuild): string =>
  `${image ?? vmlinux} is a kernel for ${architecture ?? `another machine (ELF e_machine ${machine})`}; this version debugs ${debugged.join(' and ')} guests only`;

/** A folder in which a kernel was built. Paths are absolute. */
export interface KernelBuild {
  readonly folder: string;
  readonly architecture: Architecture | undefined;
  /** e_machine of the vmlinux, if it is an ELF file. */
  readonly machine: number | undefined;
  readonly vmlinux: string | undefined;
  readonly image: string | undefined;
  /** Whether `.config` asks for debug information; undefined when there is no `.config` to tell. */
  readonly debugInfo: boolean | undefined;
  /** When the newest of its files was written: milliseconds since 1970. */
  readonly time: number;
}

export interface KernelTree {
  /** The folder that was looked at, and the folders in it. */
  readonly folder: string;
  /** The sources that are there, built or not. */
  readonly sources: string | undefined;
  /** The best to debug first: complete, in the folder itself, new. */
  readonly builds: readonly KernelBuild[];
}

/** A .config of everything there is has half a megabyte. */
const configLimit = 1 << 20;

/** Looks at a folder and at the folders in it, never deeper. Nothing that cannot be read is an error. */
export async function findKernelTree(folder: string): Promise<KernelTree> {
  // By their real paths: the links `source` and `build` that kernels are built with lead from one to the other.
  const folders = new Map<string, string>();
  for (const path of [folder, ...(await entriesOf(folder)).folders]) {
    const real = await realpath(path).catch(() => undefined);
    if (real !== undefined && !folders.has(real)) folders.set(real, path);
  }
  const paths = [...folders.values()];
  const [builds, sources] = await Promise.all([
    Promise.all(paths.map(examineBuild)),
    Promise.all(paths.map(async (path) => ((await hasSources(path)) ? path : undefined))),
  ]);
  return {
    folder,
    sources: sources.find((path) => path !== undefined),
    builds: builds.filter((build) => build !== undefined).sort((a, b) => merit(b) - merit(a) || b.time - a.time),
  };

  function merit(build: KernelBuild): number {
    return (build.vmlinux && build.image ? 2 : 0) + (build.folder === folder ? 1 : 0);
  }
}

async function hasSources(folder: string): Promise<boolean> {
  const [kbuild, kconfig, makefile] = await Promise.all(
    ['Kbuild', 'Kconfig', 'Makefile'].map((name) => modified(join(folder, name))),
  );
  return kbuild !== undefined && kconfig !== undefined && makefile !== undefined;
}

async function examineBuild(folder: string): Promise<KernelBuild | undefined> {
  const vmlinux = join(folder, 'vmlinux');
  const [vmlinuxTime, ...imageTimes] = await Promise.all([
    modified(vmlinux),
    ...architectures.map((architecture) => modified(join(folder, imageOf(architecture)))),
  ]);
  const images = architectures.filter((_, index) => imageTimes[index] !== undefined);
  if (vmlinuxTime === undefined && images.length === 0) return undefined;
  const config = await beginning(join(folder, '.config'), configLimit);
  const options = config?.toString('latin1');
  const machine = vmlinuxTime === undefined ? undefined : elfMachine(await beginning(vmlinux, 20));
  // An image of another architecture may be left from an earlier build: the vmlinux is what the symbols are of.
  const architecture =
    machine === undefined
      ? (architectures.find((name) => options !== undefined && isOn(options, traits[name].option)) ?? images[0])
      : architectures.find((name) => traits[name].machine === machine);
  const image = images.find((name) => name === architecture);
  return {
    folder,
    architecture,
    machine,
    vmlinux: vmlinuxTime === undefined ? undefined : vmlinux,
    image: image && join(folder, imageOf(image)),
    // Every choice of debug information but "none" sets it, since there is a choice (Linux 5.18) as before.
    debugInfo: options === undefined ? undefined : isOn(options, 'CONFIG_DEBUG_INFO'),
    time: Math.max(...[vmlinuxTime, ...imageTimes].map((time) => time ?? 0)),
  };
}

const isOn = (config: string, option: string): boolean => new RegExp(`^${option}=y$`, 'm').test(config);

/** e_machine of a little-endian ELF file. */
export const elfMachine = (header: Buffer | undefined): number | undefined =>
  header !== undefined && header.length >= 20 && header.readUInt32BE(0) === 0x7f454c46
    ? header.readUInt16LE(18)
    : undefined;

/** The vmlinux that belongs to a kernel image: that of the build it lies in, a distribution's, or one beside it. `debug`
 *  is where distributions put debug information. */
export async function symbolsOf(kernel: string, debug = '/usr/lib/debug'): Promise<string | undefined> {
  const real = await realpath(kernel).catch(() => kernel);
  for (const path of new Set([kernel, real])) {
    for (const candidate of symbolCandidates(path, debug)) {
      if ((await modified(candidate)) !== undefined) return candidate;
    }
  }
  return undefined;
}

function symbolCandidates(kernel: string, debug: string): readonly string[] {
  const build = /^(.*)\/arch\/[^/]+\/boot\/[^/]+$/.exec(kernel)?.[1];
  const release = /^vmlinu[xz]-(.+)$/.exec(basename(kernel))?.[1];
  return [
    ...(build === undefined ? [] : [join(build, 'vmlinux')]),
    // Debian's linux-image-*-dbg, and Fedora's kernel-debuginfo.
    ...(release === undefined ? [] : [`${debug}/boot/vmlinux-${release}`, `${debug}/lib/modules/${release}/vmlinux`]),
    join(dirname(kernel), 'vmlinux'),
  ];
}

/** The image of the build that a vmlinux lies in. */
export async function imageBeside(vmlinux: string): Promise<string | undefined> {
  return (await examineBuild(dirname(vmlinux)))?.image;
}
