// `npm test`, `npm test -- SUITE…`: runs the suites in order. The last line is the sum, alone: "N passed, M failed,
// K skipped"; the exit status is 1 when anything failed.
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Results } from './support/reporter.ts';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const minutes = 60_000;

interface Suite {
  readonly name: string;
  readonly run: () => Promise<Results>;
  /** It starts the programs in dist/. */
  readonly needsBuild?: boolean;
  /** It may skip all of its tests (with a reason each): it needs more than can be expected of every machine. */
  readonly mayBeSkipped?: boolean;
}

function execute(command: string, args: readonly string[], environment: NodeJS.ProcessEnv = {}): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, stdio: 'inherit', env: { ...process.env, ...environment } });
    child.on('error', reject);
    child.on('close', (code) => resolve(code ?? 1));
  });
}

/** A check that is one program: it counts as one test. */
const program = (name: string, command: string, ...args: string[]): Suite => ({
  name,
  run: async () => {
    const passed = (await execute(command, args)) === 0;
    return { passed: passed ? 1 : 0, failed: passed ? 0 : 1, skipped: [] };
  },
});

const bin = (name: string): string => join(root, 'node_modules', '.bin', name);

const testFiles = readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.test.ts'))
  .sort();

/** The files of `test/` that `belongs` takes, under node:test; `timeout` (ms) is for each file. */
function nodeTest(name: string, belongs: (file: string) => boolean, timeout: number, verbose: boolean): Suite {
  const run = async (): Promise<Results> => {
    const files = testFiles.filter(belongs).map((file) => join('test', file));
    if (files.length === 0) return { passed: 0, failed: 0, skipped: [] };
    const scratch = mkdtempSync(join(tmpdir(), 'kvm-debug-test-'));
    try {
      const resultsFile = join(scratch, 'results.json');
      const options = ['--import', 'tsx', '--test', '--test-reporter=./test/support/reporter.mjs'];
      // One lab at a time: two of them slow each other down out of all proportion.
      if (verbose) options.push('--test-concurrency=1');
      const code = await execute(process.execPath, [...options, `--test-timeout=${timeout}`, ...files], {
        TEST_RESULTS: resultsFile,
        TEST_VERBOSE: verbose ? '1' : '0',
      });
      const results = JSON.parse(readFileSync(resultsFile, 'utf8')) as Results;
      if (code !== 0 && results.failed === 0) {
        console.log(`  FAILED ${name}: node --test ended with ${code} though no test failed`);
        results.failed++;
      }
      return results;
    } finally {
      rmSync(scratch, { recursive: true });
    }
  };
  return { name, run };
}

const inFolder = (folder: string) => (file: string) => file.startsWith(`${folder}/`);
const isUnit = (file: string): boolean =>
  file !== 'layers.test.ts' && !['dap', 'kernels', 'remote', 'lab', 'vscode'].some((folder) => inFolder(folder)(file));

const suites: readonly Suite[] = [
  program('types', bin('tsc'), '--noEmit'),
  // Biome colours its text even where nobody can see colours.
  program('lint', bin('biome'), 'ci', '--error-on-warnings', ...(process.stdout.isTTY ? [] : ['--colors=off'])),
  program('build', process.execPath, 'esbuild.mjs'),
  nodeTest('layers', (file) => file === 'layers.test.ts', minutes, false),
  nodeTest('unit', isUnit, 2 * minutes, false),
  nodeTest('dap', inFolder('dap'), 2 * minutes, false),
  nodeTest('kernels', inFolder('kernels'), 20 * minutes, true),
  { ...nodeTest('remote', inFolder('remote'), 10 * minutes, true), needsBuild: true },
  { ...nodeTest('lab', inFolder('lab'), 60 * minutes, true), needsBuild: true },
  { ...nodeTest('vscode', inFolder('vscode'), 20 * minutes, true), needsBuild: true, mayBeSkipped: true },
];

function selected(names: readonly string[]): readonly Suite[] {
  if (names.length === 0) return suites;
  const unknown = names.filter((name) => !suites.some((suite) => suite.name === name));
  if (unknown.length > 0) {
    const known = suites.map((suite) => suite.name).join(', ');
    console.error(`There is no suite ${unknown.join(', ')}; there are: ${known}`);
    process.exit(2);
  }
  const chosen = suites.filter((suite) => names.includes(suite.name));
  const needsBuild = chosen.some((suite) => suite.needsBuild);
  return suites.filter((suite) => chosen.includes(suite) || (needsBuild && suite.name === 'build'));
}

async function runSuite(suite: Suite, buildFailed: boolean): Promise<Results> {
  const nothing: Results = { passed: 0, failed: 0, skipped: [] };
  if (suite.needsBuild && buildFailed) {
    console.log('  FAILED: it needs the build, which failed');
    return { ...nothing, failed: 1 };
  }
  try {
    const results = await suite.run();
    const mayBeEmpty = suite.mayBeSkipped && results.skipped.length > 0;
    if (results.passed + results.failed > 0 || mayBeEmpty) return results;
    console.log('  FAILED: no test was executed');
    return { ...results, failed: 1 };
  } catch (error) {
    console.log(`  FAILED: ${error instanceof Error ? error.message : error}`);
    return { ...nothing, failed: 1 };
  }
}

const line = (results: Results): string =>
  `${results.passed} passed, ${results.failed} failed, ${results.skipped.length} skipped`;

const total: Results = { passed: 0, failed: 0, skipped: [] };
let buildFailed = false;
for (const suite of selected(process.argv.slice(2))) {
  console.log(`${suite.name} …`);
  const started = performance.now();
  const results = await runSuite(suite, buildFailed);
  if (suite.name === 'build') buildFailed = results.failed > 0;
  console.log(`${suite.name}: ${line(results)} (${((performance.now() - started) / 1000).toFixed(1)} s)`);
  total.passed += results.passed;
  total.failed += results.failed;
  total.skipped.push(...results.skipped.map(({ name, reason }) => ({ name: `${suite.name} > ${name}`, reason })));
}
for (const { name, reason } of total.skipped) console.log(`skipped: ${name}: ${reason}`);
console.log(line(total));
process.exitCode = total.failed > 0 ? 1 : 0;
