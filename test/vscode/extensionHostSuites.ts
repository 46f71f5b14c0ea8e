/** The suites that run inside VS Code's extension host: what they need, laid out in a folder. The same for the VS Code
 *  server of the tests and for a desktop. */
import { chmodSync, cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { build } from 'esbuild';
import { makeVsix } from '../../packaging/vsix.ts';
import { KernelFolder } from '../extension/kernelFolder.ts';
import { unpackBelow, unzip } from '../support/zip.ts';

export interface HostSuite {
  readonly name: string;
  /** The bundle, which lies in the folder of the extension: so it is given the extension's `vscode`. */
  readonly file: string;
  readonly workspace: string;
}

export interface HostSuites {
  /** The extension as its VSIX has it, but for the adapter: that is a scripted one. */
  readonly extension: string;
  readonly suites: readonly HostSuite[];
  /** For VS Code: a kvmtool that nothing runs is on PATH. */
  readonly environment: { readonly PATH: string };
}

/** `folder` is empty, or not there. */
export async function layOut(folder: string): Promise<HostSuites> {
  mkdirSync(folder, { recursive: true });
  const extension = join(folder, 'extension');
  // The portable one, as suites run on desktops of every kind; the extension in it is the same.
  unpackBelow(unzip(readFileSync(await makeVsix('portable', folder))), 'extension/', extension);
  const entry = (name: string): string => join(import.meta.dirname, 'suites', `${name}.ts`);
  const bundle = (entryPoints: Record<string, string>, outdir: string): Promise<unknown> =>
    build({
      entryPoints,
      outdir,
      bundle: true,
      platform: 'node',
      target: 'node20',
      format: 'cjs',
      external: ['vscode'],
      sourcemap: 'inline',
      logLevel: 'warning',
    });
  await bundle({ adapter: entry('adapter') }, join(extension, 'dist'));
  const names = ['kernelTree', 'emptyFolder'];
  await bundle(Object.fromEntries(names.map((name) => [name, entry(`${name}.suite`)])), join(extension, 'test'));
  // package.json says that .js files are ES modules.
  cpSync(join(extension, 'dist/package.json'), join(extension, 'test/package.json'));

  const tree = new KernelFolder(join(folder, 'kernelTree'));
  tree.sources();
  tree.build();
  tree.write('init/main.c', 'void start_kernel(void)\n{\n}\n');
  tree.write('arch/arm64/kernel/head.S', 'nop\n');
  tree.write('arch/x86/kernel/head_64.S', 'nop\n');
  tree.write('boot.dmesg', '[    0.000000] Linux version 6.1.0\n');
  mkdirSync(join(folder, 'emptyFolder'), { recursive: true });
  writeFileSync(join(folder, 'emptyFolder/main.c'), 'int main(void)\n{\n}\n');

  const programs = join(folder, 'programs');
  mkdirSync(programs, { recursive: true });
  writeFileSync(join(programs, 'lkvm'), '#!/bin/false\n');
  chmodSync(join(programs, 'lkvm'), 0o755);
  return {
    extension,
    suites: names.map((name) => ({
      name,
      file: join(extension, 'test', `${name}.js`),
      workspace: join(folder, name),
    })),
    environment: { PATH: [programs, process.env.PATH].join(delimiter) },
  };
}
