/** A user interface whose user has decided beforehand, and which remembers what it showed. */
import type { PickedVm } from '../../src/extension/vmmPicker.ts';
import type { Option, Workbench } from '../../src/extension/workbench.ts';

export class ScriptedWorkbench implements Workbench {
  /** Dialogs: the message, then the buttons. */
  readonly asked: (readonly string[])[] = [];
  readonly told: string[] = [];
  readonly choices: string[][] = [];
  openedFolder = false;
  /** Dialogs that ask or fail: message, detail, buttons. */
  readonly confirmed: (readonly string[])[] = [];
  readonly failures: (readonly string[])[] = [];
  /** Titles, each followed by the steps that were shown. */
  readonly progressed: string[] = [];
  readonly previewed: string[] = [];
  readonly opened: { readonly folder: string; readonly inNewWindow: boolean }[] = [];

  constructor(
    private readonly user: {
      /** The button pressed; Escape otherwise. */
      readonly button?: string;
      /** Where there is more than one dialog. */
      readonly buttons?: readonly string[];
      /** The step at which progress is cancelled. */
      readonly cancelsAt?: string;
      readonly choice?: number;
      readonly file?: string;
      readonly vm?: PickedVm;
      readonly folders?: readonly string[];
    } = {},
  ) {}

  async ask(message: string, choices: readonly string[]): Promise<string | undefined> {
    this.asked.push([message, ...choices]);
    return choices.find((choice) => choice === this.user.button);
  }

  async confirm(message: string, detail: string, choices: readonly string[]): Promise<string | undefined> {
    this.confirmed.push([message, detail, ...choices]);
    return choices.find((choice) => this.user.buttons?.includes(choice) || choice === this.user.button);
  }

  async fail(message: string, detail: string): Promise<void> {
    this.failures.push([message, detail]);
  }

  progress<Value>(
    title: string,
    work: (step: (text: string) => void, signal: AbortSignal) => Promise<Value>,
  ): Promise<Value> {
    this.progressed.push(title);
    const controller = new AbortController();
    const step = (text: string): void => {
      this.progressed.push(text);
      if (text === this.user.cancelsAt) controller.abort();
    };
    return work(step, controller.signal);
  }

  async openWorkspace(folder: string, inNewWindow: boolean): Promise<void> {
    this.opened.push({ folder, inNewWindow });
  }

  async showPreview(file: string): Promise<void> {
    this.previewed.push(file);
  }

  tell(message: string): void {
    this.told.push(message);
  }

  async choose<Value>(_title: string, options: readonly Option<Value>[]): Promise<Value | undefined> {
    this.choices.push(options.map(({ label }) => label));
    return options[this.user.choice ?? -1]?.value;
  }

  chooseFile = async (): Promise<string | undefined> => this.user.file;
  pickVmm = async (): Promise<PickedVm | undefined> => this.user.vm;
  folders = (): readonly string[] => this.user.folders ?? [];

  async openFolder(): Promise<void> {
    this.openedFolder = true;
  }
}
