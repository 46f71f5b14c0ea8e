// The commands that the palette offers, without a guest and with one.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { inWorkbench, scratch, skip } from './inWorkbench.ts';
import { ScriptedAdapter } from './scriptedAdapter.ts';
import type { Workbench } from './workbench.ts';

interface Contributions {
  readonly commands: readonly { readonly command: string; readonly title: string; readonly category: string }[];
  readonly menus: { readonly commandPalette: readonly { readonly command: string; readonly when: string }[] };
}

const { commands, menus }: Contributions = JSON.parse(
  readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
).contributes;

/** As the palette writes those whose condition is chosen. */
function titles(chosen: (when: string) => boolean): readonly string[] {
  const shown = menus.commandPalette.filter(({ when }) => chosen(when)).map(({ command }) => command);
  const entries = commands.filter(({ command }) => shown.includes(command));
  return entries.map(({ category, title }) => `${category}: ${title}`).sort();
}
const always = titles((when) => when !== 'false' && !when.includes('inDebugMode'));
const all = titles((when) => when !== 'false');

async function palette({ page }: Workbench): Promise<readonly string[]> {
  await page.keyboard.press('F1');
  await page.locator('.quick-input-widget input').fill('>KVM Debug: ');
  const rows = page.locator('.quick-input-list .label-name');
  await rows.filter({ hasText: 'KVM Debug: Check This Machine' }).first().waitFor();
  const texts = await rows.allTextContents();
  await page.keyboard.press('Escape');
  await page.locator('.quick-input-widget').waitFor({ state: 'hidden' });
  return texts.filter((text) => text.startsWith('KVM Debug: ')).sort();
}

test('the palette has the commands of a guest while there is one', { skip }, async () => {
  assert.ok(always.length > 0 && all.length > always.length);
  const adapter = await ScriptedAdapter.listen(join(scratch, 'palette/workspace/main.c'));
  try {
    const configuration = { request: 'attach', pid: 4711, debugServer: adapter.port };
    await inWorkbench('palette', configuration, async (workbench) => {
      const { page } = workbench;
      await workbench.openFile('main.c');
      await workbench.debuggersReady();
      assert.deepEqual(await palette(workbench), always);
      await page.keyboard.press('F5');
      await page.locator('.debug-call-stack .monaco-list-row', { hasText: 'start_kernel' }).waitFor();
      assert.deepEqual(await palette(workbench), all);
      await page.keyboard.press('Shift+F5');
      await page.locator('.debug-toolbar').waitFor({ state: 'hidden' });
      assert.deepEqual(await palette(workbench), always);
    });
  } finally {
    adapter.close();
  }
});
