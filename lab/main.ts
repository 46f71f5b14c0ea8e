/** `npm run lab`: the lab by hand. */
import { existsSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { type ParseArgsConfig, parseArgs } from 'node:util';
import { reportProgress } from './cache.ts';
import { bootLab, hostImage, kernelSource, type LabCpu, type LabOptions, shellInLab, vmlinux } from './lab.ts';
import { resolveRelease } from './release.ts';
import { tool } from './tools.ts';

const USAGE = `Usage: npm run lab -- [OPTIONS] [SCRIPT [ARGUMENTS]]
An emulated arm64 host with KVM: a shell in it, or SCRIPT run in it, whose exit status it takes.
  --cpu NAME        neoverse-n1 (KVM in VHE mode, the default), cortex-a72 (nVHE) or max (all that QEMU emulates)
  --smp N           CPUs of the host (2)
  --memory MIB      its memory (2048)
  --vmlinux         the kernel with DWARF at /lab/vmlinux
  --file LAB=LOCAL  brings a local file or folder along; may be repeated
  --forward PORT    leads a loopback port of this machine to the lab's PORT; may be repeated
  --prepare         only assembles the cache; with --vmlinux and --source these too
  --source          with --prepare: the kernel's sources too
  --update          moves on to Debian's newest kernel
`;

async function main(): Promise<number> {
  const { values, positionals } = parse(process.argv.slice(2));
  if (values.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  if (values.update) await resolveRelease(reportProgress, true);
  if (values.prepare) {
    await hostImage();
    await tool('qemu-system-aarch64', reportProgress);
    if (values.vmlinux) process.stdout.write(`vmlinux: ${(await vmlinux()).file}\n`);
    if (values.source) process.stdout.write(`sources: ${await kernelSource()}\n`);
    return 0;
  }
  const options: LabOptions = {
    cpu: cpu(values.cpu),
    smp: count('smp', values.smp),
    memory: count('memory', values.memory),
    vmlinux: values.vmlinux,
    forward: values.forward.map((port) => count('forward', port)),
    files: Object.fromEntries(values.file.map(pair)),
  };
  const [script, ...args] = positionals;
  if (script === undefined) {
    await shellInLab(options);
    return 0;
  }
  return await runScript(script, args, options);
}

async function runScript(script: string, args: string[], options: LabOptions): Promise<number> {
  if (!existsSync(script)) throw new Error(`there is no script ${script}`);
  const path = `/job/${basename(script)}`;
  const lab = await bootLab({ ...options, files: { ...options.files, [path]: readFileSync(script) } });
  try {
    for (const port of options.forward ?? []) reportProgress(`port ${port} is at 127.0.0.1:${lab.port(port)}`);
    const words = [path, ...args].map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
    const { status } = await lab.run(words, { timeout: 2 ** 31 - 1, onOutput: (text) => process.stdout.write(text) });
    return status;
  } finally {
    await lab.close();
  }
}

const OPTIONS = {
  cpu: { type: 'string', default: 'neoverse-n1' },
  smp: { type: 'string', default: '2' },
  memory: { type: 'string', default: '2048' },
  vmlinux: { type: 'boolean', default: false },
  file: { type: 'string', multiple: true, default: [] },
  forward: { type: 'string', multiple: true, default: [] },
  prepare: { type: 'boolean', default: false },
  source: { type: 'boolean', default: false },
  update: { type: 'boolean', default: false },
  help: { type: 'boolean', short: 'h', default: false },
} satisfies NonNullable<ParseArgsConfig['options']>;

/** The lab's own options, then the script with all that follows: its options are not ours. */
function parse(words: string[]) {
  const { tokens } = parseArgs({ args: words, options: OPTIONS, allowPositionals: true, strict: false, tokens: true });
  const script = tokens.find((token) => token.kind === 'positional')?.index ?? words.length;
  const { values } = parseArgs({ args: words.slice(0, script), options: OPTIONS });
  return { values, positionals: words.slice(script) };
}

function cpu(name: string): LabCpu {
  if (name === 'neoverse-n1' || name === 'cortex-a72' || name === 'max') return name;
  throw new Error(`--cpu ${name}: neoverse-n1, cortex-a72 or max`);
}

function count(option: string, text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value > 0) return value;
  throw new Error(`--${option} ${text}: a positive whole number is needed`);
}

function pair(text: string): [string, string] {
  const [path, local] = text.split('=', 2);
  if (path && local) return [path, local];
  throw new Error(`--file ${text}: PATH-IN-LAB=LOCAL-PATH is needed`);
}

// Whoever read the output has seen enough; the lab ends with this process.
process.stdout.on('error', () => process.exit(1));

main().then(
  (status) => {
    process.exitCode = status;
  },
  (error: unknown) => {
    process.stderr.write(`lab: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  },
);
