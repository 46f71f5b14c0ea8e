/** The adapter at work in the lab: the built one, and guests for it. */
import { dirname, join, resolve } from 'node:path';
import { SymbolFile } from '../src/symbols/image.ts';
import { reportProgress } from './cache.ts';
import { bootLab, type Lab, type LabOptions, type LabProcess, type StartOptions, vmlinux } from './lab.ts';

/** Where adapters listen in the lab: one that stays, one for those that are started to be killed. */
export const adapterPorts = { first: 4711, second: 4712 } as const;

/** Boots a lab with `dist`, the folder that the adapter is built in, and all that it needs to debug a guest there. */
export async function bootAdapterLab(dist: string, options: LabOptions = {}): Promise<Lab> {
  const index = await indexFolder(dist, options);
  return bootLab({
    vmlinux: true,
    ...options,
    files: { '/job/dist': dist, '/job/cache/kvm-debug/symbols': index, ...options.files },
    forward: [...Object.values(adapterPorts), ...(options.forward ?? [])],
  });
}

/** A folder with the index of the lab's vmlinux: made here, as it would take a minute there. */
export async function indexFolder(dist: string, { progress = reportProgress }: LabOptions = {}): Promise<string> {
  const { file } = await vmlinux(progress);
  const cacheFolder = join(dirname(file), 'symbols');
  const symbols = SymbolFile.open(file, { cacheFolder, indexer: resolve(dist, 'indexer.js') });
  let told = false;
  try {
    await symbols.indexNames(() => {
      if (!told) progress("building the index of the kernel's debug information");
      told = true;
    });
  } finally {
    symbols.close();
  }
  return cacheFolder;
}

/** Starts an adapter; resolves when it listens. It serves one session after another. `node`: the words in front of its program. */
export async function startAdapter(
  lab: Lab,
  port: number,
  { node = 'node', ...options }: Pick<StartOptions, 'outputLimit'> & { readonly node?: string } = {},
): Promise<LabProcess> {
  const adapter = lab.start(`exec ${node} /job/dist/adapter.js --listen 0.0.0.0:${port}`, {
    env: { XDG_CACHE_HOME: '/job/cache' },
    ...options,
  });
  await adapter.waitFor(/listening/);
  return adapter;
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
