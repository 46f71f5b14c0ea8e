import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { describe, it } from 'node:test';
import type { QuickPick } from 'vscode';
import { type ListOptions, type VmmItem, vmmItems } from '../../src/extension/vmmItems.ts';
import { pickVmm } from '../../src/extension/vmmPicker.ts';
import type { RunningVmms, Vmm } from '../../src/extension/vmms.ts';

const vmm: Vmm = {
  pid: 4711,
  vmm: 'kvmtool',
  name: undefined,
  vcpus: 2,
  memory: 512 * 1024 ** 2,
  kernel: '/src/linux/arch/arm64/boot/Image',
  commandLine: 'lkvm run -k …',
  resident: 1024 ** 2,
  owner: 'mia',
  accessible: true,
  tracer: undefined,
};
const others: Vmm[] = [
  { ...vmm, pid: 5, vmm: 'QEMU', name: 'web', vcpus: 1, memory: undefined, kernel: undefined },
  { ...vmm, pid: 6, memory: 1.5 * 1024 ** 3, tracer: { pid: 9, name: 'gdb' } },
  { ...vmm, pid: 7, vcpus: undefined, memory: undefined, resident: undefined, owner: 'root', accessible: false },
];

describe('the list of running VMs', () => {
  it('says of each what it is, and what is in the way', () => {
    const items = vmmItems({ vmms: [vmm, ...others], hidden: 3 });
    assert.deepEqual(items, [
      {
        label: '$(vm-running) kvmtool',
        description: 'pid 4711 · 2 vCPUs · 512 MiB · mia',
        detail: '/src/linux/arch/arm64/boot/Image',
        pid: 4711,
      },
      {
        label: '$(vm-running) web',
        description: 'QEMU · pid 5 · 1 vCPU · 1 MiB in use · mia',
        detail: 'lkvm run -k …',
        pid: 5,
      },
      {
        label: '$(debug-alt) kvmtool',
        description: 'pid 6 · 2 vCPUs · 1.5 GiB · mia',
        detail: 'traced by gdb (pid 9) already: end that first · /src/linux/arch/arm64/boot/Image',
        pid: 6,
      },
      {
        label: '$(lock) kvmtool',
        description: 'pid 7 · root',
        detail:
          'of another user: needs an adapter that runs as root ("debugServer") · /src/linux/arch/arm64/boot/Image',
        pid: 7,
      },
    ]);
  });

  it('empty says what to do', () => {
    const [item, ...more] = vmmItems({ vmms: [], hidden: 0 });
    assert.deepEqual(more, []);
    assert.equal(item?.pid, undefined);
    assert.match(`${item?.label} ${item?.detail}`, /Look Again Start a VM first, press F5/);
    assert.match(
      vmmItems({ vmms: [], hidden: 1 })[0]?.detail ?? '',
      /^1 process of other users could not be looked into/,
    );
  });

  it('takes the id of a process that is not in it', () => {
    const typed = (text: string) => vmmItems({ vmms: [vmm], hidden: 0 }, text).map(({ pid }) => pid);
    assert.deepEqual(typed(' 99 '), [4711, 99]);
    for (const text of ['4711', '0', '12a', '', '99999999999']) assert.deepEqual(typed(text), [4711], text);
  });
});

/** A quick pick as VS Code's, whose user is the test. */
class FakeQuickPick {
  readonly events = new EventEmitter();
  items: readonly VmmItem[] = [];
  activeItems: readonly VmmItem[] = [];
  selectedItems: readonly VmmItem[] = [];
  value = '';
  placeholder = '';
  buttons: readonly unknown[] = [];
  busy = false;
  disposed = false;
  readonly #on = (name: string) => (listener: (value: string) => void) => this.events.on(name, listener);
  readonly onDidAccept = this.#on('accept');
  readonly onDidHide = this.#on('hide');
  readonly onDidChangeValue = this.#on('value');
  readonly onDidTriggerButton = this.#on('button');
  show(): void {}
  hide(): void {
    this.events.emit('hide');
  }
  dispose(): void {
    this.disposed = true;
  }
  accept(item: VmmItem | undefined): void {
    this.selectedItems = item ? [item] : [];
    this.events.emit('accept');
  }
  type(text: string): void {
    this.value = text;
    this.events.emit('value', text);
  }
}

