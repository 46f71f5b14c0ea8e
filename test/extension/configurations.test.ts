import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import type { CancellationToken, DebugConfiguration, WorkspaceFolder } from 'vscode';
import { parseLaunch } from '../../src/dap/arguments.ts';
import { configurationProvider, dynamicConfigurationProvider } from '../../src/extension/configuration.ts';
import {
  initialConfigurations,
  offeredConfigurations,
  pickedConfiguration,
} from '../../src/extension/configurations.ts';
import { findKernelTree } from '../../src/extension/kernelTree.ts';
import { KernelFolder } from './kernelFolder.ts';
import { ScriptedWorkbench } from './scriptedWorkbench.ts';

const variable = (name: string): string => `\${${name}}`;
const workspaceFolder = variable('workspaceFolder');
const attach = {
  type: 'kvm',
  request: 'attach',
  name: 'Attach to a VM',
  pid: variable('command:kvm.pickVmm'),
};

describe('configurations that are offered', () => {
  let folder: KernelFolder;
  beforeEach(() => {
    folder = new KernelFolder();
  });
  afterEach(() => folder.remove());

  const tree = () => findKernelTree(folder.path);

  it('launch the kernel of the workspace, and attach with its symbols', async () => {
    folder.build();
    assert.deepEqual(initialConfigurations(await tree(), 'qemu'), [
      {
        type: 'kvm',
        request: 'launch',
        name: 'Debug guest kernel',
        vmm: 'qemu',
        kernel: `${workspaceFolder}/arch/arm64/boot/Image`,
        symbols: `${workspaceFolder}/vmlinux`,
        params: 'console=ttyAMA0',
        stopOnEntry: true,
      },
      { ...attach, symbols: `${workspaceFolder}/vmlinux` },
    ]);
  });

  it('launch the program that a project with a Makefile has built', async () => {
    const provide = async () => {
      const provider = configurationProvider(new ScriptedWorkbench(), folder.programs('lkvm'), {
        session: async () => undefined,
      });
      const at = { uri: { scheme: 'file', fsPath: folder.path }, name: '', index: 0 } as unknown as WorkspaceFolder;
      return ((await provider.provideDebugConfigurations?.(at)) ?? []).map(({ name, vmm, kernel, symbols }) => [
        name,
        vmm,
        kernel,
        symbols,
      ]);
    };
    const offered = (name: string, vmm: string, kernel: string, symbols: string) => [
      [name, vmm, `${workspaceFolder}/${kernel}`, `${workspaceFolder}/${symbols}`],
      [attach.name, undefined, undefined, `${workspaceFolder}/${symbols}`],
    ];
    folder.program('build/kernel.elf');
    const usual = await provide();
    assert.match(`${usual[0]}`, /Debug guest kernel.*boot\/Image/, 'there is no Makefile');
    folder.write('Makefile');
    assert.deepEqual(await provide(), offered('Debug kernel.elf', 'qemu', 'build/kernel.elf', 'build/kernel.elf'));
    folder.write('build/kernel.bin');
    // Later, but not for a bare machine, or of another one, or no program.
    folder.program('tool', { interpreter: true });
    folder.program('host', { machine: 62 });
    folder.program('part.out', { type: 1 });
    folder.write('notes', 'text');
    assert.deepEqual(await provide(), offered('Debug kernel.elf', 'kvmtool', 'build/kernel.bin', 'build/kernel.elf'));
    folder.program('newer');
    assert.deepEqual(await provide(), offered('Debug newer', 'qemu', 'newer', 'newer'));
    folder.build('linux');
    assert.match(`${await provide()}`, /Debug guest kernel/);
  });

  it('launch each of several kernels by a name of its own', async () => {
    folder.build('build-a');
    folder.build('build-b');
    const names = offeredConfigurations(await tree()).map(({ name, symbols }) => [name, symbols]);
    assert.deepEqual(names, [
      ['Debug guest kernel (build-b)', `${workspaceFolder}/build-b/vmlinux`],
      ['Debug guest kernel (build-a)', `${workspaceFolder}/build-a/vmlinux`],
      [attach.name, `${workspaceFolder}/build-b/vmlinux`],
    ]);
  });

  it('are none for kernels of architectures that are not debugged', async () => {
    folder.vmlinux('vmlinux', 62);
    folder.write('arch/x86/boot/bzImage');
    assert.deepEqual(offeredConfigurations(await tree()), [attach]);
    const [launch] = initialConfigurations(await tree(), 'qemu');
    assert.equal(launch?.kernel, `${workspaceFolder}/arch/arm64/boot/Image`);
    assert.equal(launch?.params, 'console=ttyAMA0');
    folder.build('out');
    assert.deepEqual(
      offeredConfigurations(await tree()).map(({ symbols }) => symbols),
      [`${workspaceFolder}/out/vmlinux`, `${workspaceFolder}/out/vmlinux`],
    );
  });

  it('name the usual files in a new launch.json where nothing is built', async () => {
    folder.sources();
    for (const configurations of [initialConfigurations(await tree()), initialConfigurations(undefined)]) {
      assert.deepEqual(
        configurations.map(({ vmm, kernel, symbols }) => [vmm, kernel, symbols]),
        [
          ['kvmtool', `${workspaceFolder}/arch/arm64/boot/Image`, `${workspaceFolder}/vmlinux`],
          [undefined, undefined, `${workspaceFolder}/vmlinux`],
        ],
      );
      assert.deepEqual(parseLaunch(configurations[0]).ignored, []);
    }
    assert.deepEqual(offeredConfigurations(await tree()), [attach]);
  });

  it('name what is missing beside what is there', async () => {
    folder.vmlinux('out/vmlinux');
    const [launch] = initialConfigurations(await tree());
    assert.equal(launch?.kernel, `${workspaceFolder}/out/arch/arm64/boot/Image`);
  });

  it('attach to what was picked', () => {
    const process = { type: 'kvm', request: 'attach', name: 'Attach to a VM', pid: 5 };
    assert.deepEqual(pickedConfiguration({ pid: 5, vmm: undefined }), process);
    const stub = { type: 'kvm', request: 'attach', name: 'Attach to :1234', remote: ':1234' };
    assert.deepEqual(pickedConfiguration({ remote: ':1234' }), stub);
  });

  describe('to VS Code', () => {
    const workspace = (scheme = 'file') =>
      ({ uri: { scheme, fsPath: folder.path }, name: 'w', index: 0 }) as unknown as WorkspaceFolder;
    const token = {} as CancellationToken;
    /** The demo, which takes every configuration for its own. */
    const demo = {
      session: async (folder: string | undefined) => ({ type: 'kvm', request: 'launch', name: `lab, ${folder}` }),
    };
    const bare = (fields: object): DebugConfiguration => fields as DebugConfiguration;

    it('as the first launch.json and in the list of the Run view', async () => {
      folder.build();
      const path = folder.programs('qemu-system-aarch64');
      const provider = configurationProvider(new ScriptedWorkbench(), path, demo);
      const initial = await provider.provideDebugConfigurations?.(workspace(), token);
      assert.deepEqual(initial, initialConfigurations(await tree(), 'qemu'));
      const dynamic = dynamicConfigurationProvider(path);
      assert.deepEqual(await dynamic.provideDebugConfigurations?.(workspace(), token), initial);
      assert.deepEqual(await dynamic.provideDebugConfigurations?.(workspace('vscode-vfs'), token), []);
      const usual = await provider.provideDebugConfigurations?.(undefined, token);
      assert.deepEqual(usual, initialConfigurations(undefined, 'qemu'));
    });

    it('are made before variables are substituted only where there is no launch.json', async () => {
      folder.build();
      const provider = configurationProvider(new ScriptedWorkbench(), folder.programs('lkvm'), demo);
      const made = await provider.resolveDebugConfiguration?.(workspace(), bare({ noDebug: true }), token);
      assert.deepEqual([made?.request, made?.noDebug, made?.vmm], ['launch', true, 'kvmtool']);
      for (const given of [
        { type: 'kvm', request: 'launch', name: 'x' },
        { type: 'kvm', name: 'without a request' },
        { type: 'kvm', request: 'attach', name: 'x', symbols: `${workspaceFolder}/vmlinux` },
      ]) {
        assert.equal(await provider.resolveDebugConfiguration?.(workspace(), bare(given), token), given);
      }
    });

    it('are completed once variables are substituted', async () => {
      folder.build();
      const provider = configurationProvider(new ScriptedWorkbench(), folder.programs('lkvm'), demo);
      const given = bare({ type: 'kvm', request: 'launch', name: 'x' });
      const resolve = provider.resolveDebugConfigurationWithSubstitutedVariables?.bind(provider);
      assert.equal((await resolve?.(workspace(), given, token))?.vmm, 'kvmtool');
      assert.equal(await resolve?.(workspace('vscode-vfs'), given, token), undefined);
    });

    it("are the demo's where they ask for its lab, and name no other adapter", async () => {
      folder.build();
      const provider = configurationProvider(new ScriptedWorkbench(), folder.programs('lkvm'), demo);
      const resolve = provider.resolveDebugConfigurationWithSubstitutedVariables?.bind(provider);
      const given = { type: 'kvm', request: 'launch', name: 'x' };
      const nameWith = async (fields: object) => (await resolve?.(workspace(), { ...given, ...fields }, token))?.name;
      assert.equal(await nameWith({ lab: true }), `lab, ${folder.path}`);
      assert.equal((await resolve?.(workspace(), { ...given, lab: true }, token))?.missingSources, 'disassembly');
      for (const fields of [
        { lab: false },
        { lab: true, debugServer: 4711 },
        { lab: true, request: 'attach', pid: 1 },
      ]) {
        assert.equal(await nameWith(fields), 'x');
      }
    });

    it('without a kernel nothing starts, or launch.json opens', async () => {
      const open = (button: string) => {
        const provider = configurationProvider(new ScriptedWorkbench({ button }), '', demo);
        return provider.resolveDebugConfiguration?.(workspace(), bare({}), token);
      };
      assert.equal(await open('Create launch.json'), null);
      assert.equal(await open('no such button'), undefined);
    });
  });
});
