import type { DebugConfiguration, DebugConfigurationProvider, WorkspaceFolder } from 'vscode';
import { initialConfigurations, offeredConfigurations } from './configurations.ts';
import { type Demo, wantsLab } from './demo.ts';
import { FirstLaunch } from './firstLaunch.ts';
import { folderPath } from './folderPath.ts';
import { findKernelTree, type KernelTree } from './kernelTree.ts';
import { MissingFields } from './missingFields.ts';
import { findOwnKernel } from './ownKernel.ts';
import { installedVmm } from './programs.ts';
import type { Workbench } from './workbench.ts';

const treeOf = async (folder: WorkspaceFolder | undefined): Promise<KernelTree | undefined> => {
  const path = folderPath(folder);
  return path === undefined ? undefined : findKernelTree(path);
};

/** Makes configurations and completes them from what is on this machine. The adapter checks the fields itself, because it
 *  has other clients too. `path`: as $PATH. */
export function configurationProvider(
  workbench: Workbench,
  path: string | undefined,
  demo: Pick<Demo, 'session'>,
): DebugConfigurationProvider {
  const firstLaunch = new FirstLaunch(workbench, path);
  const missingFields = new MissingFields(workbench, path);
  return {
    async provideDebugConfigurations(folder) {
      const tree = await treeOf(folder);
      const isLinux = tree === undefined || tree.sources !== undefined || tree.builds.length > 0;
      return initialConfigurations(
        tree,
        await installedVmm(path),
        isLinux ? undefined : await findOwnKernel(tree.folder),
      );
    },

    async resolveDebugConfiguration(folder, configuration) {
      // F5 without a launch.json: VS Code then passes an empty one.
      const { type, request, name } = configuration as Partial<DebugConfiguration>;
      if (type || request || name) return configuration;
      const made = await firstLaunch.configuration(folderPath(folder));
      return made && { ...configuration, ...made };
    },

    // Not earlier: paths may hold variables, and the preLaunchTask may be what builds the kernel or starts the VM.
    async resolveDebugConfigurationWithSubstitutedVariables(folder, configuration) {
      const fill = wantsLab(configuration) ? demo.session.bind(demo) : missingFields.fill.bind(missingFields);
      const filled = await fill(folderPath(folder), configuration);
      // Other clients can do nothing with a text instead of a file, so the adapter's own default is another.
      return filled && { missingSources: 'disassembly', ...filled };
    },
  };
}

/** What the Run view lists beside the configurations of launch.json. */
export const dynamicConfigurationProvider = (path: string | undefined): DebugConfigurationProvider => ({
  async provideDebugConfigurations(folder) {
    const tree = await treeOf(folder);
    return tree === undefined ? [] : offeredConfigurations(tree, await installedVmm(path));
  },
});
