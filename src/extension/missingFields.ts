// The fields that a configuration leaves out, from what is on this machine. What it says is never changed; an empty text
// says "none".
import { access } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { DebugConfiguration } from 'vscode';
import { isBootable } from './configurations.ts';
import {
  findKernelTree,
  imageBeside,
  imageOf,
  isDebugged,
  type KernelTree,
  symbolsOf,
  whyNotDebugged,
} from './kernelTree.ts';
import { chooseBuild, chooseFile, type Outcome, offer, openLaunchJson, places } from './offers.ts';
import { installedVmm, kindOf, noProgram } from './programs.ts';
import { describeGuest } from './vmmCommandLine.ts';
import { kernelOf } from './vmms.ts';
import type { Workbench } from './workbench.ts';

/** As the adapter reads it: null says no more than nothing. */
const isSet = (value: unknown): boolean => value !== undefined && value !== null;
const textOf = (value: unknown): string | undefined => (typeof value === 'string' && value !== '' ? value : undefined);

export class MissingFields {
  readonly #workbench: Workbench;
  readonly #path: string | undefined;
  readonly #proc: string;

  /** `path`: as $PATH. */
  constructor(workbench: Workbench, path: string | undefined, proc = '/proc') {
    this.#workbench = workbench;
    this.#path = path;
    this.#proc = proc;
  }

  /** Variables in `configuration` have been substituted, and its preLaunchTask has run: it may be what builds the kernel
   *  or starts the VM. `folder`: its workspace folder, when that is on this machine. */
  async fill(folder: string | undefined, configuration: DebugConfiguration): Promise<Outcome> {
    // The adapter may be on another machine then, and what is on this one means nothing there.
    if (isSet(configuration.debugServer)) return configuration;
    if (configuration.request === 'launch') return this.#launch(folder, configuration);
    if (configuration.request === 'attach') return this.#attach(folder, configuration);
    return configuration; // VS Code says what it must be
  }

