// The adapter of dist/ at work in the lab, and clients of it outside.
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { bootLab, type Lab, type LabOptions, vmlinux } from '../../lab/lab.ts';
import { SymbolFile } from '../../src/symbols/image.ts';
import { DapClient } from './dapClient.ts';

/** One for the adapter that stays, one for those that are started to be killed. */
const ports = { first: 4711, second: 4712 } as const;
/** A bound for what hangs, not a measure: emulated, and beside other work, an answer may take a minute. */
const answerTimeoutMs = 300_000;

/** Bundles dist/ from the sources; takes less than a second. */
export function buildAdapter(): void {
  const { status, stderr } = spawnSync(process.execPath, ['esbuild.mjs'], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`The build failed:\n${stderr}`);
}

/** A folder with the index of the lab's vmlinux: made here, as it would take a minute there. */
async function indexFolder(): Promise<string> {
  const { file } = await vmlinux();
  const cacheFolder = join(dirname(file), 'symbols');
  const symbols = SymbolFile.open(file, { cacheFolder });
  symbols.names?.build();
  symbols.close();
  return cacheFolder;
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
  /** Starts another adapter beside this one; one at a time. */
  another(): Promise<AdapterProcess>;
  close(): Promise<void>;
}

async function listen(lab: Lab, port: number): Promise<AdapterProcess> {
  const adapter = lab.start(`exec node /job/dist/adapter.js --listen 0.0.0.0:${port}`, {
    env: { XDG_CACHE_HOME: '/job/cache' },
  });
  await adapter.waitFor(/listening/);
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
  const lab = await bootLab({
    vmlinux: true,
    ...options,
    files: { '/job/dist': 'dist', '/job/cache/kvm-debug/symbols': await indexFolder(), ...options.files },
    forward: [ports.first, ports.second, ...(options.forward ?? [])],
  });
  try {
    const first = await listen(lab, ports.first);
    return { ...first, lab, another: () => listen(lab, ports.second), close: () => lab.close() };
  } catch (error) {
    await lab.close();
    throw error;
  }
}

/** launch.json of a nested guest in the lab. */
export function guestConfiguration(
  vmm: 'kvmtool' | 'qemu',
  { cpus = 1, parameters = '', kaslr = false }: { cpus?: number; parameters?: string; kaslr?: boolean } = {},
): Record<string, unknown> {
  const console = vmm === 'kvmtool' ? 'ttyS0' : 'ttyAMA0';
  return {
    type: 'kvm',
    name: 'lab',
    vmm,
    kernel: '/lab/guest/Image',
    initrd: '/lab/guest/initrd',
    symbols: '/lab/vmlinux',
    cpus,
    memory: '192M',
    // QEMU always gives its guests a seed.
    ...(kaslr && vmm === 'kvmtool' ? { vmmArgs: ['--kaslr-seed', '0x3b9ac9ff12345678'] } : {}),
    params: `console=${console} quiet panic=-1 ${kaslr ? '' : 'nokaslr '}cryptomgr.notests=1 rdinit=/init ${parameters}`,
    console: 'internalConsole',
    stopOnEntry: true,
  };
}
