// The demo as a user of the installed extension meets it: the command, the folder, F5, and a stop in the lab's kernel.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { kernelSource } from '../../lab/lab.ts';
import { tourFile } from '../../src/extension/demoFolder.ts';
import { inWorkbench, picture, scratch, skip } from './inWorkbench.ts';

/** A bound for what hangs: emulated, and beside other work, a boot may take minutes. */
const patience = { timeout: 300_000 };

test('the demo: opened by its command, booted by F5, stopped at the first instruction and in start_kernel', {
  skip,
}, async () => {
  const source = readFileSync(join(await kernelSource(), 'init/main.c'), 'utf8');
  const line = source.split('\n').findIndex((text) => text.includes('\tboot_cpu_init();')) + 1;
  await inWorkbench('demo', { request: 'launch' }, async (workbench) => {
    const { page } = workbench;
    const frame = (text: string) => page.locator('.debug-call-stack .monaco-list-row', { hasText: text }).first();
    const register = page.locator('.debug-variables .monaco-list-row', { hasText: /^x0\b.*0x/ }).first();

    await workbench.openFile('main.c');
    await workbench.debuggersReady();
    await workbench.command('KVM Debug: Open the Demo');
    const dialog = page.locator('.monaco-dialog-box', { hasText: 'ready to be opened' });
    await dialog.waitFor(patience);
    await picture(page, 'demo-ready');
    await dialog.getByText('Open Here').click();
    await page.locator('.tab.active', { hasText: tourFile }).waitFor(patience);
    const tour = page.frameLocator('iframe.webview.ready:visible').frameLocator('#active-frame');
    await tour.getByText('Press F5').first().waitFor(patience);
    await picture(page, 'demo-tour');

    await page.keyboard.press('F5');
    await page.locator('.notification-toast', { hasText: 'starting the lab' }).waitFor(patience);
    await picture(page, 'demo-booting');
    await page.getByText('Stopped on entry').first().waitFor(patience);
    await register.waitFor(patience);
    await picture(page, 'demo-entry');

    // As the page has it: its link leads to the line.
    await page.locator('.tab', { hasText: tourFile }).click();
    await tour.getByRole('link', { name: 'linux/init/main.c' }).click();
    await page.locator('.tab.active', { hasText: 'main.c' }).waitFor();
    await workbench.clickGutter(line);
    await workbench.proceed('F5');
    await frame('start_kernel').waitFor(patience);
    await page.locator('.codicon-debug-stackframe').first().waitFor();
    await picture(page, 'demo-breakpoint');
    // Assembly is compiled under another path than C.
    await frame('__primary_switched').click();
    await page.locator('.tab.active', { hasText: 'head.S' }).waitFor(patience);
    await frame('start_kernel').click();
    await page.locator('.tab.active', { hasText: 'main.c' }).waitFor(patience);
    // A file of the kernel that nobody has opened is found in the demo's folder.
    await workbench.proceed('F11');
    await page.locator('.tab.active', { hasText: 'cpu.c' }).waitFor(patience);
    await picture(page, 'demo-step');
    await page.keyboard.press('Shift+F5');
    await page.locator('.debug-toolbar').waitFor({ state: 'hidden', ...patience });

    // The lab is still there: no boot is shown.
    await page.keyboard.press('F5');
    const boot = page.locator('.notification-toast', { hasText: 'starting the lab' });
    const stop = page.getByText('Stopped on entry').first();
    await boot.or(stop).first().waitFor(patience);
    assert.equal(await boot.count(), 0);
    await register.waitFor(patience);
    await page.keyboard.press('Shift+F5');
    await page.locator('.debug-toolbar').waitFor({ state: 'hidden', ...patience });
  });
});

test('what the demo would fetch is said first, and not fetched unless the user agrees', { skip }, async () => {
  const previous = process.env.XDG_CACHE_HOME;
  const cache = join(scratch, 'empty-cache');
  process.env.XDG_CACHE_HOME = cache;
  try {
    await inWorkbench('demo-fetch', { request: 'launch' }, async (workbench) => {
      const { page } = workbench;
      await workbench.openFile('main.c');
      await workbench.debuggersReady();
      await workbench.command('KVM Debug: Open the Demo');
      const dialog = page.locator('.monaco-dialog-box', { hasText: /fetch about \d+ MB/ });
      await dialog.waitFor(patience);
      await picture(page, 'demo-fetch');
      assert.ok((await dialog.textContent())?.includes(join(cache, 'kvm-debug')));
      await page.keyboard.press('Escape');
      await dialog.waitFor({ state: 'hidden' });
      // The walkthrough leads there too.
      await workbench.command('Welcome: Open Walkthrough...');
      await page.locator('.quick-input-list .monaco-list-row', { hasText: 'Debug a Guest Kernel' }).click();
      await page.locator('.getting-started-step', { hasText: 'Try the demo' }).click();
      await page.locator('.getting-started-step a, .getting-started-step button', { hasText: 'Open the Demo' }).click();
      await dialog.waitFor(patience);
      await page.keyboard.press('Escape');
      await dialog.waitFor({ state: 'hidden' });
      await picture(page, 'demo-walkthrough');
      assert.deepEqual(readdirSync(join(cache, 'kvm-debug')), []);
    });
  } finally {
    if (previous === undefined) delete process.env.XDG_CACHE_HOME;
    else process.env.XDG_CACHE_HOME = previous;
  }
});