  async #launch(folder: string | undefined, configuration: DebugConfiguration): Promise<Outcome> {
    const base = baseOf(folder, configuration);
    if (!isSet(configuration.command)) {
      if (!isSet(configuration.kernel)) return this.#kernel(folder, base, configuration);
      if (!isSet(configuration.vmm)) return this.#vmm(folder, configuration);
    }
    return isSet(configuration.symbols) ? configuration : this.#launchSymbols(folder, base, configuration);
  }

  async #kernel(
    folder: string | undefined,
    base: string | undefined,
    configuration: DebugConfiguration,
  ): Promise<Outcome> {
    const goOn = (kernel: string) => this.#launch(folder, { ...configuration, kernel });
    const vmlinux = textOf(configuration.symbols);
    if (vmlinux !== undefined) {
      const image = await imageBeside(resolve(base ?? '', vmlinux));
      if (image !== undefined) return goOn(image);
    }
    const place = folder ?? base;
    const tree = place === undefined ? undefined : await findKernelTree(place);
    // Symbols that are named elsewhere are of another kernel than the tree's.
    const [first, ...others] = vmlinux === undefined ? (tree?.builds.filter(isDebugged).filter(isBootable) ?? []) : [];
    if (first !== undefined) {
      const build = await chooseBuild(this.#workbench, [first, ...others]);
      return build && goOn(build.image);
    }
    const image = imageOf('arm64');
    const why = vmlinux === undefined ? lack(image, tree) : `there is no ${image} beside ${vmlinux}`;
    return offer(
      this.#workbench,
      `launch: "kernel" is not set, and ${why}. Build the kernel, or name its Image in "kernel".`,
      [openLaunchJson, chooseFile(this.#workbench, 'Choose the Image…', place, goOn)],
    );
  }

  async #vmm(folder: string | undefined, configuration: DebugConfiguration): Promise<Outcome> {
    const goOn = (vmm: string | undefined) => this.#launch(folder, { ...configuration, vmm: vmm ?? 'kvmtool' });
    const program = textOf(configuration.vmmPath);
    // Where a program is named it decides; one that is unknown is what the adapter takes it for.
    if (program !== undefined) return goOn(kindOf(program));
    const vmm = await installedVmm(textOf(configuration.env?.PATH) ?? this.#path);
    if (vmm !== undefined) return goOn(vmm);
    return offer(
      this.#workbench,
      `launch: "vmm" is not set, and ${noProgram()} is on PATH. Install kvmtool or QEMU, or name its program in "vmmPath".`,
      [openLaunchJson],
    );
  }

  async #launchSymbols(
    folder: string | undefined,
    base: string | undefined,
    configuration: DebugConfiguration,
  ): Promise<Outcome> {
    const command: unknown = configuration.command;
    const named = Array.isArray(command) ? describeGuest(command.map(String)).kernel : undefined;
    const kernel = textOf(configuration.kernel) ?? named;
    if (kernel === undefined) return this.#treeSymbols(folder ?? base, configuration);
    const path = resolve(base ?? '', kernel);
    const symbols = await symbolsOf(path);
    if (symbols !== undefined) return { ...configuration, symbols };
    // Of a kernel that is not there the adapter says so.
    const exists = await access(path).then(
      () => true,
      () => false,
    );
    return exists ? this.#withoutSymbols(configuration, `no vmlinux was found for ${path}`) : configuration;
  }

  async #attach(folder: string | undefined, configuration: DebugConfiguration): Promise<Outcome> {
    if (isSet(configuration.remote)) {
      return isSet(configuration.symbols) ? configuration : this.#treeSymbols(folder, configuration);
    }
    if (!isSet(configuration.pid) || configuration.pid === '') {
      const picked = await this.#workbench.pickVmm({ takesRemote: true });
      if (picked === undefined) return undefined;
      const { pid: _none, ...rest } = configuration;
      const { pid, remote } = picked;
      return this.#attach(folder, { ...rest, ...(remote === undefined ? { pid } : { remote }) } as DebugConfiguration);
    }
    if (isSet(configuration.symbols)) return configuration;
    const kernel = await kernelOf(Number(configuration.pid), this.#proc);
    const symbols = kernel && (await symbolsOf(kernel));
    return symbols ? { ...configuration, symbols } : this.#treeSymbols(folder, configuration);
  }

  /** Which kernel it is cannot be told: that of the tree, unless the adapter finds that it is another one. */
  async #treeSymbols(folder: string | undefined, configuration: DebugConfiguration): Promise<Outcome> {
    const tree = folder === undefined ? undefined : await findKernelTree(folder);
    const [first, ...others] = tree?.builds.filter(isDebugged).filter(({ vmlinux }) => vmlinux !== undefined) ?? [];
    if (first === undefined) return this.#withoutSymbols(configuration, lack('vmlinux', tree));
    const build = await chooseBuild(this.#workbench, [first, ...others]);
    return build && { ...configuration, symbols: build.vmlinux };
  }

  /** A kernel can be debugged without symbols too. */
  #withoutSymbols(configuration: DebugConfiguration, why: string): DebugConfiguration {
    this.#workbench.tell(
      `There will be no source lines and no variables: "symbols" is not set, and ${why}. Name the kernel's vmlinux in "symbols" of launch.json.`,
    );
    return configuration;
  }
}

function lack(file: string, tree: KernelTree | undefined): string {
  if (tree === undefined) return `no folder is open to look for ${file} in`;
  const other = tree.builds.find((build) => !isDebugged(build));
  return other ? whyNotDebugged(other) : `there is no ${file} ${places(tree)}`;
}

/** The folder that relative paths of a launch configuration start from. */
function baseOf(folder: string | undefined, configuration: DebugConfiguration): string | undefined {
  const cwd = textOf(configuration.cwd);
  return cwd === undefined ? folder : resolve(folder ?? '', cwd);
}
