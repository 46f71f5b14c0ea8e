import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const repository = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const files = execFileSync(join(repository, 'node_modules/.bin/vsce'), ['ls'], { cwd: repository, encoding: 'utf8' })
  .split('\n')
  .filter((line) => line !== '');

test('the VSIX holds the programs, koffi, what package.json refers to, and nothing else', () => {
  const { walkthroughs } = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8')).contributes;
  const steps: string[] = walkthroughs.flatMap(({ steps }: { steps: { media: { markdown: string } }[] }) =>
    steps.map(({ media }) => media.markdown),
  );
  const folders = new Set(
    files.map((file) => /^(dist|syntaxes|node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(file)?.[1] ?? file),
  );
  assert.deepEqual([...folders].sort(), [
    'CHANGELOG.md',
    'LICENSE',
    'README.md',
    'dist',
    'images/icon.png',
    `node_modules/@koromix/koffi-linux-${process.arch}`,
    'node_modules/koffi',
    'package.json',
    'syntaxes',
    ...steps.sort(),
  ]);
  const bundles = files.filter((file) => file.startsWith('dist/'));
  const built = readdirSync(join(repository, 'dist'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.name.endsWith('.map'))
    .map(({ parentPath, name }) => relative(repository, join(parentPath, name)));
  assert.deepEqual(bundles.sort(), built.sort());
  const syntaxes = readdirSync(join(repository, 'syntaxes')).map((file) => `syntaxes/${file}`);
  assert.deepEqual(files.filter((file) => file.startsWith('syntaxes/')).sort(), syntaxes.sort());
});

test('what the VSIX holds is enough: koffi loads, the adapter and the lab start', () => {
  const folder = mkdtempSync(join(tmpdir(), 'kvm-debug-vsix-'));
  try {
    for (const file of files) cpSync(join(repository, file), join(folder, file));
    const node = (...args: string[]): string => execFileSync(process.execPath, args, { cwd: '/', encoding: 'utf8' });
    const adapter = join(folder, 'dist/adapter.js');
    const callLibc = `require('node:module').createRequire(${JSON.stringify(adapter)})('koffi').load('libc.so.6').func('int getpid()')()`;
    assert.equal(node('-p', `${callLibc} === process.pid`), 'true\n');
    assert.match(node(adapter, '--help'), /--listen/);
    const plan = JSON.parse(node(join(folder, 'dist/lab.js'), 'plan'));
    assert.equal(plan.refusal, undefined);
    assert.match(plan.cache, /kvm-debug$/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