describe('picking a running VM', () => {
  function open(answers: (RunningVmms | Error)[], options: ListOptions = {}) {
    const list = new FakeQuickPick();
    const errors: unknown[] = [];
    const picked = pickVmm({
      ...options,
      createQuickPick: () => list as unknown as QuickPick<VmmItem>,
      refresh: { iconPath: { id: 'refresh' } },
      find: async () => {
        const answer = answers.shift();
        if (!answer || answer instanceof Error) throw answer;
        return answer;
      },
      failed: (error) => errors.push(error),
    });
    return { list, picked, errors };
  }
  const settled = () => new Promise((resolve) => setImmediate(resolve));

  it('gives the one that is accepted', async () => {
    const { list, picked } = open([{ vmms: [vmm], hidden: 0 }]);
    assert.ok(list.busy);
    await settled();
    assert.ok(!list.busy);
    list.accept(list.items[0]);
    assert.deepEqual(await picked, { pid: 4711, vmm });
    assert.ok(list.disposed);
  });

  it('gives none when it is left', async () => {
    const { list, picked } = open([{ vmms: [vmm], hidden: 0 }]);
    await settled();
    list.accept(undefined);
    list.hide();
    assert.equal(await picked, undefined);
    assert.ok(list.disposed);
  });

  it('looks again by its button and by its item, and keeps what is chosen', async () => {
    const [other = vmm] = others;
    const found = [[], [vmm], [other, vmm]].map((vmms) => ({ vmms, hidden: 0 }));
    const { list, picked } = open(found);
    await settled();
    list.accept(list.items[0]);
    await settled();
    assert.deepEqual(
      list.items.map(({ pid }) => pid),
      [4711],
    );
    list.activeItems = list.items;
    list.events.emit('button');
    await settled();
    assert.deepEqual(
      [list.items, list.activeItems].map((items) => items.map(({ pid }) => pid)),
      [[5, 4711], [4711]],
    );
    list.hide();
    assert.equal(await picked, undefined);
  });

  it('takes a process id', async () => {
    const { list, picked } = open([{ vmms: [], hidden: 0 }]);
    list.type('12');
    await settled();
    list.type('123');
    list.accept(list.items[0]);
    assert.deepEqual(await picked, { pid: 123, vmm: undefined });
  });

  it('takes a remote stub, where one will do', async () => {
    const none = { vmms: [vmm], hidden: 0 };
    const { list, picked } = open([none], { takesRemote: true });
    assert.match(list.placeholder, /HOST:PORT/);
    await settled();
    for (const text of ['host', 'host:', 'host:99999', '99']) {
      list.type(text);
      assert.ok(
        list.items.every(({ remote }) => remote === undefined),
        text,
      );
    }
    list.type(' host:1234 ');
    assert.equal(list.items[1]?.label, '$(remote) host:1234');
    list.type('[::1]:1234');
    list.accept(list.items[1]);
    assert.deepEqual(await picked, { remote: '[::1]:1234' });
    const other = open([none]);
    await settled();
    other.list.type('host:1234');
    assert.equal(other.list.items.length, 1);
    assert.doesNotMatch(other.list.placeholder, /HOST/);
  });

  it('lists no VMs of this machine where the adapter may be on another', async () => {
    const { list, picked } = open([], { isElsewhere: true });
    assert.match(list.placeholder, /^The process id of a VMM, on the machine of the adapter \("debugServer"\)$/);
    await settled();
    assert.deepEqual([list.items, list.buttons], [[], []]);
    list.type('4711');
    list.accept(list.items[0]);
    assert.deepEqual(await picked, { pid: 4711, vmm: undefined });
  });

  it('stays open when the machine cannot be looked at', async () => {
    const { list, picked, errors } = open([new Error('busy'), { vmms: [vmm], hidden: 0 }]);
    await settled();
    assert.equal(errors.length, 1);
    list.events.emit('button');
    await settled();
    assert.equal(list.items.length, 1);
    list.hide();
    assert.equal(await picked, undefined);
  });
});
