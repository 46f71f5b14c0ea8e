/** The download cache: entries keyed by version, made whole or not at all, one maker at a time across processes. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';

/** `$XDG_CACHE_HOME/kvm-debug`, made when absent. */
export function cacheRoot(): string {
  const root = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'kvm-debug');
  mkdirSync(root, { recursive: true });
  return root;
}

/** Path of the lab's own part of the cache. */
export function labCache(...names: string[]): string {
  return join(cacheRoot(), 'lab', ...names);
}

export type Progress = (line: string) => void;

/** One line on standard error for each long step, so that standard output stays the caller's. */
export const reportProgress: Progress = (line) => {
  process.stderr.write(`lab: ${line}\n`);
};

/**
 * Runs `action` while holding the lock file `path`. The lock is held by a `flock` child that lives until its standard
 * input closes: it cannot outlive this process, however this process ends, so no stale lock needs guessing.
 */
export async function withLock<T>(path: string, action: () => Promise<T>): Promise<T> {
  mkdirSync(dirname(path), { recursive: true });
  const holder = spawn('flock', [path, 'sh', '-c', 'echo held; cat >/dev/null'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const ended = once(holder, 'close');
  const held = await Promise.race([once(holder.stdout, 'data').then(() => true), ended.then(() => false)]);
  if (!held) throw new Error(`cannot lock ${path}: install the package util-linux, or make the folder writable`);
  try {
    return await action();
  } finally {
    holder.stdin.end();
    await ended;
  }
}

/**
 * The cache entry (a folder) `lab/<name>`: returned at once when it exists, else made by `make` in a scratch folder and
 * renamed into place. An interrupted run leaves only scratch, which the next maker removes; it is never trusted.
 */
export async function cacheEntry(name: string, make: (folder: string) => Promise<void>): Promise<string> {
  const path = labCache(name);
  if (existsSync(path)) return path;
  return withLock(labCache('locks', name), async () => {
    if (existsSync(path)) return path;
    // A folder of its own: a program that outlived an interrupted run may still be writing to that run's.
    dropEntries((other) => other.startsWith(`${name}.partial`));
    const scratch = `${path}.partial-${process.pid}`;
    mkdirSync(scratch, { recursive: true });
    try {
      await make(scratch);
      renameSync(scratch, path);
    } catch (error) {
      rmSync(scratch, { recursive: true, force: true });
      throw error;
    }
    return path;
  });
}

/** Removes the entries chosen by name. */
export function dropEntries(chosen: (name: string) => boolean): void {
  for (const name of readdirSync(labCache()).filter(chosen)) rmSync(labCache(name), { recursive: true, force: true });
}
