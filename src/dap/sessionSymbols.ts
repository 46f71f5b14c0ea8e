import { basename } from 'node:path';
import { messageOf } from '../base/errors.ts';
import type { SymbolSource } from '../debugger/symbols.ts';
import type { Client, Services, SessionSymbols } from './context.ts';
import { ProgressReport } from './progress.ts';

/** The symbols of a session, and the index of their names, which is built beside it when no earlier session has left one. */
export interface OpenSymbols {
  readonly source: SymbolSource;
  /** Idempotent. */
  close(): void;
}

/** UserError when the file is no symbol file. What is wrong with the index is told to the user: all works without. */
export function openSymbols(path: string, client: Client, services: Services): OpenSymbols {
  const tell = (text: string): void => {
    client.event('output', { category: 'console', output: `${text.replace(/\.?$/, '.')}\n` });
  };
  const source = services.openSymbols(path, tell);
  const abandoned = new AbortController();
  const report = new ProgressReport(client, `Indexing ${basename(path)}`, () => abandoned.abort());
  void index(source, report, abandoned.signal, tell);
  return {
    source,
    close: () => {
      report.end();
      source.close();
    },
  };
}

/** Each later lookup reads the names of all units when the user cancels this: slow, and right. */
async function index(
  source: SessionSymbols,
  report: ProgressReport,
  abandoned: AbortSignal,
  tell: (text: string) => void,
): Promise<void> {
  try {
    await source.indexNames((done, total) => report.update(done, total), abandoned);
    if (abandoned.aborted) tell('Names are searched for without an index, which is slow: its making was cancelled');
  } catch (error) {
    tell(`Names are searched for without an index, because it could not be built: ${messageOf(error)}`);
  } finally {
    report.end();
  }
}
