// A VS Code with the extension in it, for the tests of one file.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after } from 'node:test';
import type { Page } from 'playwright-core';
import { cacheRoot, reportProgress } from '../../lab/cache.ts';
import { makeVsix } from '../../packaging/vsix.ts';
import { type Installation, installation } from './installation.ts';
import { Workbench } from './workbench.ts';

export const scratch = mkdtempSync(join(tmpdir(), 'kvm-debug-vscode-'));
after(() => rmSync(scratch, { recursive: true, force: true }));

const pictures = process.env.KVM_DEBUG_SCREENSHOTS ?? join(cacheRoot(), 'screenshots');
mkdirSync(pictures, { recursive: true });

/** Screenshots are kept to be looked at, not compared. */
export async function picture(page: Page, name: string): Promise<void> {
  await page.screenshot({ path: join(pictures, `${name}.png`) });
}

let installed: Installation | undefined;
let reason: string | false = false;
try {
  installed = await installation(reportProgress);
} catch (error) {
  reason = `VS Code cannot be set up here: ${error instanceof Error ? error.message : error}`;
}
/** Why VS Code cannot be tried here. */
export const skip = reason;
const vsix = installed && (await makeVsix(process.arch === 'arm64' ? 'linux-arm64' : 'linux-x64', scratch));

/** Runs `body` in a VS Code with the VSIX installed, and `others`, and a workspace of `files` and launch.json. */
export async function inWorkbench(
  name: string,
  configuration: object,
  body: (workbench: Workbench, workspace: string) => Promise<void>,
  files: Readonly<Record<string, string>> = {
    'main.c': 'void setup(void);\n\nvoid start_kernel(void)\n{\n\tsetup();\n}\n',
  },
  others: readonly string[] = [],
): Promise<void> {
  assert.ok(installed && vsix);
  const workspace = join(scratch, name, 'workspace');
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(workspace, path)), { recursive: true });
    writeFileSync(join(workspace, path), text);
  }
  mkdirSync(join(workspace, '.vscode'), { recursive: true });
  const launch = { version: '0.2.0', configurations: [{ type: 'kvm', name: 'Guest kernel', ...configuration }] };
  writeFileSync(join(workspace, '.vscode/launch.json'), JSON.stringify(launch));
  const workbench = await Workbench.open(installed, [vsix, ...others], workspace, join(scratch, name, 'server'));
  try {
    await body(workbench, workspace);
  } catch (error) {
    const picture = join(tmpdir(), `kvm-debug-${name}.png`);
    await workbench.page.screenshot({ path: picture });
    const complaints = workbench.complaints.slice(-10).join('\n').slice(-4000);
    const message = error instanceof Error ? error.message : error;
    throw new Error(`${message}\nsee ${picture}\nVS Code complained:\n${complaints}`, { cause: error });
  } finally {
    await workbench.close();
  }
}
