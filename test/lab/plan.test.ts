/** What the lab says it needs before it takes anything. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Machine, missingFor, piecesToFetch, refusal } from '../../lab/plan.ts';

const debian: Machine = { isInstalled: () => true, hasArchive: true, freeMegabytes: 100_000 };
const without = (...programs: string[]): Machine => ({ ...debian, isInstalled: (name) => !programs.includes(name) });
const fetched = [{ what: 'a kernel', megabytes: 100, disk: 300 }];

describe('what a machine lacks', () => {
  test('is nothing on Debian, and nothing where all is in the cache', () => {
    assert.deepEqual(missingFor(fetched, debian), []);
    assert.deepEqual(missingFor([], { isInstalled: () => false, hasArchive: false, freeMegabytes: 0 }), []);
  });

  test('is each program, with the package that has it', () => {
    assert.deepEqual(missingFor(fetched, without('npm', 'flock')), [
      { need: 'npm', remedy: 'sudo apt-get install npm' },
      { need: 'flock', remedy: 'sudo apt-get install util-linux' },
    ]);
  });

  test('is Debian itself, where there is no apt: the rest does not help then', () => {
    const [missing, ...more] = missingFor(fetched, without('apt-get', 'apt-cache', 'dpkg-deb', 'npm'));
    assert.equal(missing?.need, 'apt-get, apt-cache, dpkg-deb');
    assert.match(missing?.remedy ?? '', /Debian or Ubuntu/);
    assert.deepEqual(more, []);
  });

  test("is the keys of Debian's archive, as on Ubuntu", () => {
    const [missing] = missingFor(fetched, { ...debian, hasArchive: false });
    assert.match(missing?.remedy ?? '', /debian-archive-keyring/);
  });

  test('is room on the disk of the cache', () => {
    const [missing] = missingFor(fetched, { ...debian, freeMegabytes: 899 });
    assert.match(missing?.need ?? '', /900 MB, of which 899 MB are free/);
    assert.match(missing?.remedy ?? '', /XDG_CACHE_HOME/);
    assert.deepEqual(missingFor(fetched, { ...debian, freeMegabytes: 900 }), []);
  });
});

test('other systems and processors are refused, in one sentence', () => {
  assert.equal(refusal('linux', 'x64'), undefined);
  assert.equal(refusal('linux', 'arm64'), undefined);
  for (const [platform, architecture] of [
    ['darwin', 'arm64'],
    ['win32', 'x64'],
    ['linux', 'riscv64'],
  ] as const) {
    const sentence = refusal(platform, architecture) ?? '';
    assert.match(sentence, new RegExp(`${platform} on ${architecture}`));
    assert.match(sentence, /^[^.]+\.$/);
  }
});

test('tools are fetched where they are not installed, and only with what they make', () => {
  const installed = () => undefined;
  const bare = (tool: string): string => `tool-${tool}`;
  const named = (...[release, isThere, entryOf]: Parameters<typeof piecesToFetch>): string[] =>
    piecesToFetch(release, isThere, entryOf).map(({ what }) => what);
  const all = named(undefined, () => false, bare);
  const parts = named(undefined, () => false, installed);
  const tools = ['QEMU', 'mke2fs', 'xz'].map((tool) => `${tool} for this machine`);
  assert.deepEqual(all, [...parts, ...tools]);
  const release = { abi: '6.1.0-1-cloud-arm64', version: '6.1-2', packages: [] };
  assert.deepEqual(
    named(release, (entry) => !entry.startsWith('tool-'), bare),
    tools.slice(0, 1),
  );
  assert.deepEqual(
    named(release, () => true, bare),
    [],
  );
  assert.deepEqual(
    named(undefined, (entry) => entry === 'tool-xz', bare),
    [...parts, ...tools.slice(0, 2)],
  );
});
