// The log of the newest session, and its export for a bug report.
import * as vscode from 'vscode';
import { ProtocolLog } from './protocolLog.ts';

export class SessionLog implements vscode.DebugAdapterTrackerFactory {
  #newest: { readonly name: string; readonly log: ProtocolLog } | undefined;

  constructor(private readonly version: string) {}

  createDebugAdapterTracker({ name, configuration }: vscode.DebugSession): vscode.DebugAdapterTracker {
    const log = new ProtocolLog(
      `KVM Kernel Debugger ${this.version}, VS Code ${vscode.version}, ${process.platform} ${process.arch}: ${configuration.request} "${name}"`,
    );
    this.#newest = { name, log };
    return {
      onWillReceiveMessage: (message) => log.add('to adapter', message, new Date()),
      onDidSendMessage: (message) => log.add('from adapter', message, new Date()),
      onError: (error) => log.add('from adapter', { error: error.message }, new Date()),
      onExit: (code, signal) => log.add('from adapter', { exited: { code, signal } }, new Date()),
    };
  }

  /** Asks where to. */
  async export(): Promise<void> {
    if (this.#newest === undefined) {
      void vscode.window.showInformationMessage(
        'No guest has been debugged since VS Code was started: there is no log yet.',
      );
      return;
    }
    const { name, log } = this.#newest;
    const text = log.text(); // as it is now, not when a place for it was chosen
    const folder = vscode.workspace.workspaceFolders?.[0]?.uri;
    const file = `kvm-debug-${name.replaceAll(/[^\w.-]+/g, '-')}.jsonl`;
    const target = await vscode.window.showSaveDialog({
      title: 'Export the log of the debug session; it holds registers and memory of the guest that were shown',
      ...(folder === undefined ? {} : { defaultUri: vscode.Uri.joinPath(folder, file) }),
    });
    if (target === undefined) return;
    await vscode.workspace.fs.writeFile(target, Buffer.from(text));
    await vscode.window.showTextDocument(target);
  }
}
