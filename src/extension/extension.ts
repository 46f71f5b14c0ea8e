import { join } from 'node:path';
import * as vscode from 'vscode';
import { configurationProvider } from './configuration.ts';
import { vscodeWorkbench } from './workbench.ts';

export function activate(context: vscode.ExtensionContext): void {
  const adapter = context.asAbsolutePath(join('dist', 'adapter.js'));
  context.subscriptions.push(
    vscode.debug.registerDebugConfigurationProvider('kvm', configurationProvider),
    // A process of its own: the adapter traces the VMM from its main thread and blocks there while it injects system
    // calls, which the extension host must not. VS Code itself handles `debugServer` and does not ask then.
    vscode.debug.registerDebugAdapterDescriptorFactory('kvm', {
      createDebugAdapterDescriptor: ({ workspaceFolder }) =>
        new vscode.DebugAdapterExecutable(process.execPath, [adapter], {
          // On a desktop the extension host is Electron, which this makes plain Node; elsewhere it is Node.
          env: { ELECTRON_RUN_AS_NODE: '1' },
          // Relative paths in launch.json are the workspace's.
          ...(workspaceFolder?.uri.scheme === 'file' ? { cwd: workspaceFolder.uri.fsPath } : {}),
        }),
    }),
    vscode.commands.registerCommand('kvm.pickVmm', pickPid),
  );
}

/** The pid of the VMM the user picks, as the text that `${command:kvm.pickVmm}` is replaced by; undefined cancels. */
async function pickPid(): Promise<string | undefined> {
  return (await vscodeWorkbench.pickVmm())?.pid.toString();
}
