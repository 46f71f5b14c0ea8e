// The adapter of dist/ at work in the lab, and clients of it outside.
import { spawnSync } from 'node:child_process';
import { adapterPorts, bootAdapterLab, startAdapter } from '../../lab/adapter.ts';
import type { Lab, LabOptions } from '../../lab/lab.ts';
import { DapClient } from './dapClient.ts';

export { guestConfiguration } from '../../lab/adapter.ts';

/** A bound for what hangs, not a measure: emulated, and beside other work, an answer may take a minute. */
const answerTimeoutMs = 300_000;

/** Bundles dist/ from the sources; takes less than a second. */
export function buildAdapter(): void {
  const { status, stderr } = spawnSync(process.execPath, ['esbuild.mjs'], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`The build failed:\n${stderr}`);
}

/** One adapter process in the lab. */
export interface AdapterProcess {
  /** Where it listens, on this machine. */
  readonly port: number;
  /** A client of one more session. */
  connect(): Promise<DapClient>;
  /** What the adapter wrote to its terminal. */
  log(): string;
  /** SIGKILL; resolves when the process is gone. */
  kill(): Promise<void>;
}

export interface AdapterInLab extends AdapterProcess {
  readonly lab: Lab;
  /** Starts another adapter beside this one, for the superuser unless told; one at a time. */
  another(options?: { readonly uid?: number | undefined }): Promise<AdapterProcess>;
  close(): Promise<void>;
}

async function listen(
  lab: Lab,
  port: number,
  { uid }: { readonly uid?: number | undefined } = {},
): Promise<AdapterProcess> {
  const become = `process.setgroups([]);process.setgid(${uid});process.setuid(${uid})`;
  const node = uid === undefined ? 'node' : `node --import 'data:text/javascript,${become}'`;
  const adapter = await startAdapter(lab, port, { node });
  return {
    port: lab.port(port),
    connect: () => DapClient.connect(lab.port(port), '127.0.0.1', answerTimeoutMs),
    log: () => adapter.output,
    kill: async () => {
      adapter.kill('SIGKILL');
      await adapter.ended;
    },
  };
}

/** Boots a lab with `dist/` in it and the adapter listening. Emulated, and often on a busy machine: answers may take long. */
export async function startAdapterInLab(options: LabOptions = {}): Promise<AdapterInLab> {
  const lab = await bootAdapterLab('dist', options);
  try {
    const first = await listen(lab, adapterPorts.first);
    return { ...first, lab, another: (options) => listen(lab, adapterPorts.second, options), close: () => lab.close() };
  } catch (error) {
    await lab.close();
    throw error;
  }
}
