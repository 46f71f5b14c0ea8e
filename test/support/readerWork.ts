// Counts what the readers do, so that tests can bound it: calls of Cursor's methods, and bytes read from files. Work beyond
// a limit is stopped by an error, which no reader expects.

import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { Cursor } from '../../src/base/bytes.ts';

export class TooMuchWork extends Error {}

let done = 0;
let limit = Number.POSITIVE_INFINITY;

const count = (amount: number): void => {
  done += amount;
  if (done <= limit) return;
  limit = Number.POSITIVE_INFINITY; // once is enough: what cleans up reads too
  throw new TooMuchWork(`more than ${done - amount} operations`);
};

const methods = ['advance', 'u8', 'uleb', 'sleb', 'skipLeb', 'skipString', 'ulebBig', 'slebBig'] as const;

/** Bytes that cost as much as one call. */
const bytesPerOperation = 64;

export const countWork = (): void => {
  for (const method of methods) {
    const original = Cursor.prototype[method] as (...args: unknown[]) => unknown;
    const counted = function (this: Cursor, ...args: unknown[]): unknown {
      count(1);
      return original.apply(this, args);
    };
    Object.defineProperty(Cursor.prototype, method, { value: counted });
  }
  const read = fs.readSync as (...args: unknown[]) => number;
  Object.defineProperty(fs, 'readSync', {
    value: (...args: unknown[]): number => {
      const bytes = read(...args);
      count(bytes / bytesPerOperation);
      return bytes;
    },
  });
  syncBuiltinESMExports();
};

/** Runs an action that may do so much; returns what it did. */
export const within = (operations: number, action: () => void): number => {
  done = 0;
  limit = operations;
  try {
    action();
    return done;
  } finally {
    limit = Number.POSITIVE_INFINITY;
  }
};
