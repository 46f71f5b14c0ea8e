import { join } from 'node:path';
import * as vscode from 'vscode';
import { configurationProvider } from './configuration.ts';
import { findVmms } from './vmms.ts';

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
    vscode.commands.registerCommand('kvm.pickVmm', pickVmm),
  );
}

/** The pid of the VMM the user picks, as the text that `${command:kvm.pickVmm}` is replaced by; undefined cancels. */
async function pickVmm(): Promise<string | undefined> {
  const { vmms, hidden } = await findVmms();
  if (vmms.length === 0) {
    const why =
      hidden > 0
        ? `No VM of yours is running. ${hidden} processes of other users could not be looked at: run the adapter as their user or as root, and connect with "debugServer".`
        : 'No process on this machine has a KVM virtual machine open. Start the VM first, or use a "launch" configuration.';
    await vscode.window.showErrorMessage(why);
    return undefined;
  }
  const items = vmms.map((vmm) => ({
    label: vmm.name,
    description: `${vmm.pid} · ${vmm.vcpus} ${vmm.vcpus === 1 ? 'vCPU' : 'vCPUs'}`,
    detail: vmm.commandLine,
    pid: vmm.pid,
  }));
  const picked = await vscode.window.showQuickPick(items, {
    title: 'Attach to a running VM',
    matchOnDescription: true,
    matchOnDetail: true,
  });
  return picked?.pid.toString();
}
