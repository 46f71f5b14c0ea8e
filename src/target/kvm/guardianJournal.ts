// The adapter's end of the guardian: a pipe, written synchronously, so that an entry has left us before the change it
// tells of. The pipe's end of file, whatever closed it, is what wakes the guardian.
import { spawn } from 'node:child_process';
import { closeSync, writeSync } from 'node:fs';
import { SessionError } from '../../base/errors.ts';
import { openPipe } from './ffi.ts';
import type { Journal, JournalEntry } from './journal.ts';

/** One line of the pipe. */
export type JournalLine =
  | { readonly do: 'vmm'; readonly record: Parameters<Journal['vmm']>[0] }
  | { readonly do: 'enter'; readonly entries: readonly JournalEntry[] }
  | { readonly do: 'strike'; readonly keys: readonly string[] }
  | { readonly do: 'recover' }
  | { readonly do: 'close' };

/** The descriptor on which the guardian reads. */
export const guardianInput = 3;

export interface GuardedJournal extends Journal {
  /** Leaves what is not undone to the guardian, now. Precondition: no thread of the VMM is traced any more. */
  abandon(): void;
}

export function openJournal(guardianPath: string): GuardedJournal {
  const { readEnd, writeEnd } = openPipe();
  // Its own session: what ends us, a terminal's hang-up or a signal to our process group, must not reach it.
  const guardian = spawn(process.execPath, [guardianPath, `${process.pid}`], {
    stdio: ['ignore', 'ignore', 'inherit', readEnd],
    detached: true,
    env: { ...process.env, ELECTRON_RUN_AS_NODE: '1' },
  });
  guardian.unref();
  // A guardian that cannot be started is one that has ended: the first entry finds its pipe closed.
  guardian.on('error', () => {});
  closeSync(readEnd);
  let isOpen = true;
  const write = (line: JournalLine): void => {
    if (!isOpen) return;
    const bytes = Buffer.from(`${JSON.stringify(line)}\n`);
    // A signal may cut short the write to a pipe that is full.
    for (let done = 0; done < bytes.length; ) done += writeSync(writeEnd, bytes, done);
  };
  /** Of what is to be changed: without a guardian it must not be. */
  const announce = (line: JournalLine): void => {
    try {
      write(line);
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== 'EPIPE') throw cause;
      throw new SessionError('The process that would restore the VM if the debugger died has ended itself.', { cause });
    }
  };
  /** Of what was undone: a guardian that is gone need not know. */
  const send = (line: JournalLine): void => {
    try {
      write(line);
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== 'EPIPE') throw cause;
    }
  };
  const end = (): void => {
    if (isOpen) closeSync(writeEnd);
    isOpen = false;
  };
  return {
    vmm: (record) => announce({ do: 'vmm', record }),
    enter: (...entries) => {
      if (entries.length > 0) announce({ do: 'enter', entries });
    },
    strike: (...keys) => {
      if (keys.length > 0) send({ do: 'strike', keys });
    },
    close: () => {
      send({ do: 'close' });
      end();
    },
    abandon: () => {
      send({ do: 'recover' });
      end();
    },
  };
}
