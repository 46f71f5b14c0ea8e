// The VSIX files: one for each platform, with koffi's binary for it, and a portable one that reaches stubs only.
import { execFile } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { cacheEntry, type Progress } from '../lab/cache.ts';
import { type NpmPackage, unpackNpm } from '../lab/npm.ts';

const repository = dirname(dirname(fileURLToPath(import.meta.url)));

/** `portable` is the one without a native module; VS Code takes it where none is for the platform. */
export const vsixNames = ['linux-x64', 'linux-arm64', 'portable'] as const;
export type VsixName = (typeof vsixNames)[number];

interface Manifest {
  readonly [key: string]: unknown;
  readonly version: string;
  readonly icon: string;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly contributes: { readonly walkthroughs: readonly { readonly steps: readonly Step[] }[] };
}

interface Step {
  readonly media: { readonly markdown: string };
}

/** What `require('koffi')` reads before the binary; the rest of the package is what it is compiled from. */
const koffiLoader = ['package.json', 'index.cjs', 'src/koffi/index.cjs', 'src/koffi/src/static.cjs', 'LICENSE.txt'];

/** Makes one from dist/. Returns its path in `folder`. */
export async function makeVsix(name: VsixName, folder: string, progress: Progress = () => undefined): Promise<string> {
  const stage = mkdtempSync(join(tmpdir(), 'kvm-debug-stage-'));
  try {
    await fill(stage, name, progress);
    const file = join(folder, `kvm-debug-${name}.vsix`);
    const target = name === 'portable' ? [] : ['--target', name];
    // There is no repository to link to yet: links stay relative.
    const options = ['--allow-missing-repository', '--no-rewrite-relative-links', '--out', file];
    const vsce = join(repository, 'node_modules/.bin/vsce');
    const { stdout, stderr } = await promisify(execFile)(vsce, ['package', ...target, ...options], { cwd: stage });
    const warnings = `${stdout}\n${stderr}`.split('\n').filter((line) => /\bWARN/.test(line));
    if (warnings.length > 0) throw new Error(`vsce is not content with ${name}: ${warnings.join(' ')}`);
    return file;
  } finally {
    rmSync(stage, { recursive: true });
  }
}

/** Lays out in `stage` what the package is to hold, and nothing else. */
async function fill(stage: string, name: VsixName, progress: Progress): Promise<void> {
  const manifest = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8')) as Manifest;
  const copy = (path: string, from = join(repository, path)): void =>
    cpSync(from, join(stage, path), { recursive: true });
  const steps = manifest.contributes.walkthroughs.flatMap((walkthrough) => walkthrough.steps);
  const pages = steps.map(({ media }) => media.markdown);
  const pictures = [...readFileSync(join(repository, 'README.md'), 'utf8').matchAll(/!\[[^\]]*\]\(([\w/.-]+)\)/g)];
  const shown = pictures.flatMap(([, path]) => path ?? []);
  for (const path of ['README.md', 'CHANGELOG.md', 'LICENSE', manifest.icon, 'syntaxes', ...pages, ...shown])
    copy(path);
  // All programs also in the portable one: the demo's lab brings koffi of its own.
  const built = readdirSync(join(repository, 'dist')).filter((file) => !file.endsWith('.map'));
  for (const file of built) copy(join('dist', file));
  // The other dependencies are in the bundles.
  const { koffi = '' } = manifest.dependencies;
  const { scripts: _, devDependencies: __, ...shipped } = manifest;
  const dependencies = name === 'portable' ? {} : { koffi };
  writeFileSync(join(stage, 'package.json'), `${JSON.stringify({ ...shipped, dependencies }, undefined, 2)}\n`);
  // Without such a file vsce warns that it packs all there is, which is meant here.
  writeFileSync(join(stage, '.vscodeignore'), '');
  if (name === 'portable') return;
  for (const path of koffiLoader) copy(join('node_modules/koffi', path));
  const binary = await koffiBinary(name, progress);
  const platform = name.replace('-', '_');
  for (const path of ['package.json', 'index.js', join(platform, 'koffi.node')]) {
    copy(join('node_modules', binary.package, path), join(binary.folder, path));
  }
}

/** koffi's package with the binary for a platform. npm installs that of this machine only; that of another comes from the
 *  registry, as package-lock.json pins it. */
async function koffiBinary(
  platform: string,
  progress: Progress,
): Promise<{ readonly package: string; readonly folder: string }> {
  const pinned = lockedPackage(`@koromix/koffi-${platform}`);
  const installed = join(repository, 'node_modules', pinned.name);
  if (existsSync(installed)) return { package: pinned.name, folder: installed };
  const folder = await cacheEntry(`koffi-${platform}-${pinned.version}`, async (entry) => {
    progress(`fetching ${pinned.name} ${pinned.version}`);
    const download = mkdtempSync(join(tmpdir(), 'kvm-debug-koffi-'));
    try {
      await unpackNpm(pinned, download, entry);
    } finally {
      rmSync(download, { recursive: true });
    }
  });
  return { package: pinned.name, folder };
}

/** A package of another platform as package-lock.json pins it. */
function lockedPackage(name: string): NpmPackage {
  const lock = JSON.parse(readFileSync(join(repository, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { version?: string; integrity?: string }>;
  };
  const entry = lock.packages[`node_modules/${name}`];
  if (!entry?.version || !entry.integrity) throw new Error(`package-lock.json does not pin ${name}: run npm install`);
  return { name, version: entry.version, integrity: entry.integrity };
}
