// The layers of CONTRIBUTING.md: fails on any import that they do not allow, and on a cycle between files.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join, normalize } from 'node:path';
import { test } from 'node:test';

const src = new URL('../src/', import.meta.url).pathname;
const below = (...paths: string[]) => new RegExp(`^(${paths.join('|')})/`);
/** What the files of a layer may import beside their own layer. Programs, the files of src/ itself, may import anything. */
const allowed: readonly [from: RegExp, to: RegExp][] = [
  [below('base'), /^$/],
  [below('arch', 'symbols'), below('base')],
  [below('target'), below('base', 'arch')],
  [below('linux'), below('base', 'arch', 'symbols')],
  [below('debugger'), below('base', 'arch', 'symbols', 'target', 'linux')],
  [below('dap'), below('base', 'arch', 'symbols', 'target', 'linux', 'debugger')],
  [below('command'), below('base', 'symbols', 'debugger')],
  [below('extension'), /^(dap\/arguments|\.\.\/lab\/messages)\.ts$/],
  [/^guardian\.ts$/, below('base', 'arch', 'target/kvm')], // small on purpose: it has to outlive the adapter
  [/^indexer\.ts$/, below('base', 'symbols')],
  [/^[^/]+\.ts$/, /./],
];
/** Packages that have one home. */
const homes = { vscode: below('extension'), koffi: below('target/kvm') };

/** Of all files below a folder. Where they go to, `to`, is relative to that folder; undefined for packages. */
const importsBelow = (folder: string) =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .flatMap((from) =>
      // `import … from 'x'`, `export … from 'x'`, `import 'x'`, `import('x')`
      [
        ...readFileSync(folder + from, 'utf8').matchAll(
          /^(?:import|export)( type)?\b(?:[^'"`;]*?\bfrom)? ['"](.+)['"]|\bimport\(['"](.+?)['"]/gm,
        ),
      ].map(([, type, statement, call]) => ({ from, name: statement ?? call ?? '', typeOnly: type !== undefined })),
    )
    .map((edge) => ({
      ...edge,
      to: edge.name.startsWith('.') ? normalize(join(edge.from, '..', edge.name)) : undefined,
    }));
const imports = importsBelow(src);

test('every import goes to a lower layer', () => {
  assert.ok(imports.length > 0);
  for (const { from, to } of imports) {
    if (to === undefined || (from.includes('/') && from.split('/')[0] === to.split('/')[0])) continue;
    assert.match(to, allowed.find(([layer]) => layer.test(from))?.[1] ?? /^$/, `src/${from} must not import src/${to}`);
  }
});

test('the lab is a part of the product: it imports no package and no test', () => {
  const ofLab = importsBelow(new URL('../lab/', import.meta.url).pathname);
  assert.ok(ofLab.length > 0);
  for (const { from, name, to } of ofLab) {
    assert.match(to ?? name, /^(node:|[^.])|^\.\.\/src\/(base|symbols)\//, `lab/${from} must not import ${name}`);
    assert.ok(to !== undefined || name.startsWith('node:'), `lab/${from} imports ${name}`);
  }
});

test('the extension takes only types from the lab: its code is in dist/lab.js', () => {
  const fromLab = imports.filter(({ to }) => to?.startsWith('../lab/'));
  assert.ok(fromLab.length > 0);
  for (const { from, typeOnly } of fromLab) assert.ok(typeOnly, `src/${from}`);
});

test('vscode and koffi have one home each', () => {
  for (const { from, name } of imports) if (name in homes) assert.match(from, homes[name as keyof typeof homes], name);
});

test('no file imports itself through others', () => {
  const finished = new Set<string>();
  const visit = (file: string, trail: readonly string[]): void => {
    assert.ok(!trail.includes(file), [...trail, file].join(' -> '));
    if (finished.has(file)) return;
    // Type-only imports are gone at run time, where a cycle would break.
    for (const edge of imports) if (edge.from === file && edge.to && !edge.typeOnly) visit(edge.to, [...trail, file]);
    finished.add(file);
  };
  for (const { from } of imports) visit(from, []);
});
