import { join } from 'node:path';
import * as vscode from 'vscode';
import { configurationProvider, dynamicConfigurationProvider } from './configuration.ts';
import { pickedConfiguration } from './configurations.ts';
import { Demo } from './demo.ts';
import { tourFile } from './demoFolder.ts';
import { folderPath } from './folderPath.ts';
import { GuestCommands } from './guestCommands.ts';
import { GuestStatusItem } from './guestStatus.ts';
import { LabProgram } from './labProgram.ts';
import { checkMachine, machineReport, thisMachine } from './machine.ts';
import { Reports } from './reports.ts';
import { SessionLog } from './sessionLog.ts';
import { vscodeWorkbench } from './workbench.ts';

export function activate(context: vscode.ExtensionContext): void {
  const adapter = context.asAbsolutePath(join('dist', 'adapter.js'));
  const path = process.env.PATH;
  const reports = new Reports();
  const log = new SessionLog(context.extension.packageJSON.version);
  const lab = new LabProgram(context.asAbsolutePath(join('dist', 'lab.js')));
  const demo = new Demo(vscodeWorkbench, lab, join(context.globalStorageUri.fsPath, 'demo'));
  const dynamic = vscode.DebugConfigurationProviderTriggerKind.Dynamic;
  context.subscriptions.push(
    vscode.debug.registerDebugConfigurationProvider('kvm', configurationProvider(vscodeWorkbench, path, demo)),
    vscode.debug.registerDebugConfigurationProvider('kvm', dynamicConfigurationProvider(path), dynamic),
    // A process of its own: the adapter traces the VMM from its main thread and blocks there while it injects system
    // calls, which the extension host must not. VS Code itself handles `debugServer` and does not ask then.
    vscode.debug.registerDebugAdapterDescriptorFactory('kvm', {
      createDebugAdapterDescriptor({ workspaceFolder }) {
        const cwd = folderPath(workspaceFolder);
        return new vscode.DebugAdapterExecutable(process.execPath, [adapter], {
          // On a desktop the extension host is Electron, which this makes plain Node; elsewhere it is Node.
          env: { ELECTRON_RUN_AS_NODE: '1' },
          // Relative paths in launch.json are the workspace's.
          ...(cwd === undefined ? {} : { cwd }),
        });
      },
    }),
    vscode.commands.registerCommand('kvm.pickVmm', pickPid),
    vscode.commands.registerCommand('kvm.attach', attach),
    vscode.debug.registerDebugAdapterTrackerFactory('kvm', log),
    vscode.debug.registerDebugAdapterTrackerFactory('kvm', demo.slot),
    vscode.commands.registerCommand('kvm.exportSessionLog', () => log.export()),
    reports.register(),
    vscode.commands.registerCommand('kvm.checkMachine', async () =>
      reports.show('This Machine.md', machineReport(await checkMachine(thisMachine(vscodeWorkbench.folders())))),
    ),
    demo,
    vscode.commands.registerCommand('kvm.openDemo', () => demo.open()),
    new GuestStatusItem(),
    new GuestCommands(reports).register(),
  );
  demo.welcome(context.workspaceState).catch((error: unknown) => {
    void vscode.window.showErrorMessage(`${tourFile} could not be shown: ${error}`);
  });
}

/** The pid of the VMM the user picks, as the text that `${command:kvm.pickVmm}` is replaced by; undefined cancels. VS Code
 *  passes the configuration that the variable is in. */
async function pickPid(configuration?: { readonly debugServer?: unknown }): Promise<string | undefined> {
  const isElsewhere = typeof configuration?.debugServer === 'number';
  return (await vscodeWorkbench.pickVmm({ isElsewhere }))?.pid?.toString();
}

async function attach(): Promise<void> {
  const picked = await vscodeWorkbench.pickVmm({ takesRemote: true });
  if (picked) await vscode.debug.startDebugging(currentFolder(), pickedConfiguration(picked));
}

/** Where symbols and sources are looked for: the folder of the file that is being looked at. */
function currentFolder(): vscode.WorkspaceFolder | undefined {
  const document = vscode.window.activeTextEditor?.document.uri;
  const folder = document && vscode.workspace.getWorkspaceFolder(document);
  return folder ?? vscode.workspace.workspaceFolders?.[0];
}
