// For @vscode/test-cli: `npm run test:desktop` lays all of this out first.
import { join } from 'node:path';
import { defineConfig } from '@vscode/test-cli';

const folder = join(import.meta.dirname ?? '.', '.vscode-test/laid');
const installed = process.env.VSCODE;

export default defineConfig(
  ['kernelTree', 'emptyFolder'].map((name) => ({
    label: name,
    files: `.vscode-test/laid/extension/test/${name}.js`,
    extensionDevelopmentPath: join(folder, 'extension'),
    workspaceFolder: join(folder, name),
    // A fresh one each time; the environment is ours, not that of a login shell.
    launchArgs: ['--user-data-dir', join(folder, 'user'), '--disable-extensions', '--force-disable-user-env'],
    mocha: { timeout: 60_000 },
    ...(installed ? { useInstallation: { fromPath: installed } } : {}),
  })),
);
