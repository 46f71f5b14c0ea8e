// What the user is offered where a session cannot start as things are.
import type { DebugConfiguration } from 'vscode';
import { pickedConfiguration } from './configurations.ts';
import type { KernelBuild, KernelTree } from './kernelTree.ts';
import type { Workbench } from './workbench.ts';

/** How VS Code goes on with a session that is to start: with this configuration, not at all (undefined), or with
 *  launch.json instead, which it makes if there is none (null). See `DebugConfigurationProvider`. */
export type Outcome = DebugConfiguration | null | undefined;

export interface Remedy {
  readonly label: string;
  readonly run: () => Outcome | Promise<Outcome>;
}

/** Says what is wrong, and does what the user chooses. */
export async function offer(workbench: Workbench, message: string, remedies: readonly Remedy[]): Promise<Outcome> {
  const labels = remedies.map(({ label }) => label);
  const chosen = await workbench.ask(message, labels);
  return remedies.find(({ label }) => label === chosen)?.run();
}

export const createLaunchJson: Remedy = { label: 'Create launch.json', run: () => null };
export const openLaunchJson: Remedy = { label: 'Open launch.json', run: () => null };

export const attachInstead = (workbench: Workbench): Remedy => ({
  label: 'Attach to a Running VM…',
  async run() {
    const picked = await workbench.pickVmm({ takesRemote: true });
    return picked && pickedConfiguration(picked);
  },
});

/** A remedy that lets the user name a file, and goes on with it. */
export const chooseFile = (
  workbench: Workbench,
  label: string,
  folder: string | undefined,
  goOn: (path: string) => Outcome | Promise<Outcome>,
): Remedy => ({
  label,
  async run() {
    const path = await workbench.chooseFile(label.replace('…', ''), folder);
    return path === undefined ? undefined : goOn(path);
  },
});

/** The only one, or the one that the user chooses. */
export async function chooseBuild<Build extends KernelBuild>(
  workbench: Workbench,
  builds: readonly [Build, ...Build[]],
): Promise<Build | undefined> {
  if (builds.length === 1) return builds[0];
  const newestFirst = [...builds].sort((a, b) => b.time - a.time);
  return workbench.choose(
    'Which kernel is to be debugged?',
    newestFirst.map((build) => ({
      label: build.folder,
      description: [...(build.architecture ? [build.architecture] : []), `built ${when(build.time)}`].join(', '),
      value: build,
    })),
  );
}

const when = (time: number): string =>
  new Date(time).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'short' });

/** Where a kernel was looked for. */
export const places = ({ folder }: KernelTree): string => `in ${folder} or a folder directly below it`;
