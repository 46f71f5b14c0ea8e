/** Which versions the lab is made of: the newest at the first assembly, then the same until asked for newer ones. */

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { labCache, type Progress, withLock } from './cache.ts';
import { type Architecture, Archive } from './debian.ts';

/** One kernel build and the packages around it. */
export interface Release {
  /** As `uname -r` prints it: `6.1.0-NN-cloud-arm64`. */
  abi: string;
  /** Debian version of the image, its debug package and its sources. */
  version: string;
  /** Every package of the host's image but the kernel, as `name=version`. */
  packages: string[];
}

const META_PACKAGE = 'linux-image-cloud-arm64';
/** The nested VMM with all it needs; a static shell for the initramfs; what Node for arm64 links to. */
const HOST_PACKAGES = ['qemu-system-arm', 'busybox-static', 'libstdc++6', 'libgcc-s1', 'libc6'];

export const imagePackage = (release: Release): string => `linux-image-${release.abi}=${release.version}`;
/** The kernel's build for another machine, of the same sources and the same version. */
export const abiOf = (release: Release, architecture: Architecture): string =>
  release.abi.replace(/arm64$/, architecture);
export const debugPackage = (release: Release, architecture: Architecture): string =>
  `linux-image-${abiOf(release, architecture)}-dbg=${release.version}`;
export const sourcePackage = (release: Release): string => `linux-source-6.1=${release.version}`;

/** Short name of everything in the host's image. */
export function packagesKey(release: Release): string {
  return createHash('sha256').update(release.packages.join('\n')).digest('hex').slice(0, 12);
}

/** The release in use; undefined before the first assembly. */
export function knownRelease(): Release | undefined {
  const path = releasePath();
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as Release) : undefined;
}

const releasePath = (): string => labCache('release.json');

/** The release in use; resolved from Debian's archive when there is none yet, or `renew` is set. */
export async function resolveRelease(progress: Progress, renew = false): Promise<Release> {
  const path = releasePath();
  const known = renew ? undefined : knownRelease();
  if (known) return known;
  mkdirSync(labCache(), { recursive: true });
  return withLock(labCache('locks', 'release'), async () => {
    const made = renew ? undefined : knownRelease(); // by another process, meanwhile
    if (made) return made;
    const archive = new Archive('arm64', progress);
    await archive.update();
    const image = (await archive.depends(META_PACKAGE)).find((name) => name.startsWith('linux-image-'));
    if (!image) throw new Error(`Debian's package ${META_PACKAGE} names no kernel image`);
    const release: Release = {
      abi: image.slice('linux-image-'.length),
      version: await archive.newestVersion(image),
      packages: await archive.closure(HOST_PACKAGES),
    };
    writeFileSync(`${path}.partial`, JSON.stringify(release, null, 2));
    renameSync(`${path}.partial`, path);
    progress(`using Debian's kernel ${release.abi}, version ${release.version}`);
    return release;
  });
}
