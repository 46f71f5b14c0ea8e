/** VS Code with the extension installed from its VSIX, driven through a browser as a user would. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type Browser, chromium, type Locator, type Page } from 'playwright-core';
import { command } from '../lab/command.ts';
import type { Installation } from './installation.ts';

/** What would cover or move what the tests look at. */
const SETTINGS = {
  'security.workspace.trust.enabled': false,
  'workbench.startupEditor': 'none',
  'workbench.reduceMotion': 'on',
  'workbench.enableExperiments': false,
  'telemetry.telemetryLevel': 'off',
  'update.mode': 'none',
  'extensions.autoUpdate': false,
  'extensions.ignoreRecommendations': true,
  'chat.disableAIFeatures': true,
  'debug.openDebug': 'openOnSessionStart',
  'editor.minimap.enabled': false,
  'git.enabled': false,
};

/** Milliseconds; a bound for what hangs, also on a busy machine. */
const WAIT_LIMIT = 120_000;

const BROWSER_OPTIONS = [
  ...['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'],
  ...['--disable-component-update', '--disable-sync'],
];

/** Makes the VSIX from dist/ as `npm run package` does. Returns its path in `folder`. */
export async function makeVsix(repository: string, folder: string): Promise<string> {
  const file = join(folder, 'kvm-debug.vsix');
  const vsce = join(repository, 'node_modules/.bin/vsce');
  const options = ['--target', `linux-${process.arch}`, '--allow-missing-repository', '--no-rewrite-relative-links'];
  await command([vsce, 'package', ...options, '--out', file], { cwd: repository });
  return file;
}

/** What of the DOM the functions use that run in the page; its types would be those of all of the repository. */
interface PageElement {
  readonly textContent: string | null;
  getBoundingClientRect(): { readonly x: number; readonly y: number; readonly width: number; readonly height: number };
}
declare const document: {
  querySelector(selectors: string): PageElement | null;
  querySelectorAll(selectors: string): Iterable<PageElement>;
};

export class Workbench {
  readonly #server: ChildProcess;
  readonly #browser: Browser;
  readonly page: Page;

  private constructor(server: ChildProcess, browser: Browser, page: Page) {
    this.#server = server;
    this.#browser = browser;
    this.page = page;
  }

