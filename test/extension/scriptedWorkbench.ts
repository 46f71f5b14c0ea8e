/** A user interface whose user has decided beforehand, and which remembers what it showed. */
import type { PickedVm } from '../../src/extension/vmmPicker.ts';
import type { Option, Workbench } from '../../src/extension/workbench.ts';

export class ScriptedWorkbench implements Workbench {
  /** Dialogs: the message, then the buttons. */
  readonly asked: (readonly string[])[] = [];
  readonly told: string[] = [];
  readonly choices: string[][] = [];
  openedFolder = false;

  constructor(
    private readonly user: {
      /** The button pressed; Escape otherwise. */
      readonly button?: string;
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
