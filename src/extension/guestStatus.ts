// The status bar's item of the guest in the session that has the focus.
import * as vscode from 'vscode';
import { type GuestStatus, statusDetails, statusText } from './statusText.ts';

export class GuestStatusItem implements vscode.Disposable {
  readonly #item = vscode.window.createStatusBarItem('kvm.guest', vscode.StatusBarAlignment.Left, 10);
  readonly #known = new Map<string, GuestStatus>();
  readonly #listeners: vscode.Disposable;

  constructor() {
    this.#item.name = 'KVM Guest';
    this.#item.command = 'kvm.guestActions';
    this.#listeners = vscode.Disposable.from(
      vscode.debug.onDidStartDebugSession((session) => void this.#ask(session)),
      vscode.debug.onDidReceiveDebugSessionCustomEvent(({ session, event, body }) => {
        if (event === 'kvm/status') this.#tell(session, body);
      }),
      vscode.debug.onDidTerminateDebugSession(({ id }) => {
        this.#known.delete(id);
        this.#show();
      }),
      vscode.debug.onDidChangeActiveDebugSession(() => this.#show()),
    );
  }

  dispose(): void {
    this.#listeners.dispose();
    this.#item.dispose();
  }

  /** From then on the adapter tells of changes by itself. */
  async #ask(session: vscode.DebugSession): Promise<void> {
    if (session.type !== 'kvm') return;
    try {
      this.#tell(session, await session.customRequest('kvm/status'));
    } catch {
      // The session is over already, or its adapter is an older one: there is nothing to show.
    }
  }

  #tell({ id }: vscode.DebugSession, status: GuestStatus): void {
    this.#known.set(id, status);
    this.#show();
  }

  #show(): void {
    const { activeDebugSession: session } = vscode.debug;
    const status = session && this.#known.get(session.id);
    if (status === undefined) {
      this.#item.hide();
      return;
    }
    this.#item.text = statusText(status);
    const tooltip = new vscode.MarkdownString();
    for (const [name, value] of statusDetails(status)) {
      tooltip.appendMarkdown(`**${name}:** `).appendText(value).appendMarkdown('  \n');
    }
    this.#item.tooltip = tooltip;
    this.#item.accessibilityInformation = {
      label: `Debugged guest: ${statusDetails(status)
        .map(([name, value]) => `${name} ${value}`)
        .join(', ')}`,
    };
    this.#item.show();
  }
}
