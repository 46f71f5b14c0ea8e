// What the extension asks of VS Code's user interface: its logic takes a Workbench, so that tests can play one.
import * as vscode from 'vscode';
import { folderPath } from './folderPath.ts';
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
  /** A notification that nothing waits for, with a button that opens launch.json. */
  tell(message: string): void;
  choose<Value>(title: string, options: readonly Option<Value>[]): Promise<Value | undefined>;
  chooseFile(title: string, folder: string | undefined): Promise<string | undefined>;
  pickVmm(): Promise<PickedVm | undefined>;
  openFolder(): Promise<void>;
  /** The workspace's folders on this machine. */
  folders(): readonly string[];
}

export const vscodeWorkbench: Workbench = {
  ask: async (message, choices) => await vscode.window.showWarningMessage(message, { modal: true }, ...choices),

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

  pickVmm: () =>
    pickVmm({
      createQuickPick: () => vscode.window.createQuickPick(),
      refresh: { iconPath: new vscode.ThemeIcon('refresh'), tooltip: 'Look Again' },
      find: findVmms,
      failed: (error) => {
        void vscode.window.showErrorMessage(`The running VMs could not be listed: ${error}`);
      },
    }),

  openFolder: async () => await vscode.commands.executeCommand('workbench.action.files.openFolder'),

  folders: () => (vscode.workspace.workspaceFolders ?? []).flatMap((folder) => folderPath(folder) ?? []),
};
