import assert from 'node:assert/strict';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { parseAttach, parseLaunch } from '../../src/dap/arguments.ts';
import { FirstLaunch } from '../../src/extension/firstLaunch.ts';
import { KernelFolder } from './kernelFolder.ts';
import { ScriptedWorkbench } from './scriptedWorkbench.ts';

describe('F5 without a launch.json', () => {
  let folder: KernelFolder;
  let programs: string;
  beforeEach(() => {
    folder = new KernelFolder();
    programs = folder.programs('lkvm');
  });
  afterEach(() => folder.remove());

  const press = (workbench: ScriptedWorkbench, at: string | undefined = folder.path) =>
    new FirstLaunch(workbench, programs).configuration(at);
  /** Presses F5 in a folder where something is amiss, and `button` in the dialog that says so. */
  async function amiss(button: string | undefined, user: object = {}, at: string | undefined = folder.path) {
    const workbench = new ScriptedWorkbench({ ...(button ? { button } : {}), ...user });
    const outcome = await new FirstLaunch(workbench, programs).configuration(at);
    const [[message = '', ...buttons] = []] = workbench.asked;
    return { message, buttons, outcome, workbench };
  }

  it('launches the kernel of the folder, and says nothing', async () => {
    folder.sources();
    folder.build();
    const workbench = new ScriptedWorkbench();
    const configuration = await press(workbench);
    assert.deepEqual(configuration, {
      type: 'kvm',
      request: 'launch',
      name: 'Debug guest kernel',
      vmm: 'kvmtool',
      kernel: join(folder.path, 'arch/arm64/boot/Image'),
      symbols: join(folder.path, 'vmlinux'),
      params: 'console=ttyS0',
      stopOnEntry: true,
    });
    assert.deepEqual(parseLaunch(configuration).ignored, []);
    assert.deepEqual([...workbench.asked, ...workbench.told, ...workbench.choices], []);
  });

  it('takes QEMU, and its console, where there is no kvmtool to run', async () => {
    folder.build('out');
    folder.write('text/lkvm'); // not executable
    mkdirSync(join(folder.path, 'folders/lkvm'), { recursive: true });
    const places = ['text', 'folders'].map((name) => join(folder.path, name));
    rmSync(join(folder.programs('qemu-system-aarch64'), 'lkvm'));
    programs = [...places, 'relative', '', folder.programs()].join(':');
    const configuration = await press(new ScriptedWorkbench());
    assert.deepEqual([configuration?.vmm, configuration?.params], ['qemu', 'console=ttyAMA0']);
    assert.equal(configuration?.kernel, join(folder.path, 'out/arch/arm64/boot/Image'));
  });

  it('asks which of several kernels', async () => {
    folder.build('old');
    folder.build('new');
    folder.vmlinux('unfinished/vmlinux');
    const workbench = new ScriptedWorkbench({ choice: 1 });
    const configuration = await press(workbench);
    assert.deepEqual(workbench.choices, [[join(folder.path, 'new'), join(folder.path, 'old')]]);
    assert.equal(configuration?.symbols, join(folder.path, 'old/vmlinux'));
    assert.equal(await press(new ScriptedWorkbench()), undefined);
  });

  it('finds the kernel in another folder of the workspace', async () => {
    folder.build('linux');
    folder.write('scripts/run');
    const [scripts, linux] = [join(folder.path, 'scripts'), join(folder.path, 'linux')];
    const configuration = await press(new ScriptedWorkbench({ folders: [scripts, linux] }), scripts);
    assert.equal(configuration?.symbols, join(linux, 'vmlinux'));
  });

  const attach = 'Attach to a Running VM…';
  const create = 'Create launch.json';

  it('in a folder of something else says what was looked for', async () => {
    const { message, buttons, outcome } = await amiss(undefined);
    assert.equal(
      message,
      `There is no kernel to launch: neither a vmlinux nor an arch/arm64/boot/Image is in ${folder.path} or a folder directly below it.`,
    );
    assert.deepEqual(buttons, [create, attach]);
    assert.equal(outcome, undefined, 'Escape cancels');
    assert.equal((await amiss(create)).outcome, null, 'VS Code makes the launch.json');
  });

  it('attaches instead', async () => {
    const { outcome } = await amiss(attach, { vm: { pid: 42, vmm: undefined } });
    assert.deepEqual(outcome, { type: 'kvm', request: 'attach', name: 'Attach to a VM', pid: 42 });
    assert.equal(parseAttach(outcome).pid, 42);
    assert.equal((await amiss(attach)).outcome, undefined, 'no VM picked');
  });

  it('in sources that are not built says that', async () => {
    folder.sources();
    assert.match((await amiss(undefined)).message, /^The kernel in \S+ is not built: neither .* Build it with make/);
  });

  it('without a folder offers to open one', async () => {
    const workbench = new ScriptedWorkbench({ button: 'Open Folder…' });
    assert.equal(await new FirstLaunch(workbench, programs).configuration(undefined), undefined);
    assert.ok(workbench.openedFolder);
    assert.match(workbench.asked[0]?.[0] ?? '', /no folder is open/);
    assert.deepEqual(workbench.asked[0]?.slice(1), ['Open Folder…', attach]);
  });

  it('without an image names it, and takes another', async () => {
    const vmlinux = folder.vmlinux('out/vmlinux');
    const { message, buttons } = await amiss(undefined);
    const image = join(folder.path, 'out/arch/arm64/boot/Image');
    assert.equal(
      message,
      `There is no image to boot for ${vmlinux}: ${image} does not exist. Build it with make, or choose another.`,
    );
    assert.deepEqual(buttons, ['Choose the Image…', create, attach]);
    const { outcome } = await amiss('Choose the Image…', { file: '/tftp/Image' });
    assert.deepEqual([outcome?.kernel, outcome?.symbols], ['/tftp/Image', vmlinux]);
    assert.equal((await amiss('Choose the Image…')).outcome, undefined, 'no file chosen');
  });

  it('without a vmlinux names it, and takes another or goes without', async () => {
    const image = folder.write('arch/arm64/boot/Image');
    const { message, buttons } = await amiss(undefined);
    assert.match(message, /^There are no symbols for \S+\/Image: \S+\/vmlinux does not exist\. Build it/);
    assert.deepEqual(buttons, ['Choose the vmlinux…', 'Debug Without Symbols', create]);
    const chosen = (await amiss('Choose the vmlinux…', { file: '/lib/vmlinux' })).outcome;
    assert.deepEqual([chosen?.kernel, chosen?.symbols], [image, '/lib/vmlinux']);
    const without = (await amiss('Debug Without Symbols')).outcome;
    assert.deepEqual([without?.kernel, without?.symbols], [image, '']);
  });

  it('without debug information names the option, and goes without', async () => {
    folder.build('.', 'CONFIG_ARM64=y\nCONFIG_DEBUG_INFO_NONE=y\n# CONFIG_DEBUG_INFO is not set\n');
    const { message, buttons } = await amiss(undefined);
    assert.match(
      message,
      /^There are no source lines in \S+\/vmlinux: CONFIG_DEBUG_INFO is not set in \S+\/\.config\. /,
    );
    assert.deepEqual(buttons, ['Debug Without Source Lines', create, attach]);
    const { outcome } = await amiss('Debug Without Source Lines');
    assert.equal(outcome?.symbols, join(folder.path, 'vmlinux'));
  });

  it('without a VMM names the programs', async () => {
    folder.build();
    programs = join(folder.path, 'missing');
    const { message, buttons } = await amiss(undefined);
    assert.match(message, /none of lkvm, kvmtool, vm and qemu-system-aarch64 is on PATH\. Install kvmtool or QEMU, or/);
    assert.deepEqual(buttons, [create, attach]);
  });

  it('in a tree of another architecture says which are debugged', async () => {
    folder.vmlinux('vmlinux', 62);
    const image = folder.write('arch/x86/boot/bzImage');
    const { message } = await amiss(undefined);
    assert.equal(message, `${image} is a kernel for x86_64; this version debugs arm64 guests only.`);
    folder.build('arm');
    assert.equal((await press(new ScriptedWorkbench()))?.kernel, join(folder.path, 'arm/arch/arm64/boot/Image'));
  });
});
