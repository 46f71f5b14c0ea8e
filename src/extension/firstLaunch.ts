// F5 without a launch.json: the kernel of the workspace is launched, or the user learns what there is to be done.
import { join } from 'node:path';
import { type BootableBuild, isBootable, launchConfiguration } from './configurations.ts';
import {
  findKernelTree,
  imageOf,
  isDebugged,
  type KernelBuild,
  type KernelTree,
  whyNotDebugged,
} from './kernelTree.ts';
import { attachInstead, chooseBuild, chooseFile, createLaunchJson, type Outcome, offer, places } from './offers.ts';
import { installedVmm, noProgram } from './programs.ts';
import type { Workbench } from './workbench.ts';

const usualImage = imageOf('arm64');

/** `path`: as $PATH. */
export class FirstLaunch {
  readonly #workbench: Workbench;
  readonly #path: string | undefined;

  constructor(workbench: Workbench, path: string | undefined) {
    this.#workbench = workbench;
    this.#path = path;
  }

  /** `folder`: the one that VS Code would put launch.json into; undefined when none is open on this machine. */
  async configuration(folder: string | undefined): Promise<Outcome> {
    if (folder === undefined) return this.#withoutFolder();
    const tree = await this.#treeAt(folder);
    const builds = tree.builds.filter(isDebugged);
    const [best] = builds;
    if (best === undefined) return this.#withoutKernel(tree);
    const [first, ...others] = builds.filter(isBootable).filter(({ vmlinux }) => vmlinux !== undefined);
    if (first !== undefined) {
      const build = await chooseBuild(this.#workbench, [first, ...others]);
      return build && this.#launch(build);
    }
    return isBootable(best) ? this.#withoutSymbols(best) : this.#withoutImage(best);
  }

  /** In a workspace of several folders the kernel may be in another one than the file that is being looked at. */
  async #treeAt(folder: string): Promise<KernelTree> {
    const tree = await findKernelTree(folder);
    if (tree.builds.length > 0) return tree;
    for (const other of this.#workbench.folders()) {
      const found = other === folder ? undefined : await findKernelTree(other);
      if (found && found.builds.length > 0) return found;
    }
    return tree;
  }

  async #launch(build: KernelBuild & BootableBuild): Promise<Outcome> {
    if (build.debugInfo === false) return this.#withoutDebugInfo(build);
    return this.#boot(build);
  }

  async #boot(build: BootableBuild): Promise<Outcome> {
    const vmm = await installedVmm(this.#path);
    if (vmm !== undefined) return launchConfiguration(build, vmm);
    return offer(
      this.#workbench,
      `There is no VMM to run the kernel in: ${noProgram()} is on PATH. Install kvmtool or QEMU, or name its program in "vmmPath" of launch.json.`,
      [createLaunchJson, attachInstead(this.#workbench)],
    );
  }

  #withoutFolder(): Promise<Outcome> {
    const openFolder = {
      label: 'Open Folder…',
      run: async () => {
        await this.#workbench.openFolder();
        return undefined;
      },
    };
    return offer(
      this.#workbench,
      'There is no kernel to launch, as no folder is open: open the one that the kernel was built in.',
      [openFolder, attachInstead(this.#workbench)],
    );
  }

  #withoutKernel(tree: KernelTree): Promise<Outcome> {
    const remedies = [createLaunchJson, attachInstead(this.#workbench)];
    const [other] = tree.builds;
    if (other !== undefined) return offer(this.#workbench, `${whyNotDebugged(other)}.`, remedies);
    const lack = `neither a vmlinux nor an ${usualImage} is ${places(tree)}`;
    const message =
      tree.sources === undefined
        ? `There is no kernel to launch: ${lack}.`
        : `The kernel in ${tree.sources} is not built: ${lack}. Build it with make, or name its files in launch.json.`;
    return offer(this.#workbench, message, remedies);
  }

  #withoutImage(build: KernelBuild): Promise<Outcome> {
    const image = imageOf(build.architecture ?? 'arm64');
    const { folder, architecture, vmlinux } = build;
    return offer(
      this.#workbench,
      `There is no image to boot for ${vmlinux}: ${join(folder, image)} does not exist. Build it with make, or choose another.`,
      [
        chooseFile(this.#workbench, 'Choose the Image…', folder, (path) =>
          this.#boot({ image: path, vmlinux, architecture }),
        ),
        createLaunchJson,
        attachInstead(this.#workbench),
      ],
    );
  }

  #withoutSymbols(build: KernelBuild & BootableBuild): Promise<Outcome> {
    const { folder, image, architecture } = build;
    return offer(
      this.#workbench,
      `There are no symbols for ${image}: ${join(folder, 'vmlinux')} does not exist. Build it with make, or choose another.`,
      [
        chooseFile(this.#workbench, 'Choose the vmlinux…', folder, (vmlinux) =>
          this.#boot({ image, vmlinux, architecture }),
        ),
        { label: 'Debug Without Symbols', run: () => this.#boot(build) },
        createLaunchJson,
      ],
    );
  }

  #withoutDebugInfo(build: KernelBuild & BootableBuild): Promise<Outcome> {
    const config = join(build.folder, '.config');
    return offer(
      this.#workbench,
      `There are no source lines in ${build.vmlinux}: CONFIG_DEBUG_INFO is not set in ${config}. Choose debug information under "Kernel hacking" in make menuconfig, and build again.`,
      [
        { label: 'Debug Without Source Lines', run: () => this.#boot(build) },
        createLaunchJson,
        attachInstead(this.#workbench),
      ],
    );
  }
}
