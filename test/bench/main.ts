/** `npm run bench`: what debugging costs, in the lab and, on arm64 with KVM, on this machine. Nothing here decides a test. */
import { spawn } from 'node:child_process';
import { accessSync, constants, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, release, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { build } from 'esbuild';
import { cacheRoot, reportProgress } from '../../lab/cache.ts';
import { bootLab, hostImage, type LabCpu, type LabOptions, vmlinux } from '../../lab/lab.ts';
import { tool } from '../../lab/tools.ts';
import { SymbolFile } from '../../src/symbols/image.ts';
import { labGdb } from '../lab/gdb.ts';
import { extensionRows } from './extension.ts';
import type { BenchPlan } from './program.ts';
import type { RunControlPlan } from './runControl.ts';
import { type Row, rowMark, table } from './samples.ts';
import { symbolRows } from './symbols.ts';
import type { GuestFiles } from './vms.ts';

/** What runs where guests run, and what needs no guest. */
const guestGroups = ['target', 'steps', 'exits', 'run-control'] as const;
const groups = [...guestGroups, 'symbols', 'extension'] as const;
const usage = `Usage: npm run bench -- [OPTIONS] [GROUP…]
Measures in the lab, and natively where /dev/kvm runs arm64 guests.
  target       injected ioctls, registers, memory
  steps        single steps, by the target and through the adapter
  exits        the VMM's exits per second, attached and not
  run-control  next, conditional breakpoints, stacks and pauses through the adapter, against gdb on QEMU's stub
  symbols      questions to a kernel's debug information, against gdb
  extension    activation in VS Code's server, against its own debugger; sizes of the bundles
  --cpu NAME   the lab's CPU: neoverse-n1 (the default) or cortex-a72
  --one-cpu    keeps all that runs in the lab on one of its CPUs: steadier where this machine is busy
`;

const root = join(import.meta.dirname, '..', '..');

/** The programs, by file name. */
async function bundles(): Promise<ReadonlyMap<string, Uint8Array>> {
  const { outputFiles } = await build({
    entryPoints: {
      program: join(import.meta.dirname, 'program.ts'),
      adapter: join(root, 'src/adapter.ts'),
      guardian: join(root, 'src/guardian.ts'),
    },
    outdir: '/',
    bundle: true,
    write: false,
    platform: 'node',
    target: 'node20',
    format: 'cjs',
    external: ['koffi'],
    alias: { 'capstone-wasm': join(root, 'node_modules/capstone-wasm/dist/index.cjs') },
    logLevel: 'warning',
  });
  return new Map(outputFiles.map(({ path, contents }) => [path.replace(/^\//, ''), contents]));
}

/** Takes the program's output apart: rows are kept, the rest is progress. */
class Output {
  readonly rows: Row[] = [];
  #rest = '';

  constructor(private readonly where: string) {}

  readonly take = (text: string): void => {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) {
      if (line.startsWith(rowMark)) this.rows.push(JSON.parse(line.slice(rowMark.length)) as Row);
      else console.log(`${this.where}: ${line}`);
    }
  };
}

const timeout = 30 * 60_000;

async function inLab(cpu: LabCpu, oneCpu: boolean, chosen: readonly string[]): Promise<readonly Row[]> {
  const files = [...(await bundles())].map(([name, contents]) => [`/bench/${name}`, contents] as const);
  const guest = { kernel: '/lab/guest/Image', initrd: '/lab/guest/initrd' };
  const folder = '/bench';
  const runControl = chosen.includes('run-control') ? await labRunControl(guest, folder) : undefined;
  const lab = await bootLab({
    cpu,
    ...runControl?.options,
    files: { ...Object.fromEntries(files), ...runControl?.options.files },
  });
  try {
    const plan: BenchPlan = {
      groups: chosen,
      ...guest,
      folder,
      ...(runControl && { runControl: runControl.plan }),
    };
    const output = new Output(`lab (${cpu})`);
    const command = `${oneCpu ? 'taskset 1 ' : ''}node /bench/program.js '${JSON.stringify(plan)}'`;
    const { status } = await lab.run(command, { timeout, onOutput: output.take });
    if (status !== 0) throw new Error(`the benchmark ended with status ${status} in the lab`);
    return output.rows;
  } finally {
    await lab.close();
  }
}

/** What the group `run-control` needs in the lab: gdb, and the index that the adapter would take a minute to make there. */
async function labRunControl(
  guest: GuestFiles,
  folder: string,
): Promise<{ readonly options: LabOptions; readonly plan: RunControlPlan }> {
  const { argv, env, files } = await labGdb(reportProgress);
  const { file } = await vmlinux();
  const index = join(dirname(file), 'symbols');
  makeIndex(file, index);
  return {
    options: {
      memory: 4096, // gdb's symbols, and two guests of up to 8 vCPUs
      vmlinux: true,
      files: { ...files, [`${folder}/cache/kvm-debug/symbols`]: index },
    },
    plan: {
      ...guest,
      gdb: { argv, env },
      symbols: '/lab/vmlinux',
      adapter: `${folder}/adapter.js`,
      cache: `${folder}/cache`,
    },
  };
}

/** The same for this machine, on which nothing has to be brought anywhere. */
async function nativeRunControl(guest: GuestFiles, folder: string): Promise<RunControlPlan> {
  const { file } = await vmlinux();
  makeIndex(file, join(cacheRoot(), 'symbols'));
  return {
    ...guest,
    gdb: await tool('gdb-multiarch', reportProgress),
    symbols: file,
    adapter: join(folder, 'adapter.js'),
    cache: dirname(cacheRoot()),
  };
}

/** The index of a kernel's names, if there is none yet. */
function makeIndex(vmlinux: string, cacheFolder: string): void {
  const symbols = SymbolFile.open(vmlinux, { cacheFolder });
  symbols.names?.build();
  symbols.close();
}

/** Why nothing can be measured on this machine itself, if so. */
function whyNotNative(): string | undefined {
  if (process.arch !== 'arm64') return `this machine is ${process.arch}, and KVM runs arm64 guests on arm64 only`;
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
    return undefined;
  } catch (error) {
    return `/dev/kvm cannot be used: ${(error as Error).message}`;
  }
}

async function native(chosen: readonly string[]): Promise<readonly Row[]> {
  const folder = mkdtempSync(join(tmpdir(), 'kvm-debug-bench-'));
  try {
    mkdirSync(folder, { recursive: true });
    for (const [name, contents] of await bundles()) writeFileSync(join(folder, name), contents);
    const { kernel, guestInitrd: initrd } = await hostImage();
    const guest = { kernel, initrd };
    const runControl = chosen.includes('run-control') ? await nativeRunControl(guest, folder) : undefined;
    const plan: BenchPlan = { groups: chosen, ...guest, folder, ...(runControl && { runControl }) };
    const output = new Output('native');
    const child = spawn(process.execPath, [join(folder, 'program.js'), JSON.stringify(plan)], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, NODE_PATH: join(root, 'node_modules') },
    });
    child.stdout.setEncoding('utf8').on('data', output.take);
    const status = await new Promise((resolve) => child.once('close', resolve));
    if (status !== 0) throw new Error(`the benchmark ended with status ${status}`);
    return output.rows;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    options: {
      cpu: { type: 'string', default: 'neoverse-n1' },
      'one-cpu': { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
    allowPositionals: true,
  });
  const { cpu } = values;
  const unknown = positionals.find((name) => !(groups as readonly string[]).includes(name));
  if (values.help || unknown !== undefined || (cpu !== 'neoverse-n1' && cpu !== 'cortex-a72')) {
    process.stdout.write(usage);
    process.exitCode = values.help ? 0 : 2;
    return;
  }
  const chosen = positionals.length > 0 ? positionals : groups;
  const [load = 0] = loadavg();
  console.log(`${cpus()[0]?.model.trim()}, ${cpus().length} CPUs, Linux ${release()}, load ${load.toFixed(2)}`);
  const asked = guestGroups.filter((name) => chosen.includes(name));
  if (asked.length > 0) await benchGuests(cpu, values['one-cpu'], asked);
  if (chosen.includes('symbols')) {
    const rows = await symbolRows();
    console.log(`\nQuestions to debug information, on this machine (load ${loadavg()[0]?.toFixed(2)} after)`);
    console.log(table(rows));
  }
  if (chosen.includes('extension')) {
    const rows = await extensionRows();
    console.log(`\nThe extension in VS Code's server, on this machine (load ${loadavg()[0]?.toFixed(2)} after)`);
    console.log(table(rows));
  }
}

async function benchGuests(cpu: LabCpu, oneCpu: boolean, chosen: readonly string[]): Promise<void> {
  const [load = 0] = loadavg();
  const labRows = await inLab(cpu, oneCpu, chosen);
  const why = whyNotNative();
  const nativeRows = why === undefined ? await native(chosen) : undefined;
  console.log(
    `\nIn the lab (emulated ${cpu}${oneCpu ? ', all on one of its CPUs' : ''}; load of this machine ${load.toFixed(2)} before, ${loadavg()[0]?.toFixed(2)} after)`,
  );
  console.log(table(labRows));
  console.log(nativeRows ? `\nOn this machine\n${table(nativeRows)}` : `\nOn this machine: not measured, ${why}.`);
}

await main();
