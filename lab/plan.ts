/** What a lab takes: from this machine, and from Debian's and npm's archives. Nothing is fetched to find it out. */
import { existsSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { cacheRoot, labCache } from './cache.ts';
import { hasArchive } from './debian.ts';
import { debugEntry, hostEntry, sourceEntry } from './image.ts';
import type { LabPlan, Missing, Piece } from './messages.ts';
import { knownRelease, type Release } from './release.ts';
import { onPath, type Tool, toolEntry } from './tools.ts';

interface PlannedPiece extends Piece {
  readonly entry: (release: Release) => string;
  /** What it is made with: fetched too where this machine does not have it. */
  readonly tool?: Tool;
}

/** Rough figures, measured with Debian's kernel 6.1.192-2. */
const pieces: readonly PlannedPiece[] = [
  { what: 'the arm64 machine: kernel, QEMU and Node', megabytes: 115, disk: 360, entry: hostEntry, tool: 'mke2fs' },
  { what: "the kernel's debug information", megabytes: 262, disk: 570, entry: (release) => debugEntry(release) },
  { what: "the kernel's sources", megabytes: 140, disk: 170, entry: sourceEntry, tool: 'xz' },
];
/** With the libraries of each. */
const tools: readonly (Piece & { readonly tool: Tool })[] = [
  { what: 'QEMU for this machine', megabytes: 40, disk: 135, tool: 'qemu-system-aarch64' },
  { what: 'mke2fs for this machine', megabytes: 4, disk: 16, tool: 'mke2fs' },
  { what: 'xz for this machine', megabytes: 4, disk: 15, tool: 'xz' },
];
/** Packages stay beside what is made of them until it is made. */
const scratchMegabytes = 600;

/** Programs that fetch and unpack, and the Debian package that has each. */
const programs: Readonly<Record<string, string>> = {
  'apt-get': 'apt',
  'apt-cache': 'apt',
  'dpkg-deb': 'dpkg',
  npm: 'npm',
  flock: 'util-linux',
  bash: 'bash',
  tar: 'tar',
  find: 'findutils',
  du: 'coreutils',
};

/** What a machine has. */
export interface Machine {
  readonly isInstalled: (program: string) => boolean;
  /** apt can reach Debian's archive. */
  readonly hasArchive: boolean;
  /** On the cache's disk, in units of a million bytes. */
  readonly freeMegabytes: number;
}

export async function thisMachine(): Promise<Machine> {
  const { bavail, bsize } = await statfs(cacheRoot());
  return {
    isInstalled: (program) => onPath(program) !== undefined,
    hasArchive: hasArchive(),
    freeMegabytes: Math.floor((bavail * bsize) / 1e6),
  };
}

export async function plan(): Promise<LabPlan> {
  const release = knownRelease();
  const isThere = (entry: string): boolean => existsSync(labCache(entry));
  const fetched = piecesToFetch(release, isThere, toolEntry);
  const why = refusal(process.platform, process.arch);
  if (why !== undefined) return { is: 'plan', refusal: why, missing: [], fetched, cache: cacheRoot() };
  return { is: 'plan', missing: missingFor(fetched, await thisMachine()), fetched, cache: cacheRoot() };
}

/** What of the lab is not in the cache. `entryOf`: that of a tool, undefined where it is installed. */
export function piecesToFetch(
  release: Release | undefined,
  isThere: (entry: string) => boolean,
  entryOf: (tool: Tool) => string | undefined,
): Piece[] {
  const made = pieces.filter(({ entry }) => release === undefined || !isThere(entry(release)));
  const used = new Set<Tool>(['qemu-system-aarch64', ...made.flatMap(({ tool }) => tool ?? [])]);
  const isLacking = (tool: Tool): boolean => {
    const entry = entryOf(tool);
    return entry !== undefined && !isThere(entry);
  };
  const lacking = tools.filter(({ tool }) => used.has(tool) && isLacking(tool));
  return [...made, ...lacking].map(({ what, megabytes, disk }) => ({ what, megabytes, disk }));
}

/** Why there can be no lab, whatever is installed. */
export function refusal(platform: string, architecture: string): string | undefined {
  if (platform === 'linux' && (architecture === 'x64' || architecture === 'arm64')) return undefined;
  return `The demo emulates its arm64 machine on Debian or Ubuntu, on x86-64 or arm64, and this is ${platform} on ${architecture}: open a window on such a machine (Remote - SSH, WSL, Dev Containers) and try again there.`;
}

/** What has to be mended before `fetched` can be fetched. */
export function missingFor(fetched: readonly Piece[], machine: Machine): Missing[] {
  if (fetched.length === 0) return [];
  const absent = Object.entries(programs).filter(([program]) => !machine.isInstalled(program));
  const ofDebian = absent.filter(([, owner]) => owner === 'apt' || owner === 'dpkg').map(([program]) => program);
  if (ofDebian.length > 0) {
    return [{ need: ofDebian.join(', '), remedy: 'the demo is made of Debian packages: try it on Debian or Ubuntu' }];
  }
  const missing: Missing[] = absent.map(([need, owner]) => ({ need, remedy: `sudo apt-get install ${owner}` }));
  if (!machine.hasArchive) {
    missing.push({ need: "the keys of Debian's archive", remedy: 'sudo apt-get install debian-archive-keyring' });
  }
  const needed = fetched.reduce((sum, { disk }) => sum + disk, scratchMegabytes);
  if (machine.freeMegabytes < needed) {
    missing.push({
      need: `disk space for ${cacheRoot()}: ${needed} MB, of which ${machine.freeMegabytes} MB are free`,
      remedy: 'free some, or let XDG_CACHE_HOME name a folder on another disk',
    });
  }
  return missing;
}
