// The list of running VMs to pick one from, with a button to look again.
import type { QuickInputButton, QuickPick } from 'vscode';
import { type ListOptions, type VmmItem, vmmItems } from './vmmItems.ts';
import type { RunningVmms, Vmm } from './vmms.ts';

/** A VM to attach to. `vmm` is undefined for a process that the user named. */
export interface PickedProcess {
  readonly pid: number;
  readonly vmm: Vmm | undefined;
  readonly remote?: undefined;
}
/** Or a guest behind a GDB stub: HOST:PORT. */
export type PickedVm = PickedProcess | { readonly remote: string; readonly pid?: undefined };

export interface PickerParts extends ListOptions {
  readonly createQuickPick: () => QuickPick<VmmItem>;
  readonly refresh: QuickInputButton;
  readonly find: () => Promise<RunningVmms>;
  /** What went wrong while looking. */
  readonly failed: (error: unknown) => void;
}

/** Undefined when the user leaves the list. */
export function pickVmm(parts: PickerParts): Promise<PickedVm | undefined> {
  const { createQuickPick, refresh, failed, isElsewhere } = parts;
  const find = isElsewhere ? async () => ({ vmms: [], hidden: 0 }) : parts.find;
  const list = createQuickPick();
  list.title = 'Attach to a Running VM';
  list.placeholder = [
    isElsewhere
      ? 'The process id of a VMM, on the machine of the adapter ("debugServer")'
      : 'A virtual machine on this machine, or the process id of a VMM',
    ...(parts.takesRemote ? ['or HOST:PORT of a GDB stub'] : []),
  ].join(', ');
  list.matchOnDescription = true;
  list.matchOnDetail = true;
  list.buttons = isElsewhere ? [] : [refresh];

  let running: RunningVmms | undefined;
  const show = (): void => {
    if (running === undefined) return;
    const active = list.activeItems[0]?.pid;
    list.items = vmmItems(running, list.value, parts);
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
      const ids = (items: readonly VmmItem[]): string => items.map(({ pid, remote }) => pid ?? remote).join();
      if (running && ids(vmmItems(running, typed, parts)) !== ids(list.items)) show();
    });
    list.onDidAccept(() => {
      const [item] = list.selectedItems;
      if (!item) return;
      const { pid, remote } = item;
      if (remote !== undefined) resolve({ remote });
      else if (pid !== undefined) resolve({ pid, vmm: running?.vmms.find((vmm) => vmm.pid === pid) });
      else return void look();
      list.hide();
    });
    list.onDidHide(() => {
      resolve(undefined); // has no effect once one was accepted
      list.dispose();
    });
    list.show();
    void look();
  });
}
