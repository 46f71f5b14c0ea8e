/** Stands in for the user of dialogs, which VS Code refuses to show in tests: remembers what they said, and answers. */
import * as vscode from 'vscode';

export class ScriptedUser {
  /** Modal dialogs and notifications: the message, then the buttons. */
  readonly told: (readonly string[])[] = [];
  /** The button pressed where there is one of this name; Escape otherwise. */
  button: string | undefined;
  /** What is typed into an input box; Escape otherwise. */
  input: string | undefined;

  /** The extension is given the same object `vscode`, since the suite lies in its folder. */
  constructor() {
    const tell = async (message: string, ...more: readonly unknown[]): Promise<string | undefined> => {
      const buttons = more.filter((button) => typeof button === 'string');
      this.told.push([message, ...buttons]);
      return buttons.find((button) => button === this.button);
    };
    Object.assign(vscode.window, {
      showInformationMessage: tell,
      showWarningMessage: tell,
      showErrorMessage: tell,
      showInputBox: async () => this.input,
    });
  }

  reset(): void {
    this.told.length = 0;
    this.button = undefined;
    this.input = undefined;
  }
}
