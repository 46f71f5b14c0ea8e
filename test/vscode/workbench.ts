/** VS Code with the extension installed from its VSIX, driven through a browser as a user would. */
import type { Browser, Locator, Page } from 'playwright-core';
import type { Installation } from './installation.ts';
import { openBrowser, Server } from './server.ts';

/** Milliseconds; a bound for what hangs, also on a busy machine. */
const WAIT_LIMIT = 120_000;

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
  readonly #server: Server;
  readonly #browser: Browser;
  readonly page: Page;
  /** What VS Code has complained of, the latest last: why it shows an error is told there alone. */
  readonly complaints: string[] = [];

  private constructor(server: Server, browser: Browser, page: Page) {
    this.#server = server;
    this.#browser = browser;
    this.page = page;
    page.on('console', (message) => {
      if (message.type() === 'error') this.complaints.push(message.text());
    });
  }

  /** Opens `workspace` in a fresh VS Code with these extensions, whose state is in `scratch`. */
  static async open(
    installed: Installation,
    vsix: readonly string[],
    workspace: string,
    scratch: string,
  ): Promise<Workbench> {
    const server = await Server.start(installed, scratch, { vsix });
    try {
      const browser = await openBrowser(installed);
      try {
        const page = await browser.newPage({ viewport: { width: 1400, height: 900 } });
        page.setDefaultTimeout(WAIT_LIMIT);
        await page.goto(`${server.url}/?folder=${encodeURIComponent(workspace)}`);
        await page.locator('.monaco-workbench').waitFor();
        return new Workbench(server, browser, page);
      } catch (error) {
        await browser.close();
        throw error;
      }
    } catch (error) {
      await server.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.#browser.close();
    await this.#server.close();
  }

  async openFile(name: string): Promise<void> {
    await this.page.keyboard.press('Control+P');
    await this.page.locator('.quick-input-widget input').fill(name);
    // Not by Enter: before it is filtered, the list begins with the editor that was open last.
    await this.page.locator('.quick-input-list .monaco-list-row', { hasText: name }).first().click();
    await this.page.locator('.tab.active', { hasText: name }).waitFor();
  }

  /** Sets a breakpoint by a click beside a line of the open file that can be seen. */
  async clickGutter(line: number): Promise<void> {
    const { x, y } = await this.#marginBeside(line);
    await this.#hoverUntilHint(x, y);
    await this.page.mouse.click(x, y);
    await this.page.locator('.codicon-debug-breakpoint, .codicon-debug-breakpoint-unverified').first().waitFor();
  }

  /** Where the margin for breakpoints lies beside a line, any one unless told: looked up in one step of the page, since an
   *  editor that is being laid out or coloured replaces its rows. */
  async #marginBeside(line?: number): Promise<{ x: number; y: number }> {
    const found = await this.page.waitForFunction(
      (text) => {
        const numbers = [...document.querySelectorAll('.monaco-editor .line-numbers')];
        const wanted = numbers.find(({ textContent }) =>
          text ? textContent === text : /^\d+$/.test(textContent ?? ''),
        );
        const row = wanted?.getBoundingClientRect();
        const margin = document.querySelector('.monaco-editor .glyph-margin')?.getBoundingClientRect();
        if (!row?.height || !margin?.width) return undefined;
        return { x: margin.x + margin.width / 2, y: row.y + row.height / 2 };
      },
      `${line ?? ''}`,
    );
    const place = await found.jsonValue();
    if (!place) throw new Error(`line ${line} cannot be seen`);
    return place;
  }

  /** The breakpoint hint under the pointer shows that debuggers are registered: before that a click, and F5, are swallowed. */
  async #hoverUntilHint(x: number, y: number): Promise<void> {
    // Until a window is some seconds old VS Code does not know who provides texts that have no file, and shows an error
    // (vs/workbench/contrib/debug/browser/debug.contribution.ts: DebugContentProvider, LifecyclePhase.Eventually).
    await this.page.locator('#status\\.debug').waitFor();
    const hint = this.page.locator('.codicon-debug-hint');
    for (let attempt = 0; (await hint.count()) === 0; attempt++) {
      if (attempt === 60) throw new Error('VS Code offers no breakpoints in this file');
      await this.page.mouse.move(x, y + (attempt % 2));
      await this.page.waitForTimeout(500);
    }
  }

  /** Resolves once a breakpoint, and F5, would not be swallowed. */
  async debuggersReady(): Promise<void> {
    const { x, y } = await this.#marginBeside();
    await this.#hoverUntilHint(x, y);
  }

  /** Scrolls the open file to a line, and puts the cursor there. */
  async goToLine(line: number): Promise<void> {
    await this.page.keyboard.press('Control+G');
    await this.page.locator('.quick-input-widget input').fill(`:${line}`);
    // It must have understood: a key that is too early is lost.
    await this.page
      .locator('.quick-input-list .monaco-list-row', { hasText: `${line}` })
      .first()
      .click();
    await this.page.locator('.monaco-editor .line-numbers.active-line-number', { hasText: `${line}` }).waitFor();
  }

  /** Presses a key that lets a stopped guest go on: F5, F10, F11. Precondition: the Call Stack view shows the stop.
   *  VS Code shows it before it heeds such a key (debugSession.ts, handleStop: the state changes when the whole stack is
   *  there), and one that is too early is lost. The toolbar follows the state, and sooner than that view does. */
  async proceed(key: 'F5' | 'F10' | 'F11'): Promise<void> {
    await this.page.locator('.debug-toolbar .codicon-debug-continue').waitFor();
    await this.page.keyboard.press(key);
  }

  /** Runs a command of the palette. */
  async command(title: string): Promise<void> {
    const input = this.page.locator('.quick-input-widget input');
    // A key is lost while VS Code gives the focus to something else, as it does at a stop.
    for (let attempt = 0; attempt < 5 && !(await input.isVisible()); attempt++) {
      await this.page.keyboard.press('F1');
      await input.waitFor({ timeout: 5000 }).catch(() => undefined);
    }
    await input.fill(`>${title}`);
    // The label goes on with the key binding.
    await this.page.locator(`.quick-input-list .monaco-list-row[aria-label^="${title}"]`).first().click();
  }

  /** Opens a scope of the Variables view. */
  async openScope(name: string): Promise<void> {
    const row = this.page.locator('.debug-variables .monaco-list-row', { hasText: new RegExp(`^${name}$`) }).first();
    const open = this.page.locator('.debug-variables .monaco-list-row[aria-expanded="true"]', {
      hasText: new RegExp(`^${name}$`),
    });
    // A click that meets rows on their way to another place opens nothing, or another.
    for (let attempt = 0; attempt < 5 && (await row.getAttribute('aria-expanded')) !== 'true'; attempt++) {
      await row.click();
      await open.waitFor({ timeout: 5000 }).catch(() => undefined);
    }
    await open.waitFor();
  }

  /** Adds an expression to the Watch view. */
  async watch(expression: string): Promise<void> {
    await this.command('Run and Debug: Focus on Watch View');
    const header = this.page.locator('.pane-header[aria-label^="Watch"]');
    await header.hover();
    await header.locator('.codicon-watch-expressions-add').click();
    await this.page.locator('.debug-watch .monaco-inputbox input').fill(expression);
    await this.page.keyboard.press('Enter');
  }

  /** Adds a function breakpoint: before the first session, whose exception filters take what room the view has. */
  async breakAtFunction(name: string): Promise<void> {
    await this.command('Add Function Breakpoint');
    await this.page.locator('.debug-breakpoints .monaco-inputbox input').fill(name);
    await this.page.keyboard.press('Enter');
  }

  /** The row of the Breakpoints view that begins so, scrolled to. */
  async breakpointRow(label: string): Promise<Locator> {
    const row = this.page.locator(`.debug-breakpoints .monaco-list-row[aria-label^="${label}"]`);
    // The list has only those rows in the page that can be seen.
    for (const [turns, distance] of [
      [20, -100],
      [60, 20],
    ] as const) {
      for (let turn = 0; turn < turns && (await row.count()) === 0; turn++) {
        await this.page.locator('.debug-breakpoints').hover();
        await this.page.mouse.wheel(0, distance);
        await this.page.waitForTimeout(50);
      }
    }
    await row.waitFor();
    return row;
  }

  /** Sets a breakpoint on a line of the open file that needs more than a click: a text, and perhaps a mode. */
  async breakWhen(
    line: number,
    kind: 'Expression' | 'Hit Count' | 'Log Message',
    text: string,
    mode?: string,
  ): Promise<void> {
    await this.goToLine(line);
    await this.command('Debug: Add Conditional Breakpoint');
    const widget = this.page.locator('.breakpoint-widget');
    await widget.locator('select').first().selectOption(kind);
    if (mode !== undefined) await widget.locator('select').nth(1).selectOption(mode);
    await widget.locator('.monaco-editor').click();
    await widget.locator('.monaco-editor.focused').waitFor();
    await this.page.keyboard.type(text);
    await this.page.keyboard.press('Enter');
    await widget.waitFor({ state: 'detached' });
  }

  /** Chooses from the context menu that is open. */
  async chooseFromMenu(label: string): Promise<void> {
    const item = this.page.locator('.monaco-menu .action-item', { hasText: label });
    await item.hover();
    await this.page.locator('.monaco-menu .action-item.focused', { hasText: label }).waitFor();
    // Not by a click: it may be taken for the end of the one that opened the menu.
    await this.page.keyboard.press('Enter');
    await item.waitFor({ state: 'detached' });
  }

  async typeInConsole(text: string): Promise<void> {
    await this.command('Debug Console: Focus on Debug Console View');
    await this.page.locator('.repl-input-wrapper .monaco-editor.focused').waitFor();
    await this.page.keyboard.type(text);
  }

  /** Evaluates an expression in the Debug Console. Returns the rows of the console. */
  async evaluate(expression: string): Promise<Locator> {
    await this.typeInConsole(expression);
    await this.page.keyboard.press('Enter');
    return this.page.locator('.repl .monaco-list-row');
  }
}
