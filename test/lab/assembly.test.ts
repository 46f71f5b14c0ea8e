/** The parts of the assembly that need neither network nor emulator. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { cacheEntry, labCache } from '../../lab/cache.ts';
import { Cpio } from '../../lab/cpio.ts';
import { debianSources } from '../../lab/debian.ts';
import { KOFFI, KOFFI_ARM64 } from '../../lab/npm.ts';

describe('cache entries', () => {
  const previous = process.env.XDG_CACHE_HOME;
  before(() => {
    process.env.XDG_CACHE_HOME = mkdtempSync(join(tmpdir(), 'kvm-debug-test-'));
  });
  after(() => {
    rmSync(process.env.XDG_CACHE_HOME ?? '', { recursive: true });
    if (previous === undefined) delete process.env.XDG_CACHE_HOME;
    else process.env.XDG_CACHE_HOME = previous;
  });

  test('are made once, also when asked for twice at a time', async () => {
    let made = 0;
    const make = async (folder: string): Promise<void> => writeFileSync(join(folder, 'content'), String(++made));
    const paths = await Promise.all([cacheEntry('once', make), cacheEntry('once', make)]);
    assert.deepEqual(
      paths.map((path) => readFileSync(join(path, 'content'), 'utf8')),
      ['1', '1'],
    );
  });

  test('are not there when making them fails, and scratch of an interrupted run is not used', async () => {
    const fail = (folder: string): Promise<void> => {
      writeFileSync(join(folder, 'half'), '');
      return Promise.reject(new Error('interrupted'));
    };
    await assert.rejects(cacheEntry('failing', fail), /interrupted/);
    assert.equal(existsSync(labCache('failing')), false);
    const leftover = labCache('failing.partial-1');
    mkdirSync(leftover, { recursive: true });
    const path = await cacheEntry('failing', async (folder) => assert.deepEqual(readdirSync(folder), []));
    assert.equal(path, labCache('failing'));
    assert.equal(existsSync(leftover), false);
  });
});

describe("the machine's archives", () => {
  const other = 'Types: deb\nURIs: http://vendor.example/apt\nSuites: nodistro\nComponents: main\nSigned-By: /v.gpg\n';

  test('deb822: other vendors, sources and architectures are left out, keys and mirrors kept', () => {
    const text = `# comment
Types: deb deb-src
URIs: http://mirror.example/debian
# another comment
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib
Architectures: amd64
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

${other}`;
    assert.equal(
      debianSources([{ name: 'debian.sources', text }]),
      `Types: deb
Suites: bookworm bookworm-updates
Components: main
URIs: http://mirror.example/debian
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
`,
    );
  });

  test('one-line entries keep their options', () => {
    const text = `deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/security bookworm-security main # why
deb-src http://mirror.example/debian bookworm main
deb http://vendor.example/pg bookworm-pgdg main
`;
    assert.equal(
      debianSources([{ name: 'sources.list', text }]),
      `Types: deb
Suites: bookworm-security
Components: main
URIs: http://mirror.example/security
signed-by: /k.gpg
`,
    );
  });
});

test('cpio: folders above come first, names and data are padded, a trailer ends it', () => {
  const text = new Cpio().file('/a/b', 'data!', 0o644).bytes().toString('latin1').replaceAll('\0', '~');
  assert.equal(text.length % 4, 0);
  const names = [...text.matchAll(/070701[0-9a-f]{104}([^~]+)~/g)].map(([, name]) => name);
  assert.deepEqual(names, ['a', 'a/b', 'TRAILER!!!']);
  assert.match(text, /070701[0-9a-f]{8}000081a4.*a\/b~+data!~{3}070701/s);
});

test("koffi in the lab is the repository's, of the same version and integrity", () => {
  const lock = JSON.parse(readFileSync(join(import.meta.dirname, '../../package-lock.json'), 'utf8'));
  for (const { name, version, integrity } of [KOFFI, KOFFI_ARM64]) {
    const locked = lock.packages[`node_modules/${name}`];
    assert.deepEqual({ version, integrity }, { version: locked.version, integrity: locked.integrity }, name);
  }
});
