import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { inWorkbench, scratch, skip } from './inWorkbench.ts';
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
