/** What the extension costs VS Code: its activation, as VS Code measures it, and the sizes of the bundles. */
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { reportProgress } from '../../lab/cache.ts';
import { command } from '../../lab/command.ts';
import { makeVsix } from '../../packaging/vsix.ts';
import { installation } from '../vscode/installation.ts';
import { Workbench } from '../vscode/workbench.ts';
import type { Row } from './samples.ts';

const starts = 7;
const ours = 'kvm-debug.kvm-debug';
/** VS Code's own debugger, which it ships. */
const peer = 'ms-vscode.js-debug';
const root = join(import.meta.dirname, '../..');

/** ms */
interface Activation {
  readonly load: number;
  readonly call: number;
  readonly finish: number;
}
const total = ({ load, call, finish }: Activation): number => load + call + finish;

export async function extensionRows(): Promise<readonly Row[]> {
  const scratch = mkdtempSync(join(tmpdir(), 'kvm-debug-bench-'));
  try {
    await command([process.execPath, 'esbuild.mjs'], { cwd: root });
    const vsix = await makeVsix(process.arch === 'arm64' ? 'linux-arm64' : 'linux-x64', scratch, reportProgress);
    const installed = await installation(reportProgress);
    const workspace = join(scratch, 'workspace');
    mkdirSync(workspace);
    writeFileSync(join(workspace, 'main.c'), 'int main(void)\n{\n}\n');
    const mine: Activation[] = [];
    const theirs: Activation[] = [];
    // Of the first start only that the files are in memory is kept.
    for (let start = 0; start <= starts; start++) {
      console.log(`start ${start} of ${starts}`);
      const server = join(scratch, `server-${start}`);
      const workbench = await Workbench.open(installed, [vsix], workspace, server);
      try {
        await activateBoth(workbench);
        const activations = await startupPerformance(workbench);
        const [our, their] = [activations(ours), activations(peer)];
        if (start === 0) continue;
        mine.push(our);
        theirs.push(their);
      } finally {
        await workbench.close();
        rmSync(server, { recursive: true, force: true });
      }
    }
    const row = (name: string, of: readonly Activation[], part: (activation: Activation) => number): Row => ({
      name,
      unit: 'ms',
      samples: of.map(part),
    });
    const theirName = `activation, ${peer}`;
    return [
      row(theirName, theirs, total),
      {
        ...row('activation, kvm-debug', mine, total),
        peer: theirName,
        ratios: mine.map((activation, start) => total(activation) / total(theirs[start] ?? activation)),
        note: 'to be below 50 ms',
      },
      row('  loading its code', mine, ({ load }) => load),
      row('  activate()', mine, ({ call, finish }) => call + finish),
      size('extension.js', 'to be below 200 KB'),
      size('adapter.js', 'to be below 1000 KB; without koffi, with 37 KB that load Capstone'),
    ];
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

const size = (program: string, note: string): Row => ({
  name: program,
  unit: 'KB',
  samples: [statSync(join(root, 'dist', program)).size / 1000],
  note,
});

/** One after the other: extensions that are activated by one event wait for each other's code, and it counts as theirs. */
async function activateBoth(workbench: Workbench): Promise<void> {
  const { page } = workbench;
  // F5 on a C file, without a launch.json: ours says that there is no kernel.
  await workbench.openFile('main.c');
  await workbench.debuggersReady();
  await page.keyboard.press('F5');
  const dialog = page.locator('.monaco-dialog-box');
  await dialog.waitFor();
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'hidden' });
  // F5 without a file: VS Code has all debuggers loaded, and lists them.
  await page.locator('.tab.active').click({ button: 'middle' });
  await page.locator('.tab').waitFor({ state: 'detached' });
  await page.keyboard.press('F5');
  await page
    .locator('.quick-input-list .monaco-list-row', { hasText: /^KVM Kernel Debugger/ })
    .first()
    .waitFor();
  await page.keyboard.press('Escape');
}

/** What "Developer: Startup Performance" tells of activations. */
async function startupPerformance(workbench: Workbench): Promise<(extension: string) => Activation> {
  const { page } = workbench;
  // An editor holds the lines only that it shows.
  await page.setViewportSize({ width: 2400, height: 4000 });
  await workbench.command('Developer: Startup Performance');
  await page.locator('.view-line', { hasText: ours }).first().waitFor();
  await page.locator('.view-line', { hasText: peer }).first().waitFor();
  const lines = await linesOf(page);
  const cells = (line: string): string[] => line.split('|').map((cell) => cell.trim());
  const heading = lines.map(cells).find(([, first]) => first === 'Extension') ?? [];
  return (extension) => {
    const row = lines.map(cells).find(([, first]) => first === extension) ?? [];
    const value = (column: string): number => Number.parseInt(row[heading.indexOf(column)] ?? '', 10);
    const activation = { load: value('Load Code'), call: value('Call Activate'), finish: value('Finish Activate') };
    if (Number.isNaN(total(activation))) throw new Error(`VS Code tells no activation times of ${extension}`);
    return activation;
  };
}

const linesOf = async (page: Page): Promise<string[]> =>
  (await page.locator('.view-line').allTextContents()).map((line) => line.replaceAll('\u00a0', ' '));
