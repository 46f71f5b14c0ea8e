import assert from 'node:assert/strict';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { parseAttach, parseLaunch } from '../../src/dap/arguments.ts';
import { MissingFields } from '../../src/extension/missingFields.ts';
import { KernelFolder } from './kernelFolder.ts';
import { ScriptedWorkbench } from './scriptedWorkbench.ts';

describe('the fields that a configuration leaves out', () => {
  let folder: KernelFolder;
  let programs: string;
  beforeEach(() => {
    folder = new KernelFolder();
    programs = folder.programs('lkvm');
  });
  afterEach(() => folder.remove());

  const at = (path: string): string => join(folder.path, path);
  async function fill(values: object, user: object = {}, workspace: string | undefined = folder.path) {
    const workbench = new ScriptedWorkbench(user);
    const fields = new MissingFields(workbench, programs, at('proc'));
    const configuration = { type: 'kvm', request: 'launch', name: 'x', ...values };
    const outcome = await fields.fill(workspace, configuration);
    const { kernel, vmm, symbols, pid }: Record<string, unknown> = outcome ?? {};
    return { outcome, filled: { kernel, vmm, symbols, pid }, workbench, configuration };
  }

  /** A process with this command line in the /proc that is looked at. */
  function process(pid: number, commandLine: readonly string[], cwd = '/'): void {
    mkdirSync(at(`proc/${pid}`), { recursive: true });
    writeFileSync(at(`proc/${pid}/cmdline`), commandLine.map((argument) => `${argument}\0`).join(''));
    symlinkSync(cwd, at(`proc/${pid}/cwd`));
  }

  describe('at a launch', () => {
    it('come from the folder and from PATH', async () => {
      folder.build('out');
      const { outcome, filled, workbench } = await fill({ cpus: 2 });
      const kernel = at('out/arch/arm64/boot/Image');
      assert.deepEqual(filled, { kernel, vmm: 'kvmtool', symbols: at('out/vmlinux'), pid: undefined });
      assert.equal(outcome?.cpus, 2);
      assert.equal((await fill({ cwd: '/' })).filled.kernel, kernel, 'wherever the VMM runs');
      assert.deepEqual(parseLaunch(outcome).ignored, []);
      assert.deepEqual([...workbench.asked, ...workbench.told], []);
    });

    it('are left alone where the adapter may be on another machine', async () => {
      folder.build();
      for (const values of [{ debugServer: 4711 }, { debugServer: 4711, request: 'attach' }]) {
        const { outcome, configuration, workbench } = await fill(values);
        assert.equal(outcome, configuration);
        assert.deepEqual([...workbench.asked, ...workbench.told], []);
      }
    });

    it('are left alone where they are set, be it to nothing or to what is not there', async () => {
      folder.build();
      programs = folder.programs('qemu-system-aarch64', 'lkvm');
      for (const values of [
        { kernel: 'missing/Image', vmm: 'qemu', symbols: 'missing/vmlinux' },
        { kernel: 'arch/arm64/boot/Image', vmm: 'kvmtool', symbols: '' },
        { command: ['vmm'], symbols: '' },
      ]) {
        const { outcome, configuration, workbench } = await fill(values);
        assert.deepEqual(outcome, configuration);
        assert.deepEqual([...workbench.asked, ...workbench.told], []);
      }
    });

    it('null says no more than nothing', async () => {
      folder.build();
      const { filled } = await fill({ kernel: null, vmm: null, symbols: null, debugServer: null });
      assert.deepEqual(filled.symbols, at('vmlinux'));
    });

    it('symbols are those of the kernel that is named, by a path or in a command line', async () => {
      folder.build();
      folder.build('out');
      const image = 'out/arch/arm64/boot/Image';
      const expected = at('out/vmlinux');
      assert.equal((await fill({ kernel: image })).filled.symbols, expected);
      assert.equal((await fill({ kernel: at(image) })).filled.symbols, expected);
      assert.equal((await fill({ kernel: 'arch/arm64/boot/Image', cwd: at('out') })).filled.symbols, expected);
      const { filled } = await fill({ command: ['crosvm', 'run', '--kernel', image] });
      assert.deepEqual(filled, { kernel: undefined, vmm: undefined, symbols: expected, pid: undefined });
    });

    it('symbols that are not found are no obstacle, and are told', async () => {
      const kernel = folder.write('Image');
      const { filled, workbench } = await fill({ kernel });
      assert.equal(filled.symbols, undefined);
      assert.equal(filled.vmm, 'kvmtool');
      assert.deepEqual(workbench.told, [
        `There will be no source lines and no variables: "symbols" is not set, and no vmlinux was found for ${kernel}. Name the kernel's vmlinux in "symbols" of launch.json.`,
      ]);
      assert.deepEqual((await fill({ kernel: 'gone/Image' })).workbench.told, [], 'the adapter says that it is gone');
    });

    it('the kernel is that of the symbols that are named', async () => {
      folder.build();
      folder.build('out');
      assert.equal((await fill({ symbols: 'out/vmlinux' })).filled.kernel, at('out/arch/arm64/boot/Image'));
      const { workbench, outcome } = await fill({ symbols: '/usr/lib/debug/vmlinux-6' });
      assert.equal(outcome, undefined);
      assert.match(workbench.asked[0]?.[0] ?? '', /no arch\/arm64\/boot\/Image beside \/usr\/lib\/debug\/vmlinux-6\./);
    });

    it('a kernel that is not found is asked for', async () => {
      const { workbench, outcome } = await fill({});
      assert.equal(outcome, undefined, 'Escape cancels');
      assert.deepEqual(workbench.asked, [
        [
          `launch: "kernel" is not set, and there is no arch/arm64/boot/Image in ${folder.path} or a folder directly below it. Build the kernel, or name its Image in "kernel".`,
          'Open launch.json',
          'Choose the Image…',
        ],
      ]);
      assert.equal((await fill({}, { button: 'Open launch.json' })).outcome, null);
      const { filled } = await fill({ symbols: '' }, { button: 'Choose the Image…', file: '/tftp/Image' });
      assert.deepEqual([filled.kernel, filled.vmm], ['/tftp/Image', 'kvmtool']);
      const nowhere = new ScriptedWorkbench();
      await new MissingFields(nowhere, programs).fill(undefined, { type: 'kvm', request: 'launch', name: 'x' });
      assert.match(nowhere.asked[0]?.[0] ?? '', /no folder is open/);
    });

    it('a kernel that is not debugged is not taken, and said to be there', async () => {
      folder.vmlinux('vmlinux', 62);
      const image = folder.write('arch/x86/boot/bzImage');
      const sentence = `"kernel" is not set, and ${image} is a kernel for x86_64; this version debugs arm64 guests only.`;
      const { workbench, outcome } = await fill({});
      assert.equal(outcome, undefined);
      assert.ok(workbench.asked[0]?.[0]?.includes(sentence), workbench.asked.join());
      const attached = await fill({ request: 'attach', pid: 7 });
      assert.equal(attached.filled.symbols, undefined);
      assert.match(attached.workbench.told.join(), /bzImage is a kernel for x86_64; this version debugs arm64/);
      folder.build('out');
      assert.equal((await fill({})).filled.symbols, at('out/vmlinux'));
    });

    it('of several kernels one is chosen', async () => {
      folder.build('a');
      folder.build('b');
      const { filled, workbench } = await fill({}, { choice: 0 });
      assert.deepEqual(workbench.choices, [[at('b'), at('a')]]);
      assert.deepEqual(filled.symbols, at('b/vmlinux'));
      assert.equal((await fill({})).outcome, undefined);
    });

    it('the VMM is told by its program, else by what is installed', async () => {
      const kernel = folder.write('Image');
      const vmmOf = async (values: object) => (await fill({ kernel, symbols: '', ...values })).filled.vmm;
      assert.equal(await vmmOf({ vmmPath: '/opt/qemu-system-aarch64' }), 'qemu');
      assert.equal(await vmmOf({ vmmPath: '/opt/lkvm' }), 'kvmtool');
      assert.equal(await vmmOf({ vmmPath: '/opt/own' }), 'kvmtool', "the adapter's default");
      const other = new KernelFolder();
      const path = other.programs('qemu-system-aarch64');
      assert.equal(await vmmOf({ env: { PATH: path } }), 'qemu');
      other.remove();
      programs = path;
      const { workbench, outcome } = await fill({ kernel });
      assert.equal(outcome, undefined);
      assert.match(
        workbench.asked[0]?.[0] ?? '',
        /^launch: "vmm" is not set, and none of lkvm, .* is on PATH\. Install/,
      );
    });
  });

  describe('at an attach', () => {
    const request = 'attach';

    it('the VM is picked', async () => {
      const { outcome, workbench } = await fill({ request, symbols: '' }, { vm: { pid: 42, vmm: undefined } });
      assert.equal(parseAttach(outcome).pid, 42);
      assert.deepEqual([...workbench.asked, ...workbench.told], []);
      assert.equal((await fill({ request, pid: '' })).outcome, undefined, 'Escape cancels');
      const stub = await fill({ request, pid: '', symbols: '' }, { vm: { remote: ':1234' } });
      assert.deepEqual(parseAttach(stub.outcome).remote, { host: 'localhost', port: 1234 });
    });

    it('a remote stub has no process', async () => {
      const { outcome, configuration } = await fill({ request, remote: 'localhost:1234', symbols: '' });
      assert.equal(outcome, configuration);
      const { filled, workbench } = await fill({ request, remote: 'localhost:1234' });
      assert.equal(filled.pid, undefined);
      assert.match(workbench.told.join(), /"symbols" is not set/);
    });

    it('symbols are those of the kernel that the VM booted, else of the workspace', async () => {
      folder.build();
      folder.build('out');
      process(5, ['lkvm', 'run', '-k', 'arch/arm64/boot/Image'], at('out'));
      assert.equal((await fill({ request, pid: '5' })).filled.symbols, at('out/vmlinux'));
      process(6, ['qemu-system-aarch64', '-drive', 'file=x']);
      const { filled, workbench } = await fill({ request, pid: 6 }, { choice: 1 });
      assert.deepEqual(workbench.choices, [[at('out'), folder.path]]);
      assert.equal(filled.symbols, at('vmlinux'));
      assert.equal((await fill({ request, pid: 6, symbols: 'own' })).filled.symbols, 'own');
    });

    it('symbols that are not found are told', async () => {
      const { filled, workbench } = await fill({ request, pid: 7 });
      assert.equal(filled.symbols, undefined);
      assert.match(
        workbench.told[0] ?? '',
        /"symbols" is not set, and there is no vmlinux in \S+ or a folder directly/,
      );
    });
  });

  it('are none of ours where the request is unknown', async () => {
    const { outcome, configuration } = await fill({ request: 'lunch' });
    assert.equal(outcome, configuration);
  });
});
