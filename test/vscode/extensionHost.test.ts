// What only a real extension host can show: the suites of test/vscode/suites, in VS Code's server, by the runner that
// @vscode/test-cli has for desktops. Each of their tests counts as one here.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { reportProgress } from '../../lab/cache.ts';
import { type HostSuite, type HostSuites, layOut } from './extensionHostSuites.ts';
import { type Installation, installation } from './installation.ts';
import { openBrowser, Server } from './server.ts';

const repository = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const scratch = mkdtempSync(join(tmpdir(), 'kvm-debug-host-'));
after(() => rmSync(scratch, { recursive: true, force: true }));

let installed: Installation | undefined;
let skip: string | false = false;
try {
  installed = await installation(reportProgress);
} catch (error) {
  skip = `VS Code cannot be set up here: ${error instanceof Error ? error.message : error}`;
}

/** What Mocha's JSON reporter writes of a test. */
interface Result {
  readonly fullTitle: string;
  readonly err: { readonly message?: string; readonly stack?: string };
}

/** Runs a suite to its end. */
async function run(
  { name, file, workspace }: HostSuite,
  { extension, environment }: HostSuites,
): Promise<readonly Result[]> {
  assert.ok(installed);
  const output = join(scratch, `${name}.json`);
  // As @vscode/test-cli calls its runner (`out/cli/platform/desktop.mjs`).
  const mochaOpts = { reporter: 'json', reporterOption: { output }, timeout: 60_000 };
  const options = { mochaOpts, files: [file], preload: [], colorDefault: false };
  const server = await Server.start(installed, join(scratch, `${name}-server`), {
    // The environment of the user's login shell would have another PATH.
    arguments: ['--enable-smoke-test-driver', '--force-disable-user-env'],
    environment: { ...environment, VSCODE_TEST_OPTIONS: JSON.stringify(options) },
  });
  const log: string[] = [];
  try {
    const browser = await openBrowser(installed);
    try {
      const page = await browser.newPage();
      const ended = new Promise<number>((resolve) => void page.exposeFunction('codeAutomationExit', resolve));
      await page.exposeFunction('codeAutomationLog', ({ args }: { args?: unknown[] }) => log.push(String(args)));
      const remote = (path: string): string => `vscode-remote://${new URL(server.url).host}${path}`;
      const payload = [
        ['extensionDevelopmentPath', remote(extension)],
        ['extensionTestsPath', remote(join(repository, 'node_modules/@vscode/test-cli/out/runner.cjs'))],
      ];
      await page.goto(`${server.url}/?folder=${workspace}&payload=${encodeURIComponent(JSON.stringify(payload))}`);
      const code = await ended;
      const { tests } = JSON.parse(readFileSync(output, 'utf8')) as { tests: Result[] };
      // A hook that failed is not among the tests.
      if (code !== 0 && tests.every(({ err }) => err.message === undefined)) throw new Error(`it ended with ${code}`);
      return tests;
    } finally {
      await browser.close();
    }
  } catch (error) {
    throw new Error(`the suite ${name} did not come to its end: ${log.join('\n')}`, { cause: error });
  } finally {
    await server.close();
  }
}

describe("VS Code's extension host", { skip }, async () => {
  if (skip) return;
  const laid = await layOut(join(scratch, 'laid'));
  for (const suite of laid.suites) {
    test(suite.name, async (context) => {
      const results = await run(suite, laid);
      assert.ok(results.length > 0);
      for (const { fullTitle, err } of results) {
        await context.test(fullTitle, () => assert.ok(err.message === undefined, err.stack ?? err.message));
      }
    });
  }
});
