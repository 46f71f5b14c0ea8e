// Commands for the guest of the session that has the focus.
import * as vscode from 'vscode';
import type { Reports } from './reports.ts';

/** `default`: registers and pointers in hexadecimal, integers of the program in decimal. */
type Radix = 'hexadecimal' | 'default';

/** What VS Code hands to commands in the context menu of its Variables view. */
interface VariableContext {
  readonly variable?: { readonly evaluateName?: string; readonly memoryReference?: string };
}

export class GuestCommands {
  /** By session, as long as it has chosen one. */
  readonly #radix = new WeakMap<vscode.DebugSession, Radix>();

  constructor(private readonly reports: Reports) {}

  register(): vscode.Disposable {
    const command = (
      name: string,
      action: (session: vscode.DebugSession, context?: VariableContext) => Promise<void>,
    ) => vscode.commands.registerCommand(name, (context?: VariableContext) => this.#run(action, context));
    return vscode.Disposable.from(
      command('kvm.toggleNumberFormat', (session) => this.#toggleNumberFormat(session)),
      command('kvm.translateAddress', (session, context) => this.#translateAddress(session, context)),
      command('kvm.showKernelLog', (session) => this.#showKernelLog(session)),
      command('kvm.guestActions', () => this.#chooseAction()),
    );
  }

  async #run(
    action: (session: vscode.DebugSession, context?: VariableContext) => Promise<void>,
    context: VariableContext | undefined,
  ): Promise<void> {
    const { activeDebugSession: session } = vscode.debug;
    if (session?.type !== 'kvm') {
      void vscode.window.showInformationMessage('No guest is being debugged: start a session of the type "kvm" first.');
      return;
    }
    try {
      await action(session, context);
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      // DAP: what a request says that the user has cancelled.
      if (message !== 'cancelled') void vscode.window.showErrorMessage(message);
    }
  }

  async #toggleNumberFormat(session: vscode.DebugSession): Promise<void> {
    const radix = this.#radix.get(session) === 'hexadecimal' ? 'default' : 'hexadecimal';
    await session.customRequest('kvm/numberFormat', { radix });
    this.#radix.set(session, radix);
  }

  async #translateAddress(session: vscode.DebugSession, context: VariableContext | undefined): Promise<void> {
    const { variable } = context ?? {};
    const address =
      variable?.memoryReference ??
      variable?.evaluateName ??
      (await vscode.window.showInputBox({
        title: 'Translate an Address',
        prompt: 'A number or an expression, such as $sp or &jiffies',
        value: selectedText(),
      }));
    if (address === undefined || address.trim() === '') return;
    const frame = vscode.debug.activeStackItem;
    const frameId = frame instanceof vscode.DebugStackFrame ? { frameId: frame.frameId } : {};
    const { lines } = await session.customRequest('kvm/pageWalk', { address, ...frameId });
    await this.reports.show('Page Walk.txt', `${lines.join('\n')}\n`);
  }

  async #showKernelLog(session: vscode.DebugSession): Promise<void> {
    const { text, omitted } = await session.customRequest('kvm/kernelLog');
    const lack = omitted === undefined ? '' : `(${omitted} older records are left out)\n`;
    await this.reports.show(`${session.name.replaceAll('/', ' ')}.dmesg`, `${lack}${text}`);
  }

  async #chooseAction(): Promise<void> {
    const actions = [
      { label: 'Show the Kernel Log', command: 'kvm.showKernelLog' },
      { label: 'Translate an Address…', command: 'kvm.translateAddress' },
      { label: 'Numbers in Hexadecimal or Decimal', command: 'kvm.toggleNumberFormat' },
      { label: 'Export the Log of the Session…', command: 'kvm.exportSessionLog' },
    ];
    const chosen = await vscode.window.showQuickPick(actions, { title: 'The Debugged Guest' });
    if (chosen) await vscode.commands.executeCommand(chosen.command);
  }
}

function selectedText(): string {
  const editor = vscode.window.activeTextEditor;
  return editor === undefined ? '' : (editor.document.getText(editor.selection).split('\n')[0]?.trim() ?? '');
}
