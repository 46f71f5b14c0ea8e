/** `npm run package`: the VSIX files, in the folder of the repository. `-- NAME…` makes only some of them. */
import { statSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { reportProgress } from '../lab/cache.ts';
import { makeVsix, vsixNames } from './vsix.ts';

const repository = dirname(dirname(fileURLToPath(import.meta.url)));
const asked = process.argv.slice(2);
const unknown = asked.find((name) => !(vsixNames as readonly string[]).includes(name));
if (unknown !== undefined) {
  console.error(`There is no package ${unknown}; there are: ${vsixNames.join(', ')}`);
  process.exit(2);
}
for (const name of vsixNames) {
  if (asked.length > 0 && !asked.includes(name)) continue;
  const file = await makeVsix(name, repository, reportProgress);
  console.log(`${file} (${(statSync(file).size / 1e6).toFixed(1)} MB)`);
}
