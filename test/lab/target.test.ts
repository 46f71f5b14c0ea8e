/** `src/target/kvm` on the real thing: test programs (programs/) run in the lab, and their checks are reported here. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import { build } from 'esbuild';
import { bootLab, type Lab, type LabCpu, vmlinux } from '../../lab/lab.ts';
import { SymbolFile } from '../../src/symbols/image.ts';
import { assembledGuests } from './assemble.ts';
import { type Report, reportMark } from './programs/report.ts';

const root = join(import.meta.dirname, '..', '..');
const programs = [
  'bare',
  'checksum',
  'debugExceptions',
  'ownExceptions',
  'linux',
  'deaths',
  'linuxChecksum',
  'smp',
  'faults',
] as const;
/** Programs, and what they start. */
const bundled = [...programs, 'victim'];

/** Bundles of the guardian and the test programs, as they go into the lab. */
async function bundles(): Promise<Record<string, Uint8Array>> {
  const entryPoints = {
    guardian: join(root, 'src/guardian.ts'),
    ...Object.fromEntries(bundled.map((name) => [name, join(import.meta.dirname, 'programs', `${name}.ts`)])),
  };
  const { outputFiles } = await build({
    entryPoints,
    outdir: '/job',
    outExtension: { '.js': '.mjs' },
    bundle: true,
    write: false,
    platform: 'node',
    target: 'node22',
    format: 'esm',
    external: ['koffi'],
    logLevel: 'warning',
  });
  return Object.fromEntries(outputFiles.map(({ path, contents }) => [path, contents]));
}

/** Runs a program in the lab; each of its checks becomes a subtest while it runs. */
async function relay(context: TestContext, lab: Lab, command: string, env: Record<string, string>): Promise<void> {
  const subtests: Promise<void>[] = [];
  let finish: ((report: Report) => void) | undefined;
  let rest = '';
  const take = (report: Report): void => {
    if (report.is !== 'started') {
      finish?.(report);
      finish = undefined;
      return;
    }
    const over = new Promise<Report>((resolve) => {
      finish = resolve;
    });
    const subtest = context.test(report.name, async (inner) => {
      const result = await over;
      if (result.is === 'skipped') inner.skip(result.reason);
      if (result.is === 'failed') assert.fail(result.error);
    });
    subtests.push(subtest);
  };
  const onOutput = (text: string): void => {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      if (line.startsWith(reportMark)) take(JSON.parse(line.slice(reportMark.length)) as Report);
      else context.diagnostic(line);
    }
  };
  const process = lab.start(command, { env, onOutput });
  const { status } = await process.ended;
  finish?.({ is: 'failed', name: '', error: `the program ended with ${status}: ${process.output.slice(-2000)}` });
  await Promise.all(subtests);
  assert.equal(status, 0, process.output.slice(-2000));
  assert.ok(subtests.length > 0, 'the program reported no check');
}

const wanted = ['start_kernel', 'kernel_clone', 'el0t_64_sync_handler', '__arm64_sys_ptrace', '__arm64_sys_getppid'];

interface Plan {
  readonly cpu: LabCpu;
  readonly programs: readonly (typeof programs)[number][];
  readonly env: Readonly<Record<string, string>>;
  /** Picks checks by their names; all unless told. */
  readonly checks?: string;
}

/** 100,000 instructions and 400 rounds take half an hour: when they are asked for. */
const counts =
  process.env.LAB_COUNTS === 'full'
    ? { CHECKSUM_ROUNDS: '75', LINUX_STEPS: '100000', SMP_ROUNDS: '400' }
    : { CHECKSUM_ROUNDS: '10', LINUX_STEPS: '8000', SMP_ROUNDS: '60' };

const plans: readonly Plan[] = [
  { cpu: 'neoverse-n1', programs, env: counts },
  // What is wrong with a machine is no different on another CPU.
  {
    cpu: 'cortex-a72',
    programs: ['bare', 'checksum', 'debugExceptions', 'ownExceptions', 'linux', 'deaths', 'linuxChecksum', 'smp'],
    env: {},
  },
  // Atomics, PAN, pointer authentication and branch targets.
  { cpu: 'max', programs: ['checksum'], env: { CHECKSUM_ROUNDS: '2', CHECKSUM_FEATURES: '15' }, checks: 'every' },
];

for (const { cpu, programs: chosen, env: own, checks = '' } of plans) {
  describe(`target/kvm on ${cpu}`, { timeout: 1_800_000 }, () => {
    let lab: Lab;
    let env: Record<string, string>;
    before(async () => {
      const { file: path } = await vmlinux();
      const file = SymbolFile.open(path);
      const addresses = wanted.map((name) => [name, `${file.symbolsNamed(name)[0]?.address}`]);
      file.close();
      env = { SYMBOLS: JSON.stringify(Object.fromEntries(addresses)) };
      lab = await bootLab({ cpu, files: { ...(await bundles()), ...(await assembledGuests()) } });
    });
    after(() => lab?.close());

    // On one CPU of the lab: a tracer spins in the kernel until its tracee is off the other one (Linux kernel/sched/core.c,
    // wait_task_inactive), which is long where this machine has fewer CPUs than its labs. But `smp` is of what happens at once.
    for (const program of chosen) {
      const command = `${program === 'smp' ? '' : 'taskset 1 '}node /job/${program}.mjs ${checks}`;
      test(program, (context) => relay(context, lab, command, { ...env, ...own }));
    }
  });
}
