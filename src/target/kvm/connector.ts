// Makes KvmTargets: a VMM started, or one that runs.
import type { AttachRequest, Connector, Launched, LaunchRequest } from '../connection.ts';
import type { Target } from '../target.ts';
import { attachVmm } from './attach.ts';
import { type GuardedJournal, openJournal } from './guardianJournal.ts';
import { KvmTarget } from './kvmTarget.ts';
import { launchVmm } from './launch.ts';
import { kvmDescriptors } from './procfs.ts';
import { SlotOracle } from './slotOracle.ts';
import { keepingAlive } from './tracer.ts';

export interface ConnectorOptions {
  /** The guardian's bundle, run by the Node that runs us. */
  readonly guardianPath: string;
}

async function launch(request: LaunchRequest, signal: AbortSignal): Promise<Launched> {
  const { pid, group, slots, console } = await launchVmm(request, signal);
  try {
    return { target: new KvmTarget({ pid, group, findSlots: () => slots }), console };
  } catch (thrown) {
    if (group.exitStatus === undefined) process.kill(pid, 'SIGKILL');
    await keepingAlive(group.exited);
    group.close();
    throw thrown;
  }
}

async function attach(request: AttachRequest, guardianPath: string, signal: AbortSignal): Promise<Target> {
  let journal: GuardedJournal | undefined;
  const open = (): GuardedJournal => {
    journal = openJournal(guardianPath);
    return journal;
  };
  try {
    const { pid, group } = await attachVmm(request, open, signal);
    try {
      const { vm = -1 } = kvmDescriptors(pid);
      return new KvmTarget({ pid, group, findSlots: (thread) => new SlotOracle(thread, vm).find() });
    } catch (thrown) {
      group.abandon();
      throw thrown;
    }
  } catch (thrown) {
    // What is still in the journal is the guardian's to undo; nothing is, as a rule.
    journal?.abandon();
    throw thrown;
  }
}

/** Its targets are VMMs on this machine. */
export const createConnector = ({ guardianPath }: ConnectorOptions): Pick<Connector, 'launch' | 'attach'> => ({
  launch,
  attach: (request, signal) => attach(request, guardianPath, signal),
});
