/**
 * `dist/lab.js`: the lab for the installed extension, which starts it as a process of its own. It needs Node, the files
 * beside it, and what plan.ts names. It tells lines of JSON on standard output (messages.ts), and ends, with all that it
 * has started, when its standard input does.
 */
import { adapterPorts, bootAdapterLab, guestConfiguration, indexFolder, startAdapter } from './adapter.ts';
import { compiledPaths, hostImage, kernelSource, lkvm, vmlinux } from './image.ts';
import type { LabMessage, PreparedLab } from './messages.ts';
import { plan } from './plan.ts';
import { tool } from './tools.ts';

const USAGE = `Usage: node lab.js plan | prepare | run

An emulated arm64 host with KVM, in which the adapter of this folder debugs guests.
  plan     tells what is missing on this machine, and what would be fetched
  prepare  fetches it, into the cache
  run      boots the host with the adapter listening, until standard input ends
`;

/** The folder that this program is in, with the adapter beside it. */
const dist = import.meta.dirname;

/** What is kept of what the adapter prints: it runs as long as a window is open. */
const outputLimit = 100_000;

const tell = (message: LabMessage): void => void process.stdout.write(`${JSON.stringify(message)}\n`);
const progress = (text: string): void => tell({ is: 'step', text });

async function prepare(): Promise<PreparedLab> {
  const { release } = await hostImage(progress);
  await tool('qemu-system-aarch64', progress);
  await vmlinux(progress);
  const sources = await kernelSource(progress);
  await indexFolder(dist, { progress });
  const vmm = lkvm() === undefined ? 'qemu' : 'kvmtool';
  return {
    sources,
    sourcePaths: compiledPaths(release),
    configuration: guestConfiguration(vmm, { cpus: 2, kaslr: true, parameters: 'guest.do=ticks' }),
  };
}

async function run(): Promise<void> {
  const prepared = await prepare();
  progress('booting the emulated arm64 machine');
  const lab = await bootAdapterLab(dist, { progress });
  progress('starting the debug adapter in it');
  const adapter = await startAdapter(lab, adapterPorts.first, { outputLimit });
  tell({ is: 'ready', port: lab.port(adapterPorts.first), ...prepared });
  await Promise.race([lab.ended, adapter.ended]);
  throw new Error(`the debug adapter in the lab has ended; it said:\n${adapter.output.slice(-4000)}`);
}

async function main(words: readonly string[]): Promise<void> {
  const [what, ...rest] = words;
  if (rest.length === 0 && what === 'plan') tell(await plan());
  else if (rest.length === 0 && what === 'prepare') tell({ is: 'prepared', ...(await prepare()) });
  else if (rest.length === 0 && what === 'run') await run();
  else throw new Error(`the arguments \`${words.join(' ')}\` are not understood\n\n${USAGE}`);
}

// Who started this is gone, or has seen enough. Programs and the lab end with this process.
process.stdin.on('end', () => process.exit(1)).resume();
process.stdout.on('error', () => process.exit(1));

main(process.argv.slice(2)).then(
  () => process.exit(0),
  (error: unknown) => {
    tell({ is: 'failed', message: error instanceof Error ? error.message : String(error) });
    process.exit(1);
  },
);
