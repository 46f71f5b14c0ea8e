/** What a test program in the lab tells the test outside: one line of JSON for each event of a check. */
import { spawnSync } from 'node:child_process';
import { threadStates } from '../../../lab/threadStates.ts';

export type Report =
  | { readonly is: 'started'; readonly name: string }
  | { readonly is: 'passed'; readonly name: string }
  | { readonly is: 'failed'; readonly name: string; readonly error: string }
  | { readonly is: 'skipped'; readonly name: string; readonly reason: string };

/** Lines of reports begin with it; anything else that is printed is for the eye. */
export const reportMark = '@report ';

const say = (report: Report): boolean => process.stdout.write(`${reportMark}${JSON.stringify(report)}\n`);

/** Undone after each check, last first, whether it passed or not. */
const cleanups: (() => unknown)[] = [];
export const afterwards = (cleanup: () => unknown): void => void cleanups.push(cleanup);

class TooLong extends Error {}

export function within<Value>(milliseconds: number, what: string, promise: Promise<Value>): Promise<Value> {
  let timer: NodeJS.Timeout | undefined;
  const tooLong = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new TooLong(`${what}: nothing after ${milliseconds} ms`)), milliseconds);
  });
  return Promise.race([promise, tooLong]).finally(() => clearTimeout(timer));
}

/** A pattern on the command line picks checks, for work by hand. */
const only = new RegExp(process.argv[2] ?? '');

export interface CheckOptions {
  readonly timeout?: number;
  /** Why not to run it. */
  readonly skip?: string | undefined;
  /** What is to be undone afterwards is left to the next check without this. */
  readonly keep?: boolean;
}

/** Runs one check and reports it. Never rejects. */
export async function check(
  name: string,
  body: () => Promise<void>,
  { timeout = 120_000, skip, keep = false }: CheckOptions = {},
): Promise<void> {
  if (!only.test(name)) return;
  say({ is: 'started', name });
  if (skip !== undefined) {
    say({ is: 'skipped', name, reason: skip });
    return;
  }
  let error: string | undefined;
  try {
    await within(timeout, 'the check', body());
  } catch (thrown) {
    error = describe(thrown);
    // Not by a call that throws: the error and the cleanups are worth more.
    if (thrown instanceof TooLong)
      error += `\n${spawnSync('/bin/sh', ['-c', threadStates], { encoding: 'utf8' }).stdout}`;
  }
  for (const cleanup of keep ? [] : cleanups.splice(0).reverse()) {
    try {
      await within(20_000, 'cleaning up', Promise.resolve(cleanup()));
    } catch (thrown) {
      error = `${error ?? ''}\nafterwards: ${describe(thrown)}`;
    }
  }
  say(error === undefined ? { is: 'passed', name } : { is: 'failed', name, error });
}

function describe(thrown: unknown): string {
  if (!(thrown instanceof Error)) return String(thrown);
  const cause = thrown.cause === undefined ? '' : `\ncaused by: ${describe(thrown.cause)}`;
  return `${thrown.stack ?? thrown.message}${cause}`;
}
