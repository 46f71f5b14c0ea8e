import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Page } from 'playwright-core';
import { reportProgress } from '../lab/cache.ts';
import { kernelSource, lkvm } from '../lab/lab.ts';
import { guestConfiguration, startAdapterInLab } from '../support/labAdapter.ts';
import { type Installation, installation } from './installation.ts';
import { ScriptedAdapter } from './scriptedAdapter.ts';
import { makeVsix, Workbench } from './workbench.ts';

const repository = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const scratch = mkdtempSync(join(tmpdir(), 'kvm-debug-vscode-'));
after(() => rmSync(scratch, { recursive: true, force: true }));

/** Screenshots go where KVM_DEBUG_SCREENSHOTS names a folder: to be looked at, not compared. */
async function picture(page: Page, name: string): Promise<void> {
  const folder = process.env.KVM_DEBUG_SCREENSHOTS;
  if (folder !== undefined) await page.screenshot({ path: join(folder, `${name}.png`) });
}

let installed: Installation | undefined;
let skip: string | false = false;
try {
  installed = await installation(reportProgress);
} catch (error) {
  skip = `VS Code cannot be set up here: ${error instanceof Error ? error.message : error}`;
}
const vsix = installed && (await makeVsix(repository, scratch));

/** Runs `body` in a VS Code with the VSIX installed and a workspace of `files` and launch.json. */
async function inWorkbench(
  name: string,
  configuration: object,
  body: (workbench: Workbench, workspace: string) => Promise<void>,
  files: Readonly<Record<string, string>> = {
    'main.c': 'void setup(void);\n\nvoid start_kernel(void)\n{\n\tsetup();\n}\n',
  },
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
  const workbench = await Workbench.open(installed, vsix, workspace, join(scratch, name, 'server'));
  try {
    await body(workbench, workspace);
  } catch (error) {
    const picture = join(tmpdir(), `kvm-debug-${name}.png`);
    await workbench.page.screenshot({ path: picture });
    throw new Error(`see ${picture}`, { cause: error });
  } finally {
    await workbench.close();
  }
}

test('F5 from the VSIX shows the stop: stack, registers, breakpoint', { skip }, async () => {
  const adapter = await ScriptedAdapter.listen(join(scratch, 'stop/workspace/main.c'));
  try {
    const configuration = { request: 'attach', pid: 4711, debugServer: adapter.port };
    await inWorkbench('stop', configuration, async (workbench) => {
      const { page } = workbench;
      await workbench.openFile('main.c');
      await workbench.clickGutter(5);
      await page.keyboard.press('F5');
      await page.locator('.codicon-debug-stackframe').first().waitFor();
      await page.locator('.debug-call-stack .monaco-list-row', { hasText: 'start_kernel' }).waitFor();
      await page.locator('.debug-call-stack .monaco-list-row', { hasText: 'vCPU 1' }).waitFor();
      // VS Code opens the first scope that is not expensive.
      await page.locator('.debug-variables .monaco-list-row', { hasText: '0x0000000040000000' }).waitFor();
    });
    const breakpoints = adapter.argumentsOf('setBreakpoints')?.breakpoints as { line: number }[];
    assert.deepEqual(
      breakpoints.map(({ line }) => line),
      [5],
    );
  } finally {
    adapter.close();
  }
});

test('F5 starts the adapter of the VSIX, whose refusal is shown', { skip }, async () => {
  // With the VMM named the extension looks for none on PATH.
  const configuration = { request: 'launch', vmm: 'kvmtool', kernel: 'missing/Image' };
  await inWorkbench('refusal', configuration, async (workbench, workspace) => {
    await workbench.openFile('main.c');
    await workbench.clickGutter(5);
    await workbench.page.keyboard.press('F5');
    await workbench.page.locator('.monaco-dialog-box', { hasText: join(workspace, 'missing/Image') }).waitFor();
  });
});

test('F5 debugs a real kernel under KVM in the lab', { skip }, async () => {
  const source = readFileSync(join(await kernelSource(), 'init/main.c'), 'utf8');
  const line = source.split('\n').findIndex((text) => text.includes('\tboot_cpu_init();')) + 1;
  const adapter = await startAdapterInLab();
  try {
    const vmm = lkvm() === undefined ? 'qemu' : 'kvmtool';
    const configuration = { request: 'launch', ...guestConfiguration(vmm), debugServer: adapter.port };
    const work = async (workbench: Workbench): Promise<void> => {
      const { page } = workbench;
      await workbench.openFile('main.c');
      await workbench.toggleBreakpoint(line);
      await page.keyboard.press('F5');
      await page.getByText('Stopped on entry').first().waitFor({ timeout: 300_000 });
      await page.locator('.debug-variables .monaco-list-row', { hasText: /^x0\b/ }).first().waitFor();
      await picture(page, 'entry');
      await page.locator('.debug-toolbar .codicon-debug-continue').click();
      await page
        .locator('.debug-call-stack .monaco-list-row', { hasText: 'start_kernel' })
        .waitFor({ timeout: 300_000 });
      await page.locator('.codicon-debug-stackframe').first().waitFor();
      await page
        .locator('.debug-variables .monaco-list-row', { hasText: /^command_line\b/ })
        .first()
        .waitFor();
      await picture(page, 'breakpoint');
      await (await workbench.evaluate('init_task.comm')).filter({ hasText: '"swapper' }).waitFor();
      // An array of more than a hundred elements comes in pages (DAP, `indexedVariables`).
      const rows = await workbench.evaluate('__per_cpu_offset');
      await rows
        .filter({ hasText: /^\{.*\}$/ })
        .last()
        .locator('.monaco-tl-twistie')
        .click();
      await rows.filter({ hasText: '[100..199]' }).locator('.monaco-tl-twistie').click();
      await rows.filter({ hasText: /^\[199\]/ }).waitFor();
      await picture(page, 'array');
      await page.keyboard.press('F10');
      await page.getByText('Step completed').first().waitFor({ timeout: 300_000 });
      await picture(page, 'step');
    };
    await inWorkbench('lab', configuration, work, { 'init/main.c': source });
  } finally {
    await adapter.close();
  }
});
