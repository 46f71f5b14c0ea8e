/** Questions to a kernel's debug information: the command against gdb, whole processes on the same file, in turns. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { build } from 'esbuild';
import { reportProgress } from '../../lab/cache.ts';
import { type ToolCommand, tool } from '../../lab/tools.ts';
import { architectures, Kernel } from '../kernels/kernel.ts';
import { type Row, summary } from './samples.ts';

const rounds = 5;

/** What is asked: the words for `kvm-debug symbols`, and gdb's command. */
const questions = [
  { name: '.c file:line', words: ['line', 'init/main.c:931'], gdb: 'break init/main.c:931' },
  { name: 'function', words: ['function', 'start_kernel'], gdb: 'break start_kernel' },
  { name: 'inlined function', words: ['function', 'put_page'], gdb: 'break put_page' },
  { name: 'header line', words: ['line', 'include/linux/list.h:64'], gdb: 'break include/linux/list.h:64' },
  { name: 'struct task_struct', words: ['type', 'task_struct'], gdb: 'ptype /o struct task_struct' },
  { name: 'print init_task', words: ['print', 'init_task'], gdb: 'print init_task' },
] as const;

/** One process from its start to its end. */
interface Run {
  /** ms */
  readonly wall: number;
  /** Peak resident set, MiB. */
  readonly memory: number;
}

/** GNU time writes the peak, in KiB, behind all that the program writes to standard error. */
async function measure(time: ToolCommand, argv: readonly string[], env: NodeJS.ProcessEnv): Promise<Run> {
  const [program = '', ...words] = time.argv;
  const start = performance.now();
  const child = spawn(program, [...words, '-f', '%M', ...argv], { env, stdio: ['ignore', 'ignore', 'pipe'] });
  const [errors, [status]] = await Promise.all([text(child.stderr), once(child, 'close')]);
  const wall = performance.now() - start;
  const memory = Number(errors.trimEnd().split('\n').at(-1)) / 1024;
  if (status !== 0 || !(memory > 0)) throw new Error(`${argv.join(' ')} ended with ${status}: ${errors}`);
  return { wall, memory };
}

const rowsOf = (name: string, runs: Readonly<Record<'gdb' | 'cold' | 'cached', readonly Run[]>>): Row[] => {
  const walls = (of: readonly Run[]): number[] => of.map(({ wall }) => wall);
  const row = (who: string, of: readonly Run[], isOurs: boolean): Row => {
    const faster = summary(of.map(({ wall }, round) => (runs.gdb[round]?.wall ?? Number.NaN) / wall));
    const peak = `${summary(of.map(({ memory }) => memory)).median.toFixed(0)} MiB`;
    return {
      name: `${name}, ${who}`,
      unit: 'ms',
      samples: walls(of),
      note: isOurs
        ? `${faster.median.toFixed(1)} (${faster.p10.toFixed(1)} – ${faster.p90.toFixed(1)}) times as fast as gdb; ${peak}`
        : peak,
    };
  };
  return [
    row('gdb', runs.gdb, false),
    row('kvm-debug, no cache', runs.cold, true),
    row('kvm-debug, cached', runs.cached, true),
  ];
};

/** Rows for each kernel and question. */
export async function symbolRows(): Promise<readonly Row[]> {
  const folder = mkdtempSync(join(tmpdir(), 'kvm-debug-bench-'));
  try {
    const cli = join(folder, 'cli.cjs');
    await build({
      entryPoints: [join(import.meta.dirname, '../../src/cli.ts')],
      outfile: cli,
      bundle: true,
      platform: 'node',
      target: 'node20',
      format: 'cjs',
      logLevel: 'warning',
    });
    const time = await tool('time', reportProgress);
    const gdb = await tool('gdb-multiarch', reportProgress);
    const rows: Row[] = [];
    for (const architecture of architectures) {
      const { vmlinux } = await Kernel.of(architecture);
      const cache = join(folder, architecture);
      const empty = join(folder, 'empty');
      const ours = (words: readonly string[], home: string): Promise<Run> =>
        measure(time, [process.execPath, cli, 'symbols', vmlinux, ...words], { ...process.env, XDG_CACHE_HOME: home });
      const theirs = (command: string): Promise<Run> =>
        measure(
          time,
          [...gdb.argv, '-nx', '-batch', '-iex', 'set debuginfod enabled off', '-ex', command, vmlinux],
          gdb.env,
        );
      await ours(['index'], cache);
      for (const { name, words, gdb: command } of questions) {
        console.log(`${architecture}: ${name}`);
        const runs = { gdb: [] as Run[], cold: [] as Run[], cached: [] as Run[] };
        // Of the first round only that the file is in memory is kept.
        for (let round = 0; round <= rounds; round++) {
          rmSync(empty, { recursive: true, force: true });
          mkdirSync(empty);
          const [them, cold, cached] = [await theirs(command), await ours(words, empty), await ours(words, cache)];
          if (round === 0) continue;
          runs.gdb.push(them);
          runs.cold.push(cold);
          runs.cached.push(cached);
        }
        rows.push(...rowsOf(`${architecture} ${name}`, runs));
      }
    }
    return rows;
  } finally {
    rmSync(folder, { recursive: true });
  }
}
