// The connector that is loaded at the first guest. All of KVM's side needs koffi, a native module, which is missing in the
// portable package, or is there for another platform; an adapter for stubs starts without it.
import { UserError } from '../../base/errors.ts';
import type { Connector } from '../connection.ts';
import type { ConnectorOptions } from './connector.ts';

type KvmConnector = Pick<Connector, 'launch' | 'attach'>;

export function deferredConnector(
  options: ConnectorOptions,
  load: () => Promise<typeof import('./connector.ts')> = () => import('./connector.ts'),
  loadNative: () => Promise<unknown> = () => import('koffi'),
): KvmConnector {
  const connector = async (): Promise<KvmConnector> => {
    if (process.platform !== 'linux') {
      throw new UserError(
        'VMs are controlled through KVM on Linux only: install the extension on the machine where they run (Remote - SSH), or name a stub in "remote".',
      );
    }
    try {
      await loadNative();
    } catch (cause) {
      const platform = `linux-${process.arch}`;
      throw new UserError(
        `VMs cannot be controlled through KVM, as this package of the extension has no native module for ${platform}: install the one for ${platform}, or name a stub in "remote".`,
        { cause },
      );
    }
    return (await load()).createConnector(options);
  };
  return {
    launch: async (request, signal) => (await connector()).launch(request, signal),
    attach: async (request, signal) => (await connector()).attach(request, signal),
  };
}
