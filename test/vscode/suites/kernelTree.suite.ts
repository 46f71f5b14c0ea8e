// The workspace is a kernel tree that was built, and has no launch.json. Its adapter is the scripted one.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import * as vscode from 'vscode';
import { Sessions } from './sessions.ts';
import { ScriptedUser } from './user.ts';
import { until } from './waiting.ts';

const [folder] = vscode.workspace.workspaceFolders ?? [];
assert.ok(folder);
const inTree = (...path: string[]): string => join(folder.uri.fsPath, ...path);
const show = async (...path: string[]): Promise<vscode.TextEditor> =>
  vscode.window.showTextDocument(vscode.Uri.file(inTree(...path)));

suite('in a kernel tree', () => {
  const extension = vscode.extensions.getExtension('kvm-debug.kvm-debug');
  assert.ok(extension);
  const user = new ScriptedUser();
  const sessions = new Sessions();
  /** The extension makes one status item, before it has something to show. */
  const items: vscode.StatusBarItem[] = [];
  const createStatusBarItem = vscode.window.createStatusBarItem as (...args: unknown[]) => vscode.StatusBarItem;
  Object.assign(vscode.window, {
    createStatusBarItem: (...args: unknown[]) => {
      const item = createStatusBarItem(...args);
      items.push(item);
      return item;
    },
  });

  setup(() => user.reset());

  test('the extension is not loaded before it is needed', () => {
    assert.equal(extension.isActive, false);
  });

  test('commands that need a guest say so, and are what loads the extension', async () => {
    for (const command of ['showKernelLog', 'translateAddress', 'toggleNumberFormat', 'guestActions']) {
      user.reset();
      await vscode.commands.executeCommand(`kvm.${command}`);
      assert.deepEqual(user.told, [['No guest is being debugged: start a session of the type "kvm" first.']], command);
    }
    user.reset();
    await vscode.commands.executeCommand('kvm.exportSessionLog');
    assert.match(user.told[0]?.[0] ?? '', /^No guest has been debugged since VS Code was started/);
    assert.equal(extension.isActive, true);
  });

  test('every command of package.json is there', async () => {
    const all = await vscode.commands.getCommands(true);
    const contributed: { command: string }[] = extension.packageJSON.contributes.commands;
    assert.deepEqual(
      contributed.map(({ command }) => command).filter((command) => !all.includes(command)),
      [],
    );
  });

  test('assembly and kernel logs are recognised, the architecture by the folder', async () => {
    const languages: Record<string, string> = {
      'arch/arm64/kernel/head.S': 'gas-aarch64',
      'arch/x86/kernel/head_64.S': 'gas-x86',
      'boot.dmesg': 'kernel-log',
    };
    for (const [path, language] of Object.entries(languages)) {
      const document = await vscode.workspace.openTextDocument(inTree(path));
      assert.equal(document.languageId, language, path);
    }
  });

  test('breakpoints can be set in C and in assembly, and not in a log', async () => {
    const toggled = async (path: string): Promise<readonly string[]> => {
      const editor = await show(path);
      editor.selection = new vscode.Selection(0, 0, 0, 0);
      await vscode.commands.executeCommand('editor.debug.action.toggleBreakpoint');
      return vscode.debug.breakpoints.map((breakpoint) =>
        breakpoint instanceof vscode.SourceBreakpoint ? breakpoint.location.uri.fsPath : '',
      );
    };
    const expected: string[] = [];
    for (const path of ['init/main.c', 'arch/arm64/kernel/head.S', 'arch/x86/kernel/head_64.S']) {
      expected.push(inTree(path));
      assert.deepEqual(await toggled(path), expected);
    }
    assert.deepEqual(await toggled('boot.dmesg'), expected);
    vscode.debug.removeBreakpoints(vscode.debug.breakpoints);
  });

  test('F5 launches the kernel that was built, and the views and commands are those of its guest', async () => {
    await show('init/main.c');
    await vscode.commands.executeCommand('workbench.action.debug.start');
    const launch = await sessions.next('launch');
    const expected = {
      type: 'kvm',
      request: 'launch',
      name: 'Debug guest kernel',
      vmm: 'kvmtool',
      kernel: inTree('arch/arm64/boot/Image'),
      symbols: inTree('vmlinux'),
      params: 'console=ttyS0',
      stopOnEntry: true,
      missingSources: 'disassembly',
    };
    assert.deepEqual(Object.fromEntries(Object.keys(expected).map((name) => [name, launch[name]])), expected);
    assert.equal(vscode.debug.activeDebugSession?.workspaceFolder?.uri.toString(), folder.uri.toString());

    const frame = await sessions.stopped();
    await sessions.next('kvm/status');
    assert.equal(items.length, 1);
    await until(
      () => items[0]?.text || undefined,
      vscode.debug.onDidReceiveDebugSessionCustomEvent as vscode.Event<never>,
    );
    assert.match(items[0]?.text ?? '', /kvmtool: 2 vCPUs, HW 1\/6$/);
    assert.equal(items[0]?.command, 'kvm.guestActions');

    await vscode.commands.executeCommand('kvm.toggleNumberFormat');
    assert.deepEqual(await sessions.next('kvm/numberFormat'), { radix: 'hexadecimal' });
    await vscode.commands.executeCommand('kvm.toggleNumberFormat');
    assert.deepEqual(await sessions.next('kvm/numberFormat'), { radix: 'default' });
    user.input = '$sp';
    await vscode.commands.executeCommand('kvm.translateAddress');
    assert.deepEqual(await sessions.next('kvm/pageWalk'), { address: '$sp', frameId: frame.frameId });
    assert.equal(vscode.window.activeTextEditor?.document.getText(), 'level 0\nlevel 1\n');
    await vscode.commands.executeCommand('kvm.showKernelLog');
    assert.equal(vscode.window.activeTextEditor?.document.languageId, 'kernel-log');
    assert.match(vscode.window.activeTextEditor?.document.getText() ?? '', /Booting Linux/);
    assert.deepEqual(user.told, []);
    await sessions.end();
  });

  test('what a configuration leaves out is filled in after its variables are replaced', async () => {
    const started = await vscode.debug.startDebugging(folder, {
      type: 'kvm',
      request: 'launch',
      name: 'Guest',
      vmm: 'qemu',
      // biome-ignore lint/suspicious/noTemplateCurlyInString: a variable of VS Code
      kernel: '${workspaceFolder}/arch/arm64/boot/Image',
    });
    assert.equal(started, true);
    const { vmm, kernel, symbols } = await sessions.next('launch');
    assert.deepEqual([vmm, kernel, symbols], ['qemu', inTree('arch/arm64/boot/Image'), inTree('vmlinux')]);
    await sessions.end();
  });

  test('an attach asks for the VM, and takes the symbols of the tree', async () => {
    const attach = {
      type: 'kvm',
      request: 'attach',
      name: 'Attach',
      // biome-ignore lint/suspicious/noTemplateCurlyInString: a variable of VS Code
      pid: '${command:kvm.pickVmm}',
    };
    const listed = new vscode.EventEmitter<vscode.QuickPick<vscode.QuickPickItem>>();
    const { createQuickPick } = vscode.window;
    const create = (): vscode.QuickPick<vscode.QuickPickItem> => {
      const list = createQuickPick();
      // Listened to first, the list is answered once it has been filled.
      const show = list.show.bind(list);
      list.show = () => {
        show();
        listed.fire(list);
      };
      return list;
    };
    Object.assign(vscode.window, { createQuickPick: create });
    try {
      listed.event((list) => {
        list.value = '2147483647';
      });
      const accepting = acceptUntil(() => sessions.started > 0);
      const started = vscode.debug.startDebugging(folder, attach);
      const { pid, symbols } = await sessions.next('attach');
      assert.deepEqual([pid, symbols], ['2147483647', inTree('vmlinux')]);
      assert.equal(await started, true);
      await accepting;
      await sessions.end();

      listed.event((list) => list.hide());
      assert.equal(await vscode.debug.startDebugging(folder, attach), false);
      assert.equal(sessions.started, 0);
    } finally {
      Object.assign(vscode.window, { createQuickPick });
    }
  });

  test('the Run view offers the kernel without a launch.json', async () => {
    const accepting = acceptUntil(() => sessions.started > 0);
    const chosen = vscode.commands.executeCommand('workbench.action.debug.selectandstart', 'kvm');
    const { name, kernel } = await sessions.next('launch');
    assert.deepEqual([name, kernel], ['Debug guest kernel', inTree('arch/arm64/boot/Image')]);
    await Promise.all([accepting, chosen]);
    await sessions.end();
  });

  test('launch.json is checked and completed', async () => {
    const file = vscode.Uri.file(inTree('.vscode/launch.json'));
    const [{ configurationSnippets }] = extension.packageJSON.contributes.debuggers;
    const snippets: { label: string; body: Record<string, unknown> }[] = configurationSnippets;
    // As an editor inserts them: with ^"…" for text that is not escaped, and ${1:…} for what is to be filled in.
    const inserted = (value: unknown): unknown =>
      JSON.parse(
        JSON.stringify(value)
          .replaceAll(/\^\\"(.*?)\\"/g, '$1')
          .replaceAll(/\$\{\d:(.*?)\}/g, '$1')
          .replaceAll('\\\\$', '$'),
      );
    const wrong = { type: 'kvm', request: 'launch', name: 'Wrong', cpus: 'two', vmm: 'xen', console: 'none' };
    const configurations = [...snippets.map(({ body }) => inserted(body)), wrong];
    await vscode.workspace.fs.writeFile(
      file,
      Buffer.from(JSON.stringify({ version: '0.2.0', configurations }, undefined, 2)),
    );
    const editor = await vscode.window.showTextDocument(file);
    const { document } = editor;
    const found = await until(
      () => {
        const diagnostics = vscode.languages.getDiagnostics(file);
        return diagnostics.length > 0 ? diagnostics : undefined;
      },
      vscode.languages.onDidChangeDiagnostics as vscode.Event<never>,
    );
    const lines = found.map(({ range }) => document.lineAt(range.start.line).text.trim());
    assert.deepEqual(lines.sort(), ['"console": "none"', '"cpus": "two",', '"vmm": "xen",']);

    const place = document.positionAt(document.getText().indexOf('[') + 1);
    const { items } = await vscode.commands.executeCommand<vscode.CompletionList>(
      'vscode.executeCompletionItemProvider',
      file,
      place,
    );
    const labels = items.map(({ label }) => (typeof label === 'string' ? label : label.label));
    assert.deepEqual(
      snippets.map(({ label }) => label).filter((label) => !labels.includes(label)),
      [],
    );
    await vscode.commands.executeCommand('workbench.action.closeActiveEditor');
    await vscode.workspace.fs.delete(vscode.Uri.file(inTree('.vscode')), { recursive: true });
  });
});

/** Presses Enter in lists until it has had its effect: VS Code does not tell extensions when a list of its own is there. */
async function acceptUntil(done: () => boolean): Promise<void> {
  while (!done()) {
    await vscode.commands.executeCommand('workbench.action.acceptSelectedQuickOpenItem');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
