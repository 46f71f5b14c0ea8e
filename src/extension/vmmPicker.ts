// The list of running VMs to pick one from, with a button to look again.
import type { QuickInputButton, QuickPick } from 'vscode';
import { type VmmItem, vmmItems } from './vmmItems.ts';
import type { RunningVmms, Vmm } from './vmms.ts';

/** A VM to attach to. `vmm` is undefined for a process that the user named. */
export interface PickedVm {
  readonly pid: number;
  readonly vmm: Vmm | undefined;
}

export interface PickerParts {
  readonly createQuickPick: () => QuickPick<VmmItem>;
  readonly refresh: QuickInputButton;
  readonly find: () => Promise<RunningVmms>;
  /** What went wrong while looking. */
  readonly failed: (error: unknown) => void;
}

/** Undefined when the user leaves the list. */
export function pickVmm({ createQuickPick, refresh, find, failed }: PickerParts): Promise<PickedVm | undefined> {
  const list = createQuickPick();
  list.title = 'Attach to a Running VM';
  list.placeholder = 'A virtual machine on this machine, or the process id of a VMM';
  list.matchOnDescription = true;
  list.matchOnDetail = true;
  list.buttons = [refresh];

  let running: RunningVmms | undefined;
  const show = (): void => {
    if (running === undefined) return;
    const active = list.activeItems[0]?.pid;
    list.items = vmmItems(running, list.value);
    // New items take the place of all, and of the one that was chosen.
    const same = list.items.find(({ pid }) => pid !== undefined && pid === active);
    if (same) list.activeItems = [same];
  };
  const look = async (): Promise<void> => {
    list.busy = true;
    try {
      running = await find();
      show();
    } catch (error) {
      failed(error);
    } finally {
      list.busy = false;
    }
  };

  return new Promise<PickedVm | undefined>((resolve) => {
    list.onDidTriggerButton(() => void look());
    list.onDidChangeValue((typed) => {
      const ids = (items: readonly VmmItem[]): string => items.map(({ pid }) => pid).join();
      if (running && ids(vmmItems(running, typed)) !== ids(list.items)) show();
    });
    list.onDidAccept(() => {
      const [item] = list.selectedItems;
      if (!item) return;
      const { pid } = item;
      if (pid === undefined) void look();
      else {
        resolve({ pid, vmm: running?.vmms.find((vmm) => vmm.pid === pid) });
        list.hide();
      }
    });
    list.onDidHide(() => {
      resolve(undefined); // has no effect once one was accepted
      list.dispose();
    });
    list.show();
    void look();
  });
}
