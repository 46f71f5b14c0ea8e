// A node:test reporter: failures as text on the reporter's destination, and the counts as JSON in the file that
// TEST_RESULTS names, so that nobody parses the text. TEST_VERBOSE=1 also prints what passed, for suites that take minutes.
import { writeFileSync } from 'node:fs';
import { relative } from 'node:path';
import type { TestEvent } from 'node:test/reporters';

export interface Results {
  passed: number;
  failed: number;
  skipped: { name: string; reason: string }[];
}

/** What node:test says of a finished test or suite (`EventData.TestPass`, `EventData.TestFail`). */
type Finished = Extract<TestEvent, { type: 'test:pass' | 'test:fail' }>['data'];

const indent = (text: string): string => text.replace(/^(?=.)/gm, '    ');

function errorText(error: unknown): string {
  // node:test wraps what was thrown in ERR_TEST_FAILURE; the cause is what the reader wants.
  const thrown = error instanceof Error && error.cause !== undefined ? error.cause : error;
  if (!(thrown instanceof Error)) return String(thrown);
  const stack = (thrown.stack ?? String(thrown)).split('\n').filter((line) => !/\bnode:internal\b/.test(line));
  const causes = thrown.cause === undefined ? [] : [`caused by: ${errorText(thrown.cause)}`];
  // A stack that crossed a process may lack the message.
  return [
    ...(stack[0]?.includes(thrown.message.split('\n')[0] ?? '') ? [] : [thrown.message]),
    ...stack,
    ...causes,
  ].join('\n');
}

const failureType = (data: Finished): unknown => {
  const error: unknown = 'error' in data.details ? data.details.error : undefined;
  return error instanceof Error && 'failureType' in error ? error.failureType : undefined;
};

/** node:test reports a file as a test of its own when it holds none or when its process failed. */
const isFile = (data: Finished): boolean =>
  data.nesting === 0 && data.file !== undefined && data.file.endsWith(data.name);

/** How the process of a test file ended: node:test puts it on the error of the file. */
function exitOf(data: Finished): string {
  const { error } = data.details as { error?: { cause?: unknown; exitCode?: number | null; signal?: string | null } };
  if (error?.signal) return `ended by ${error.signal}`;
  return error?.exitCode === undefined ? String(error?.cause) : `ended with ${error.exitCode}`;
}

export default async function* reporter(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const results: Results = { passed: 0, failed: 0, skipped: [] };
  const verbose = process.env.TEST_VERBOSE === '1';
  const path: string[] = []; // the names from the outermost suite down to the test being reported

  const fail = (name: string, detail: string): string => {
    results.failed++;
    return `  FAILED ${name}\n${indent(detail)}\n`;
  };

  for await (const { type, data } of source) {
    if (type === 'test:start') {
      path.length = data.nesting;
      path.push(data.name);
    } else if (type === 'test:diagnostic') {
      // Errors thrown after their test had ended come this way, and node:test's own sums, which are repeated here.
      if (!/^(tests|suites|pass|fail|cancelled|skipped|todo|duration_ms) [\d.]+$/.test(data.message))
        yield `  ${data.message}\n`;
    } else if (type === 'test:stdout' || type === 'test:stderr') {
      yield data.message;
    } else if (type === 'test:pass' || type === 'test:fail') {
      const name = [...path.slice(0, data.nesting), data.name].join(' > ');
      const isSuite = data.details.type === 'suite';
      const skip = data.skip ?? data.todo;
      if (skip !== undefined && skip !== false) {
        if (typeof skip === 'string' && skip !== '') results.skipped.push({ name, reason: skip });
        else yield fail(name, 'skipped without a reason');
      } else if (type === 'test:fail') {
        // A parent that fails only because of its children is already reported through them.
        if (failureType(data) !== 'subtestsFailed') {
          yield isFile(data)
            ? fail(relative('', name), `the process of the file: ${exitOf(data)}`)
            : fail(name, errorText(data.details.error));
        }
      } else if (isFile(data)) {
        yield fail(relative('', name), 'the file holds no test');
      } else if (!isSuite) {
        results.passed++;
        if (verbose) yield `  passed ${name} (${(data.details.duration_ms / 1000).toFixed(1)} s)\n`;
      }
    }
  }
  const file = process.env.TEST_RESULTS;
  if (file) writeFileSync(file, JSON.stringify(results));
}
