// A guest behind a GDB stub, in VS Code: by the adapter of the VSIX, on this machine, with a real kernel in QEMU.
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { command } from '../../lab/command.ts';
import { vmlinux } from '../../lab/lab.ts';
import { QemuStub } from '../remote/qemu.ts';
import { inWorkbench, picture, scratch, skip } from './inWorkbench.ts';

/** A bound for what hangs: emulated, and beside other work. */
const patience = { timeout: 300_000 };

/** The extension that VS Code's memory view wants, played by one that is made here. */
async function hexEditor(): Promise<string> {
  const file = join(scratch, 'hexeditor.vsix');
  const path = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
  const options = ['--allow-missing-repository', '--skip-license', '--out', file];
  await command([path('../../node_modules/.bin/vsce'), 'package', ...options], { cwd: path('hexEditor') });
  return file;
}

test('a stub is attached to, its guest stopped in start_kernel, stepped, and left running', { skip }, async () => {
  const { file } = await vmlinux();
  const stub = await QemuStub.start({ parameters: 'nokaslr guest.do=ticks guest.ticks=1000' });
  try {
    const configuration = { request: 'attach', remote: `127.0.0.1:${stub.port}`, symbols: file, stopOnEntry: true };
    await inWorkbench(
      'remote',
      configuration,
      async (workbench) => {
        const { page } = workbench;
        await workbench.openFile('main.c');
        await workbench.debuggersReady();
        await workbench.breakAtFunction('start_kernel');
        await page.keyboard.press('F5');
        await page.getByText('Stopped on entry').first().waitFor(patience);
        await workbench.proceed('F5');
        await page.locator('.debug-call-stack .monaco-list-row', { hasText: 'start_kernel' }).first().waitFor(patience);
        await page.getByText('Paused on function breakpoint').first().waitFor(patience);
        await page
          .locator('.debug-variables .monaco-list-row', { hasText: /^command_line\b/ })
          .first()
          .waitFor();
        await picture(page, 'remote');

        // Memory: the function begins with paciasp. One more than its first byte is another hint (Arm ARM, C6.2).
        await workbench.openScope('General');
        await page.keyboard.type('pc');
        const pc = page.locator('.debug-variables .monaco-list-row', { hasText: /^pc\b/ }).first();
        await pc.hover();
        await pc.locator('[aria-label*="Binary Data"]').first().click();
        await page.locator('.tab.active', { hasText: 'memory' }).waitFor();
        const memory = page.frameLocator('iframe.webview.ready:visible').frameLocator('#active-frame');
        await memory.getByText(/^3f 23 03 d5 /).waitFor();
        await picture(page, 'memory');
        await memory.getByRole('button').click();
        await memory.getByText(/^40 23 03 d5 /).waitFor();
        await (await workbench.evaluate('*(unsigned char *)$pc = 0x3f'))
          .filter({ hasText: /0x3f|63/ })
          .last()
          .waitFor();

        await workbench.proceed('F10');
        await page.getByText('Step completed').first().waitFor(patience);
        await workbench.command('Remove All Breakpoints');
        await page.locator('.debug-toolbar .codicon-debug-disconnect').click();
        await page.locator('.debug-toolbar').waitFor({ state: 'hidden', ...patience });
      },
      undefined,
      [await hexEditor()],
    );
    await stub.waitFor(/GUEST-TICK 2/);
  } finally {
    await stub.kill();
  }
});
