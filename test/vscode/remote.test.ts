// A guest behind a GDB stub, in VS Code: by the adapter of the VSIX, on this machine, with a real kernel in QEMU.
import { test } from 'node:test';
import { vmlinux } from '../../lab/lab.ts';
import { QemuStub } from '../remote/qemu.ts';
import { inWorkbench, picture, skip } from './inWorkbench.ts';

/** A bound for what hangs: emulated, and beside other work. */
const patience = { timeout: 300_000 };

test('a stub is attached to, its guest stopped in start_kernel, stepped, and left running', { skip }, async () => {
  const { file } = await vmlinux();
  const stub = await QemuStub.start({ parameters: 'nokaslr guest.do=ticks guest.ticks=1000' });
  try {
    const configuration = { request: 'attach', remote: `127.0.0.1:${stub.port}`, symbols: file, stopOnEntry: true };
    await inWorkbench('remote', configuration, async (workbench) => {
      const { page } = workbench;
      await workbench.openFile('main.c');
      await workbench.debuggersReady();
      await workbench.breakAtFunction('start_kernel');
      await page.keyboard.press('F5');
      await page.getByText('Stopped on entry').first().waitFor(patience);
      await page.keyboard.press('F5');
      await page.locator('.debug-call-stack .monaco-list-row', { hasText: 'start_kernel' }).first().waitFor(patience);
      await page.getByText('Paused on function breakpoint').first().waitFor(patience);
      await page
        .locator('.debug-variables .monaco-list-row', { hasText: /^command_line\b/ })
        .first()
        .waitFor();
      await picture(page, 'remote');
      await page.keyboard.press('F10');
      await page.getByText('Step completed').first().waitFor(patience);
      await workbench.command('Remove All Breakpoints');
      await page.locator('.debug-toolbar .codicon-debug-disconnect').click();
      await page.locator('.debug-toolbar').waitFor({ state: 'hidden', ...patience });
    });
    await stub.waitFor(/GUEST-TICK 2/);
  } finally {
    await stub.kill();
  }
});
