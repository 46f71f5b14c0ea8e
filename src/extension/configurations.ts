// The configurations that are offered: for a new launch.json, in the list of the Run view, and at F5 without a launch.json.
import { basename, relative, sep } from 'node:path';
import type { DebugConfiguration } from 'vscode';
import { type Architecture, imageOf, isDebugged, type KernelBuild, type KernelTree } from './kernelTree.ts';
import type { OwnKernel } from './ownKernel.ts';
import type { VmmKind } from './programs.ts';
import type { PickedVm } from './vmmPicker.ts';

/** The device behind the console that the adapter asks each VMM for. kvmtool has a 16550 everywhere; QEMU's `virt` board
 *  has a PL011. */
const consoles: Readonly<Record<VmmKind, Readonly<Record<Architecture, string>>>> = {
  kvmtool: { arm64: 'ttyS0', x86_64: 'ttyS0' },
  qemu: { arm64: 'ttyAMA0', x86_64: 'ttyS0' },
};

// VS Code replaces them when a session starts.
const variable = (name: string): string => `\${${name}}`;
const workspaceFolder = variable('workspaceFolder');
const pickedPid = variable('command:kvm.pickVmm');

/** A kernel that can be launched, and debugged if it has a vmlinux. */
export type BootableBuild = Pick<KernelBuild, 'architecture' | 'vmlinux'> & { readonly image: string };

export const isBootable = (build: KernelBuild): build is KernelBuild & BootableBuild => build.image !== undefined;

export function launchConfiguration(
  build: BootableBuild,
  vmm: VmmKind,
  name = 'Debug guest kernel',
): DebugConfiguration {
  return {
    type: 'kvm',
    request: 'launch',
    name,
    vmm,
    kernel: build.image,
    // Empty rather than missing: then it is not looked for again.
    symbols: build.vmlinux ?? '',
    params: `console=${consoles[vmm][build.architecture ?? 'arm64']}`,
    stopOnEntry: true,
  };
}

export const attachConfiguration = (pid: number | string, name = 'Attach to a VM'): DebugConfiguration => ({
  type: 'kvm',
  request: 'attach',
  name,
  pid,
});

/** For what the user has picked, by its name where it has one. */
export function pickedConfiguration(picked: PickedVm): DebugConfiguration {
  if (picked.remote !== undefined) {
    return { type: 'kvm', request: 'attach', name: `Attach to ${picked.remote}`, remote: picked.remote };
  }
  const { pid, vmm } = picked;
  return attachConfiguration(pid, vmm && `Attach to ${vmm.name ?? vmm.vmm}`);
}

/** Configurations for the kernels in a folder, with paths that begin with ${workspaceFolder}: one to launch each that is
 *  complete, and one to attach. */
export function offeredConfigurations(tree: KernelTree, vmm: VmmKind = 'kvmtool'): DebugConfiguration[] {
  const builds = tree.builds.filter(isDebugged);
  const complete = builds.filter(isBootable).filter((build) => build.vmlinux !== undefined);
  const launches = complete.map((build) => {
    const place = relative(tree.folder, build.folder) || '.';
    const name = complete.length > 1 ? `Debug guest kernel (${place})` : undefined;
    const { image, vmlinux, architecture } = build;
    const paths = { image: inWorkspace(tree, image), vmlinux: vmlinux && inWorkspace(tree, vmlinux), architecture };
    return launchConfiguration(paths, vmm, name);
  });
  const vmlinux = builds.find((build) => build.vmlinux !== undefined)?.vmlinux;
  const attach = attachConfiguration(pickedPid);
  return [...launches, vmlinux === undefined ? attach : { ...attach, symbols: inWorkspace(tree, vmlinux) }];
}

/** The same for a new launch.json, which names the usual files where nothing is built yet. `own`: the kernel of a folder that
 *  has no Linux. */
export function initialConfigurations(
  tree: KernelTree | undefined,
  vmm: VmmKind = 'kvmtool',
  own?: OwnKernel,
): DebugConfiguration[] {
  if (tree !== undefined && own !== undefined) return ownConfigurations(tree, vmm, own);
  const offered = tree === undefined ? [] : offeredConfigurations(tree, vmm);
  if (offered.some(({ request }) => request === 'launch')) return offered;
  const [build] = tree?.builds.filter(isDebugged) ?? [];
  const architecture = build?.architecture ?? 'arm64';
  // Where something is built, the rest will be beside it.
  const place = (tree && build && relative(tree.folder, build.folder)) || '';
  const folder = [workspaceFolder, ...place.split(sep).filter((part) => part !== '')].join('/');
  const usual = { image: `${folder}/${imageOf(architecture)}`, vmlinux: `${folder}/vmlinux`, architecture };
  return [launchConfiguration(usual, vmm), { ...attachConfiguration(pickedPid), symbols: usual.vmlinux }];
}

/** kvmtool boots no ELF file. */
function ownConfigurations(tree: KernelTree, vmm: VmmKind, { program, image }: OwnKernel): DebugConfiguration[] {
  const symbols = inWorkspace(tree, program);
  const launch = {
    type: 'kvm',
    request: 'launch',
    name: `Debug ${basename(program)}`,
    vmm: image === program ? 'qemu' : vmm,
    kernel: inWorkspace(tree, image),
    symbols,
    stopOnEntry: true,
  };
  return [launch, { ...attachConfiguration(pickedPid), symbols }];
}

const inWorkspace = (tree: KernelTree, path: string): string =>
  [workspaceFolder, ...relative(tree.folder, path).split(sep)].join('/');
