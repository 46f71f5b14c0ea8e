// What the extension asks of VS Code's user interface: its logic takes a Workbench, so that tests can play one.
import * as vscode from 'vscode';
import { folderPath } from './folderPath.ts';
import type { ListOptions } from './vmmItems.ts';
import { type PickedVm, pickVmm } from './vmmPicker.ts';
import { findVmms } from './vmms.ts';

export interface Option<Value> {
  readonly label: string;
  readonly description?: string;
  readonly value: Value;
}

/** All that asks gives undefined when the user leaves it by Escape. */
export interface Workbench {
  /** A dialog with a button for each choice. */
  ask(message: string, choices: readonly string[]): Promise<string | undefined>;
  /** The same, where nothing is wrong. */
  confirm(message: string, detail: string, choices: readonly string[]): Promise<string | undefined>;
  /** A dialog that says why something was not done. */
  fail(message: string, detail: string): Promise<void>;
  /** A notification while `work` lasts, with what it is at, and a button that aborts its signal. */
  progress<Value>(
    title: string,
    work: (step: (text: string) => void, signal: AbortSignal) => Promise<Value>,
  ): Promise<Value>;
  /** A notification that nothing waits for, with a button that opens launch.json. */
  tell(message: string): void;
  choose<Value>(title: string, options: readonly Option<Value>[]): Promise<Value | undefined>;
  chooseFile(title: string, folder: string | undefined): Promise<string | undefined>;
  pickVmm(options: ListOptions): Promise<PickedVm | undefined>;
  openFolder(): Promise<void>;
  /** Opens a folder as the workspace of this window, or of a new one. */
  openWorkspace(folder: string, inNewWindow: boolean): Promise<void>;
  /** Opens a Markdown file as it is read. */
  showPreview(file: string): Promise<void>;
  /** The workspace's folders on this machine. */
  folders(): readonly string[];
}

export const vscodeWorkbench: Workbench = {
  ask: async (message, choices) => await vscode.window.showWarningMessage(message, { modal: true }, ...choices),

  confirm: async (message, detail, choices) =>
    await vscode.window.showInformationMessage(message, { modal: true, detail }, ...choices),

  async fail(message, detail) {
    await vscode.window.showErrorMessage(message, { modal: true, detail });
  },

  progress: async (title, work) =>
    await vscode.window.withProgress(
      { location: vscode.ProgressLocation.Notification, title, cancellable: true },
      (progress, token) => {
        const controller = new AbortController();
        token.onCancellationRequested(() => controller.abort());
        return work((message) => progress.report({ message }), controller.signal);
      },
    ),

  tell(message) {
    const openLaunchJson = 'Open launch.json';
    vscode.window.showWarningMessage(message, openLaunchJson).then((chosen) => {
      if (chosen === openLaunchJson) void vscode.commands.executeCommand('workbench.action.debug.configure');
    });
  },

  choose: async (title, options) => (await vscode.window.showQuickPick(options, { title }))?.value,

  async chooseFile(title, folder) {
    const start = folder === undefined ? {} : { defaultUri: vscode.Uri.file(folder) };
    const [file] = (await vscode.window.showOpenDialog({ title, openLabel: 'Choose', ...start })) ?? [];
    return file?.fsPath;
  },

  pickVmm: (options) =>
    pickVmm({
      ...options,
      createQuickPick: () => vscode.window.createQuickPick(),
      refresh: { iconPath: new vscode.ThemeIcon('refresh'), tooltip: 'Look Again' },
      find: findVmms,
      failed: (error) => {
        void vscode.window.showErrorMessage(`The running VMs could not be listed: ${error}`);
      },
    }),

  openFolder: async () => await vscode.commands.executeCommand('workbench.action.files.openFolder'),

  async openWorkspace(folder, inNewWindow) {
    await vscode.commands.executeCommand('vscode.openFolder', vscode.Uri.file(folder), {
      forceNewWindow: inNewWindow,
      forceReuseWindow: !inNewWindow,
    });
  },

  showPreview: async (file) => await vscode.commands.executeCommand('markdown.showPreview', vscode.Uri.file(file)),

  folders: () => (vscode.workspace.workspaceFolders ?? []).flatMap((folder) => folderPath(folder) ?? []),
};
