// The demo: the lab, a folder to debug its kernel from, and sessions in it, one at a time.
import { realpath } from 'node:fs/promises';
import { join } from 'node:path';
import type { DebugConfiguration, Memento } from 'vscode';
import type { LabPlan, PreparedLab } from '../../lab/messages.ts';
import { makeDemoFolder, sourcesLink, tourFile } from './demoFolder.ts';
import { LabError, type LabProgram, type Step } from './labProgram.ts';
import { LabSlot } from './labSlot.ts';
import type { Outcome } from './offers.ts';
import { WindowLab } from './windowLab.ts';
import type { Workbench } from './workbench.ts';

/** The guest is one of the lab, unless another adapter is named. */
export const wantsLab = ({ request, lab, debugServer }: DebugConfiguration): boolean =>
  request === 'launch' && lab === true && debugServer === undefined;

const newWindow = 'Open in a New Window';
const here = 'Open Here';
const fetch = 'Fetch';
const welcomed = 'demo.welcomed';

export class Demo {
  readonly #workbench: Workbench;
  readonly #program: Pick<LabProgram, 'plan' | 'prepare' | 'run'>;
  readonly #lab: WindowLab;
  /** To be told of the sessions. */
  readonly slot = new LabSlot();
  readonly #folder: string;

  /** `folder`: where the demo's folder is made. */
  constructor(workbench: Workbench, program: Pick<LabProgram, 'plan' | 'prepare' | 'run'>, folder: string) {
    this.#workbench = workbench;
    this.#program = program;
    this.#lab = new WindowLab(program, (why) => {
      this.slot.clear();
      if (why !== undefined) void workbench.fail('The lab has ended; F5 boots it again.', why);
    });
    this.#folder = folder;
  }

  /** The command "Open the Demo". */
  async open(): Promise<void> {
    const folder = await this.#attempt(async (step, signal) => {
      const prepared = await this.#program.prepare(step, signal);
      try {
        return await makeDemoFolder(this.#folder, prepared);
      } catch (error) {
        throw new LabError(`its folder cannot be made.\n${error instanceof Error ? error.message : error}`);
      }
    }, 'KVM Debug: preparing the demo');
    if (folder === undefined) return;
    if (this.#workbench.folders().includes(folder)) {
      await this.#workbench.confirm('This window is the demo: press F5.', '', []);
      return;
    }
    const chosen = await this.#workbench.confirm(
      'The demo is ready to be opened.',
      `In its folder, F5 boots the emulated machine and stops in the kernel; ${tourFile} says what there is to see.\n\n${folder}`,
      [newWindow, here],
    );
    if (chosen !== undefined) await this.#workbench.openWorkspace(folder, chosen === newWindow);
  }

  /** Shows what there is to see, when the window is the demo's for the first time. `state`: the workspace's. */
  async welcome(state: Pick<Memento, 'get' | 'update'>): Promise<void> {
    if (!this.#workbench.folders().includes(this.#folder) || state.get(welcomed)) return;
    await this.#workbench.showPreview(join(this.#folder, tourFile));
    await state.update(welcomed, true);
  }

  /** A configuration with `"lab": true`, for the adapter in the lab: boots that first. Undefined when the user, or the
   *  machine, will not have it, or the lab has a session already. `folder`: of the workspace. */
  async session(folder: string | undefined, configuration: DebugConfiguration): Promise<Outcome> {
    const take = this.slot.ask();
    const boot = (step: Step, signal: AbortSignal) => this.#lab.ready(step, signal);
    const ready = this.#lab.isReady
      ? await boot(() => undefined, new AbortController().signal)
      : await this.#attempt(boot, 'KVM Debug: starting the lab');
    if (ready === undefined) return undefined;
    const sourceMap = await sourceMapOf(ready, folder);
    if (!take(ready.port)) {
      await this.#workbench.fail('The lab has a session already: stop it, then press F5 again.', '');
      return undefined;
    }
    return {
      ...ready.configuration,
      ...configuration,
      sourceMap: { ...sourceMap, ...configuration.sourceMap },
      // A terminal here cannot be joined to a guest there.
      console: 'internalConsole',
      debugServer: ready.port,
    };
  }

  dispose(): void {
    this.#lab.dispose();
  }

  /** The work, once the user has agreed to what it fetches; undefined when it is not done, of which the user knows. */
  async #attempt<Value>(
    work: (step: Step, signal: AbortSignal) => Promise<Value>,
    title: string,
  ): Promise<Value | undefined> {
    try {
      if (!(await this.#agreed(await this.#program.plan()))) return undefined;
      return await this.#workbench.progress(title, work);
    } catch (error) {
      // Cancelled, here or by another session that waited for the same boot.
      if (error instanceof Error && error.name === 'AbortError') return undefined;
      if (!(error instanceof LabError)) throw error;
      const [sentence = '', ...rest] = error.message.split('\n');
      await this.#workbench.fail(`The demo cannot go on: ${sentence}`, rest.join('\n'));
      return undefined;
    }
  }

  async #agreed(plan: LabPlan): Promise<boolean> {
    if (plan.refusal !== undefined) {
      await this.#workbench.fail(plan.refusal, '');
      return false;
    }
    if (plan.missing.length > 0) {
      const lines = plan.missing.map(({ need, remedy }) => `• ${need}: ${remedy}`);
      await this.#workbench.fail('This machine lacks what the demo is made with.', lines.join('\n'));
      return false;
    }
    if (plan.fetched.length === 0) return true;
    const { message, detail } = announcement(plan);
    return (await this.#workbench.confirm(message, detail, [fetch])) === fetch;
  }
}

/** What will be fetched, before it is. */
export function announcement({ fetched, cache }: LabPlan): { readonly message: string; readonly detail: string } {
  const sum = (of: 'megabytes' | 'disk'): number => fetched.reduce((total, piece) => total + piece[of], 0);
  const lines = fetched.map(({ what, megabytes }) => `• ${what}, ${megabytes} MB`);
  return {
    message: `The demo has to fetch about ${Math.ceil(sum('megabytes') / 10) * 10} MB of Debian and npm packages.`,
    detail: [
      "With them an arm64 machine with KVM is emulated here, and Debian's kernel debugged in it:",
      ...lines,
      '',
      `All of it goes into ${cache}, where it takes ${(sum('disk') / 1000).toFixed(1)} GB; nothing is installed.`,
    ].join('\n'),
  };
}

/** Where VS Code finds the lab's sources: by their link in the workspace folder, if they are open there. */
async function sourceMapOf({ sources, sourcePaths }: PreparedLab, folder: string | undefined) {
  const link = folder === undefined ? undefined : join(folder, sourcesLink);
  const isLinked =
    link !== undefined && (await realpath(link).catch(() => '')) === (await realpath(sources).catch(() => sources));
  const root = isLinked ? link : sources;
  return Object.fromEntries(Object.entries(sourcePaths).map(([compiled, path]) => [compiled, join(root, path)]));
}