  /** Opens `workspace` in a fresh VS Code whose state is in `scratch`. */
  static async open(installed: Installation, vsix: string, workspace: string, scratch: string): Promise<Workbench> {
    const main = join(installed.vscode, 'out/server-main.js');
    const data = join(scratch, 'data');
    const folders = ['--server-data-dir', scratch, '--user-data-dir', data];
    const common = ['--accept-server-license-terms', ...folders, '--extensions-dir', join(scratch, 'extensions')];
    for (const place of ['User', 'Machine']) {
      mkdirSync(join(data, place), { recursive: true });
      writeFileSync(join(data, place, 'settings.json'), JSON.stringify(SETTINGS));
    }
    await command([installed.node, main, ...common, '--install-extension', vsix, '--force']);

    const listen = ['--host', '127.0.0.1', '--port', '0', '--without-connection-token', '--telemetry-level', 'off'];
    // In a group of its own, which ends it: the extension host can outlive the server.
    const server = spawn(installed.node, [main, ...common, ...listen], {
      detached: true,
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    try {
      const url = await served(server);
      const { program, environment } = installed.chromium;
      const env = Object.fromEntries(Object.entries(environment).map(([name, value]) => [name, value ?? '']));
      const browser = await chromium.launch({ executablePath: program, env, args: BROWSER_OPTIONS });
      try {
        const page = await browser.newPage({ viewport: { width: 1400, height: 900 } });
        page.setDefaultTimeout(WAIT_LIMIT);
        await page.goto(`${url}/?folder=${encodeURIComponent(workspace)}`);
        await page.locator('.monaco-workbench').waitFor();
        return new Workbench(server, browser, page);
      } catch (error) {
        await browser.close();
        throw error;
      }
    } catch (error) {
      endGroup(server);
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.#browser.close();
    endGroup(this.#server);
    if (this.#server.exitCode === null && this.#server.signalCode === null) await once(this.#server, 'exit');
  }

  async openFile(name: string): Promise<void> {
    await this.page.keyboard.press('Control+P');
    await this.page.locator('.quick-input-widget input').fill(name);
    await this.page.locator('.quick-input-list .monaco-list-row', { hasText: name }).first().waitFor();
    await this.page.keyboard.press('Enter');
    await this.page.locator('.tab.active', { hasText: name }).waitFor();
  }

  /** Sets a breakpoint by a click beside a line of the open file that can be seen. */
  async clickGutter(line: number): Promise<void> {
    const { x, y } = await this.#marginBeside(line);
    await this.#hoverUntilHint(x, y);
    await this.page.mouse.click(x, y);
    await this.page.locator('.codicon-debug-breakpoint, .codicon-debug-breakpoint-unverified').first().waitFor();
  }

  /** Where the margin for breakpoints lies beside a line: looked up in one step of the page, since an editor that is being laid
   *  out or coloured replaces its rows. */
  async #marginBeside(line: number): Promise<{ x: number; y: number }> {
    const found = await this.page.waitForFunction((text) => {
      const numbers = [...document.querySelectorAll('.monaco-editor .line-numbers')];
      const row = numbers.find(({ textContent }) => textContent === text)?.getBoundingClientRect();
      const margin = document.querySelector('.monaco-editor .glyph-margin')?.getBoundingClientRect();
      if (!row?.height || !margin?.width) return undefined;
      return { x: margin.x + margin.width / 2, y: row.y + row.height / 2 };
    }, `${line}`);
    const place = await found.jsonValue();
    if (!place) throw new Error(`line ${line} cannot be seen`);
    return place;
  }

  /** The breakpoint hint under the pointer shows that debuggers are registered: before that a click, and F5, are swallowed. */
  async #hoverUntilHint(x: number, y: number): Promise<void> {
    const hint = this.page.locator('.codicon-debug-hint');
    for (let attempt = 0; (await hint.count()) === 0; attempt++) {
      if (attempt === 60) throw new Error('VS Code offers no breakpoints in this file');
      await this.page.mouse.move(x, y + (attempt % 2));
      await this.page.waitForTimeout(500);
    }
  }

  /** Sets a breakpoint by keyboard on a line of the open file that may have to be scrolled to. */
  async toggleBreakpoint(line: number): Promise<void> {
    const { x, y } = await this.#marginBeside(2); // any that can be seen
    await this.#hoverUntilHint(x, y);
    await this.page.keyboard.press('Control+G');
    await this.page.locator('.quick-input-widget input').fill(`:${line}`);
    await this.page.keyboard.press('Enter');
    await this.page.keyboard.press('F9');
    await this.page.locator('.codicon-debug-breakpoint, .codicon-debug-breakpoint-unverified').first().waitFor();
  }

  /** Types an expression into the Debug Console. Returns the rows of the console. */
  async evaluate(expression: string): Promise<Locator> {
    await this.page.keyboard.press('F1');
    await this.page.locator('.quick-input-widget input').fill('>Debug Console: Focus on Debug Console View');
    await this.page.locator('.quick-input-list .monaco-list-row', { hasText: 'Debug Console View' }).first().waitFor();
    await this.page.keyboard.press('Enter');
    await this.page.locator('.repl-input-wrapper .monaco-editor.focused').waitFor();
    await this.page.keyboard.type(expression);
    await this.page.keyboard.press('Enter');
    return this.page.locator('.repl .monaco-list-row');
  }
}

/** The address the server prints once it accepts connections. */
async function served(server: ChildProcess): Promise<string> {
  if (!server.stdout) throw new Error('the server has no output');
  for await (const line of createInterface(server.stdout)) {
    const address = /Web UI available at (http:\/\/[^/\s]+)/.exec(line)?.[1];
    if (address) {
      server.stdout.resume();
      return address;
    }
  }
  throw new Error(`VS Code's server ended (${server.signalCode ?? server.exitCode}) before it listened`);
}

function endGroup(server: ChildProcess): void {
  if (server.pid === undefined) return;
  try {
    process.kill(-server.pid, 'SIGKILL');
  } catch {
    // The group is already gone.
  }
}
