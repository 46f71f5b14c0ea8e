// Runs one of the repository's programs (TypeScript) from any state of a clone: `node test/bootstrap.mjs PROGRAM ARGS`.
// Plain JavaScript without imports from node_modules, because it is what installs them.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** The packages of a lock file by path: `node_modules/x` -> { version, … }. */
const packagesOf = (lockFile) => JSON.parse(readFileSync(join(root, lockFile), 'utf8')).packages;

/** Compared by version and not by time: a checkout touches package-lock.json, and reinstalling pulls node_modules away
 *  from under whatever else is running. npm keeps what it really installed in node_modules/.package-lock.json. */
function isInstalled() {
  try {
    const installed = packagesOf('node_modules/.package-lock.json');
    return Object.entries(packagesOf('package-lock.json')).every(
      ([path, { version, optional }]) =>
        path === '' || (installed[path] ? installed[path].version === version : optional === true),
    );
  } catch {
    return false;
  }
}

const [program, ...args] = process.argv.slice(2);
if (!program) throw new Error('usage: node test/bootstrap.mjs PROGRAM [ARGUMENT…]');
if (Number.parseInt(process.versions.node, 10) < 20) {
  console.error(`Node 20 or later is needed; this is ${process.version}.`);
  process.exit(1);
}
if (!isInstalled()) {
  console.error('npm ci: installing the packages of package-lock.json …');
  const npm = spawnSync('npm', ['ci', '--no-audit', '--no-fund'], { cwd: root, stdio: ['ignore', 2, 2] });
  if (npm.status !== 0) {
    console.error(npm.error ? `npm ci: ${npm.error.message}` : 'npm ci failed; see above.');
    process.exit(1);
  }
}

// In this process, so that signals, the terminal and the exit status are the program's own.
const { register } = await import('tsx/esm/api');
register();
const file = resolve(program);
process.argv = [process.argv[0], file, ...args];
await import(pathToFileURL(file).href);
