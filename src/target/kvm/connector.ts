// Makes KvmTargets: a VMM started, or one that runs.
import { TargetError, UserError } from '../../base/errors.ts';
import type { AttachRequest, Connector, Launched, LaunchRequest } from '../connection.ts';
import type { Target } from '../target.ts';
import { noJournal } from './journal.ts';
import { KvmTarget } from './kvmTarget.ts';
import { launchVmm } from './launch.ts';

export interface ConnectorOptions {
  /** The guardian's bundle. */
  readonly guardianPath: string;
}

export function createConnector(_options: ConnectorOptions): Connector {
  return {
    async launch(request: LaunchRequest, signal: AbortSignal): Promise<Launched> {
      const { console, ...vm } = await launchVmm(request, signal);
      try {
        return { target: new KvmTarget({ ...vm, journal: noJournal }), console };
      } catch (thrown) {
        process.kill(vm.pid, 'SIGKILL');
        await vm.group.exited;
        throw thrown;
      }
    },
    async attach(_request: AttachRequest): Promise<Target> {
      throw new UserError('not yet');
    },
  };
}
void TargetError;
