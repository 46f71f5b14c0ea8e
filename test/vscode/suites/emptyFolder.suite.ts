// The workspace is a folder with no kernel in it.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import * as vscode from 'vscode';
import { ScriptedUser } from './user.ts';
import { until } from './waiting.ts';

suite('in a folder without a kernel', () => {
  const [folder] = vscode.workspace.workspaceFolders ?? [];
  assert.ok(folder);
  const user = new ScriptedUser();
  const file = join(folder.uri.fsPath, 'main.c');

  setup(async () => {
    user.reset();
    await vscode.window.showTextDocument(vscode.Uri.file(file));
  });

  test('F5 says what is missing, where it was looked for, and what helps', async () => {
    await vscode.commands.executeCommand('workbench.action.debug.start');
    const path = folder.uri.fsPath;
    assert.deepEqual(user.told, [
      [
        `There is no kernel to launch: neither a vmlinux nor an arch/arm64/boot/Image is in ${path} or a folder directly below it.`,
        'Create launch.json',
        'Attach to a Running VM…',
      ],
    ]);
    assert.equal(vscode.debug.activeDebugSession, undefined);
  });

  test('a launch that names no kernel is not started either', async () => {
    const started = await vscode.debug.startDebugging(folder, { type: 'kvm', request: 'launch', name: 'Guest' });
    assert.equal(started, false);
    assert.match(user.told[0]?.[0] ?? '', /^launch: "kernel" is not set, and there is no arch\/arm64\/boot\/Image in /);
  });

  test('the machine is checked, and the report shown', async () => {
    await vscode.commands.executeCommand('kvm.checkMachine');
    await until(
      () => {
        const { activeTab } = vscode.window.tabGroups.activeTabGroup;
        return activeTab?.label.includes('This Machine') ? activeTab : undefined;
      },
      vscode.window.tabGroups.onDidChangeTabs as vscode.Event<never>,
    );
    const shown = vscode.Uri.from({ scheme: 'kvm-debug', path: '/This Machine.md' });
    assert.match((await vscode.workspace.openTextDocument(shown)).getText(), /\/dev\/kvm/);
  });

  test('"Create launch.json" makes one that names the usual files', async () => {
    user.button = 'Create launch.json';
    await vscode.commands.executeCommand('workbench.action.debug.start');
    const made = await until(
      () => {
        const document = vscode.window.activeTextEditor?.document;
        return document?.fileName.endsWith('launch.json') ? document : undefined;
      },
      vscode.window.onDidChangeActiveTextEditor as vscode.Event<never>,
    );
    const { configurations } = JSON.parse(made.getText().replaceAll(/^\s*\/\/.*$/gm, ''));
    assert.deepEqual(
      configurations.map(({ type, request, symbols }: Record<string, string>) => [type, request, symbols]),
      [
        // biome-ignore lint/suspicious/noTemplateCurlyInString: a variable of VS Code
        ['kvm', 'launch', '${workspaceFolder}/vmlinux'],
        // biome-ignore lint/suspicious/noTemplateCurlyInString: a variable of VS Code
        ['kvm', 'attach', '${workspaceFolder}/vmlinux'],
      ],
    );
  });
});
