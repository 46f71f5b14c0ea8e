// The VSIX files: what is in them, and that it is enough.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { reportProgress } from '../../lab/cache.ts';
import { makeVsix, type VsixName, vsixNames } from '../../packaging/vsix.ts';
import { DapClient } from '../support/dapClient.ts';
import { unpackBelow, unzip } from '../support/zip.ts';

const repository = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const scratch = mkdtempSync(join(tmpdir(), 'kvm-debug-vsix-'));
after(() => rmSync(scratch, { recursive: true }));

const packages = new Map<VsixName, { readonly size: number; readonly files: ReadonlyMap<string, Buffer> }>();
for (const name of vsixNames) {
  const file = await makeVsix(name, scratch, reportProgress); // throws where vsce warns
  packages.set(name, { size: statSync(file).size, files: unzip(readFileSync(file)) });
}

function filesOf(name: VsixName): ReadonlyMap<string, Buffer> {
  const { files } = packages.get(name) ?? {};
  assert.ok(files);
  return files;
}

/** Installs a package as VS Code does. Returns its folder. */
function installed(name: VsixName): string {
  const folder = join(scratch, name);
  mkdirSync(folder, { recursive: true });
  unpackBelow(filesOf(name), 'extension/', folder);
  return folder;
}

const native: VsixName = process.arch === 'arm64' ? 'linux-arm64' : 'linux-x64';

test('each VSIX holds the programs, what package.json refers to, its own koffi, and nothing else', () => {
  const { walkthroughs } = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8')).contributes;
  const steps: string[] = walkthroughs.flatMap(({ steps }: { steps: { media: { markdown: string } }[] }) =>
    steps.map(({ media }) => media.markdown),
  );
  const dist = join(repository, 'dist');
  const programs = readdirSync(dist, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.name.endsWith('.map'))
    .map(({ parentPath, name }) => relative(dist, join(parentPath, name)));
  const syntaxes = readdirSync(join(repository, 'syntaxes'));
  const common = [
    ...[
      'package.json',
      'readme.md',
      'changelog.md',
      'LICENSE.txt',
      ...readdirSync(join(repository, 'images')).map((file) => `images/${file}`),
    ],
    ...syntaxes.map((file) => `syntaxes/${file}`),
    ...steps,
  ];
  const koffi = (platform: string): string[] => [
    ...['package.json', 'index.cjs', 'LICENSE.txt', 'src/koffi/index.cjs', 'src/koffi/src/static.cjs'].map(
      (file) => `node_modules/koffi/${file}`,
    ),
    ...['package.json', 'index.js', `${platform.replace('-', '_')}/koffi.node`].map(
      (file) => `node_modules/@koromix/koffi-${platform}/${file}`,
    ),
  ];
  for (const name of vsixNames) {
    const expected = [
      ...common,
      ...programs.map((file) => `dist/${file}`),
      ...(name === 'portable' ? [] : koffi(name)),
    ];
    const held = [...filesOf(name).keys()].filter((file) => file.startsWith('extension/'));
    assert.deepEqual(held.sort(), expected.map((file) => `extension/${file}`).sort(), name);
  }
});

test('each VSIX is for its platform, also by what its package.json and its binary say', () => {
  for (const name of vsixNames) {
    const files = filesOf(name);
    const about = files.get('extension.vsixmanifest')?.toString() ?? '';
    assert.equal(/ TargetPlatform="([^"]*)"/.exec(about)?.[1], name === 'portable' ? undefined : name);
    const { dependencies } = JSON.parse(`${files.get('extension/package.json')}`);
    assert.deepEqual(Object.keys(dependencies), name === 'portable' ? [] : ['koffi']);
    const [binary] = [...files].filter(([path]) => path.endsWith('.node')).map(([, content]) => content);
    if (name === 'portable') assert.equal(binary, undefined);
    else {
      assert.equal(binary?.toString('latin1', 0, 5), '\x7fELF\x02'); // ELFCLASS64
      // elf.h: EM_AARCH64, EM_X86_64
      assert.equal(binary.readUInt16LE(18), name === 'linux-arm64' ? 183 : 62, name);
    }
  }
});

test('the packages and the bundles in them are small', () => {
  for (const [name, { size, files }] of packages) {
    assert.ok(size < (name === 'portable' ? 1_500_000 : 2_000_000), `${name}: ${size} bytes`);
    const bytes = (program: string): number => files.get(`extension/dist/${program}`)?.length ?? Number.NaN;
    assert.ok(bytes('extension.js') < 200_000, `extension.js: ${bytes('extension.js')} bytes`);
    assert.ok(bytes('adapter.js') < 1_000_000, `adapter.js: ${bytes('adapter.js')} bytes`);
  }
});

test('what the VSIX of this platform holds is enough: koffi loads, the adapter and the lab start', () => {
  const adapter = join(installed(native), 'dist/adapter.js');
  const node = (...args: string[]): string => execFileSync(process.execPath, args, { cwd: '/', encoding: 'utf8' });
  const callLibc = `require('node:module').createRequire(${JSON.stringify(adapter)})('koffi').load('libc.so.6').func('int getpid()')()`;
  assert.equal(node('-p', `${callLibc} === process.pid`), 'true\n');
  assert.match(node(adapter, '--help'), /--listen/);
  const plan = JSON.parse(node(join(dirname(adapter), 'lab.js'), 'plan'));
  assert.equal(plan.refusal, undefined);
  assert.match(plan.cache, /kvm-debug$/);
});

test('the portable adapter starts, and says what it takes to control a VM through KVM', async () => {
  const adapter = spawn(process.execPath, [join(installed('portable'), 'dist/adapter.js')], {
    cwd: '/',
    env: {}, // no NODE_PATH that leads to a koffi
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const ended = once(adapter, 'exit');
  try {
    const client = new DapClient(adapter.stdout, adapter.stdin);
    const { supportsDisassembleRequest } = await client.request('initialize', { adapterID: 'kvm' });
    assert.equal(supportsDisassembleRequest, true);
    // Refused each time: a module that failed to load is not taken for one that is there.
    for (let attempt = 0; attempt < 2; attempt++) {
      await assert.rejects(client.request('attach', { pid: process.pid }), {
        message: `VMs cannot be controlled through KVM, as this package of the extension has no native module for linux-${process.arch}: install the one for linux-${process.arch}, or name a stub in "remote".`,
      });
    }
    await client.request('disconnect');
    assert.deepEqual(await ended, [0, null]);
  } finally {
    adapter.kill('SIGKILL');
  }
});
