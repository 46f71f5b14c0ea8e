import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync } from 'node:fs';
import { join, relative } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { findKernelTree, imageBeside, isDebugged, symbolsOf, whyNotDebugged } from '../../src/extension/kernelTree.ts';
import { KernelFolder } from './kernelFolder.ts';

describe('what a folder holds of a kernel', () => {
  let folder: KernelFolder;
  beforeEach(() => {
    folder = new KernelFolder();
  });
  afterEach(() => folder.remove());

  const builds = async () =>
    (await findKernelTree(folder.path)).builds.map(({ folder: place, time, vmlinux, image, machine, ...rest }) => ({
      place: relative(folder.path, place) || '.',
      files: [vmlinux, image].map((path) => path && relative(place, path)),
      ...rest,
    }));

  it('nothing, in an empty folder, a missing one, and one that is a file', async () => {
    assert.deepEqual(await findKernelTree(folder.path), { folder: folder.path, sources: undefined, builds: [] });
    assert.deepEqual((await findKernelTree(join(folder.path, 'missing'))).builds, []);
    assert.deepEqual((await findKernelTree(folder.write('file'))).builds, []);
  });

  it('sources, built or not', async () => {
    folder.sources();
    folder.write('arch/arm64/Makefile');
    const tree = await findKernelTree(folder.path);
    assert.equal(tree.sources, folder.path);
    assert.deepEqual(tree.builds, []);
  });

  it('a build in the sources', async () => {
    folder.sources();
    folder.build();
    assert.deepEqual(await builds(), [
      { place: '.', architecture: 'arm64', files: ['vmlinux', 'arch/arm64/boot/Image'], debugInfo: true },
    ]);
  });

  it('an x86-64 build', async () => {
    folder.vmlinux('vmlinux', 62);
    folder.write('arch/x86/boot/bzImage');
    folder.write('.config', '# CONFIG_ARM64 is not set\nCONFIG_X86_64=y\n# CONFIG_DEBUG_INFO is not set\n');
    assert.deepEqual(await builds(), [
      { place: '.', architecture: 'x86_64', files: ['vmlinux', 'arch/x86/boot/bzImage'], debugInfo: false },
    ]);
  });

  it('takes the kernel of another machine for none that is debugged', async () => {
    folder.vmlinux('vmlinux', 243 /* EM_RISCV */);
    folder.write('.config', 'CONFIG_RISCV=y\n');
    const [build] = (await findKernelTree(folder.path)).builds;
    assert.ok(build);
    assert.equal(isDebugged(build), false);
    assert.match(whyNotDebugged(build), /vmlinux is a kernel for another machine \(ELF e_machine 243\)/);
  });

  it('builds one level down: complete ones first, then the folder itself, then the newest', async () => {
    folder.vmlinux();
    folder.build('build-old');
    folder.build('out');
    folder.build('deep/below');
    folder.vmlinux('unfinished/vmlinux');
    folder.build('.hidden');
    assert.deepEqual(
      (await builds()).map(({ place }) => place),
      ['out', 'build-old', '.', 'unfinished'],
    );
  });

  it('takes the image that belongs to the vmlinux, where another architecture was built before', async () => {
    folder.vmlinux('vmlinux', 62);
    folder.write('arch/arm64/boot/Image');
    assert.deepEqual(await builds(), [
      { place: '.', architecture: 'x86_64', files: ['vmlinux', undefined], debugInfo: undefined },
    ]);
  });

  it('knows the architecture by the configuration or the image where the vmlinux does not tell', async () => {
    folder.write('a/vmlinux', 'no ELF file');
    folder.write('a/.config', 'CONFIG_X86_64=y\nCONFIG_DEBUG_INFO_NONE=y\n');
    folder.write('b/arch/arm64/boot/Image');
    folder.write('c/vmlinux');
    assert.deepEqual(await builds(), [
      { place: 'c', architecture: undefined, files: ['vmlinux', undefined], debugInfo: undefined },
      { place: 'b', architecture: 'arm64', files: [undefined, 'arch/arm64/boot/Image'], debugInfo: undefined },
      { place: 'a', architecture: 'x86_64', files: ['vmlinux', undefined], debugInfo: false },
    ]);
  });

  it('follows links to folders once, and none that leads nowhere or in a circle', async () => {
    const elsewhere = new KernelFolder();
    try {
      elsewhere.build();
      symlinkSync(elsewhere.path, join(folder.path, 'out'));
      symlinkSync(elsewhere.path, join(folder.path, 'out2'));
      symlinkSync('.', join(folder.path, 'source'));
      symlinkSync('missing', join(folder.path, 'build'));
      symlinkSync('loop', join(folder.path, 'loop'));
      symlinkSync('vmlinux', join(folder.path, 'vmlinux'));
      assert.deepEqual(
        (await builds()).map(({ place }) => place),
        ['out'],
      );
    } finally {
      elsewhere.remove();
    }
  });

  it('opens nothing but files', async () => {
    for (const name of ['vmlinux', '.config']) execFileSync('mkfifo', [join(folder.path, name)]);
    mkdirSync(join(folder.path, 'arch/arm64/boot/Image'), { recursive: true });
    assert.deepEqual(await builds(), []);
  });

  it('stops looking in a folder that holds ever so many others', async () => {
    for (let index = 0; index < 300; index++) mkdirSync(join(folder.path, `folder${index}`));
    folder.build();
    const started = performance.now();
    assert.equal((await builds()).length, 1);
    assert.ok(performance.now() - started < 5000);
  });

  it('finds the image beside a vmlinux, and the vmlinux of an image', async () => {
    folder.build('out');
    const image = join(folder.path, 'out/arch/arm64/boot/Image');
    const vmlinux = join(folder.path, 'out/vmlinux');
    assert.equal(await imageBeside(vmlinux), image);
    assert.equal(await symbolsOf(image), vmlinux);
    assert.equal(await symbolsOf(`${image}.gz`), vmlinux);
    const link = join(folder.path, 'Image');
    symlinkSync(image, link);
    assert.equal(await symbolsOf(link), vmlinux);
    assert.equal(await symbolsOf(folder.write('Image-6.1')), undefined);
    assert.equal(await symbolsOf(folder.write('out/copied')), vmlinux);
  });

  it("finds the symbols of a distribution's kernel", async () => {
    const debug = join(folder.path, 'debug');
    const debian = folder.vmlinux('debug/boot/vmlinux-6.1.0-1-arm64');
    const fedora = folder.vmlinux('debug/lib/modules/6.12.4.fc41/vmlinux');
    assert.equal(await symbolsOf('/boot/vmlinuz-6.1.0-1-arm64', debug), debian);
    assert.equal(await symbolsOf('/boot/vmlinuz-6.12.4.fc41', debug), fedora);
    assert.equal(await symbolsOf('/boot/vmlinuz-5.0', debug), undefined);
  });
});
