/** `npm run test:desktop`: the suites of the extension host in a VS Code of the desktop, which @vscode/test-electron downloads;
 *  $VSCODE names one that is installed instead. Needs a display. What runs where is in .vscode-test.mjs. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { layOut } from './extensionHostSuites.ts';
import { SETTINGS } from './server.ts';

const repository = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const folder = join(repository, '.vscode-test/laid');
rmSync(folder, { recursive: true, force: true });
const { environment } = await layOut(folder);
mkdirSync(join(folder, 'user/User'), { recursive: true });
writeFileSync(join(folder, 'user/User/settings.json'), JSON.stringify(SETTINGS));
const cli = join(repository, 'node_modules/@vscode/test-cli/out/bin.mjs');
const { status } = spawnSync(process.execPath, [cli, ...process.argv.slice(2)], {
  cwd: repository,
  env: { ...process.env, ...environment },
  stdio: 'inherit',
});
process.exitCode = status ?? 1;
