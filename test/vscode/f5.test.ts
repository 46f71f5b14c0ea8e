import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Session } from '../../src/dap/session.ts';
import { fakeServices } from '../support/fakeSession.ts';
import { inWorkbench, picture, scratch, skip } from './inWorkbench.ts';
import { ScriptedAdapter } from './scriptedAdapter.ts';

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

test("the guest's console is a terminal of VS Code's, which can be typed at", { skip }, async () => {
  const { services, printed, typed } = fakeServices();
  const consoleProgram = fileURLToPath(new URL('../../dist/console.js', import.meta.url));
  const server = createServer((socket) => {
    new Session(socket, socket, { ...services, consoleProgram });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    const { port } = server.address() as AddressInfo;
    const configuration = { request: 'launch', command: ['vmm'], stopOnEntry: true, debugServer: port };
    await inWorkbench('console', configuration, async (workbench) => {
      const { page } = workbench;
      await workbench.openFile('main.c');
      await workbench.debuggersReady();
      await page.keyboard.press('F5');
      printed.write('Debian GNU/Linux guest ttyS0\r\n\r\nguest login: ');
      await page.locator('.terminal-wrapper.active .xterm-rows', { hasText: 'guest login:' }).waitFor();
      await page.locator('.terminal-wrapper.active .xterm').click();
      await page.keyboard.type('root');
      await page.keyboard.press('Enter');
      printed.write('root\r\nguest:~# ');
      await page.locator('.terminal-wrapper.active .xterm-rows', { hasText: 'guest:~#' }).waitFor();
      await picture(page, 'console');
      let text = '';
      for await (const piece of typed) {
        text += piece;
        if (text.includes('\r')) break;
      }
      assert.equal(text, 'root\r');
      await page.locator('.debug-toolbar .codicon-debug-stop').click();
      await page.locator('.debug-toolbar').waitFor({ state: 'hidden' });
    });
  } finally {
    server.close();
  }
});
