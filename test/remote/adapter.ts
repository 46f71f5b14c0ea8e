/** The adapter of dist/ on this machine, where `npm run build` has put it, and its clients. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { DapClient } from '../support/dapClient.ts';
import type { AdapterProcess } from '../support/labAdapter.ts';

/** A bound for what hangs, not a measure. */
const answerTimeoutMs = 60_000;

export interface LocalAdapter extends AdapterProcess {
  close(): Promise<void>;
}

export async function startAdapter(): Promise<LocalAdapter> {
  const child = spawn(process.execPath, ['dist/adapter.js', '--listen', '127.0.0.1:0'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = once(child, 'close');
  let log = '';
  child.stderr.on('data', (chunk: Buffer) => {
    log += chunk.toString();
  });
  const port = await new Promise<number>((resolve, reject) => {
    let printed = '';
    child.stdout.on('data', (chunk: Buffer) => {
      printed += chunk.toString();
      const [, digits] = /listening on .*:(\d+)\n/.exec(printed) ?? [];
      if (digits) resolve(Number(digits));
    });
    void ended.then(() => reject(new Error(`the adapter ended: ${log}`)));
  });
  const kill = async (signal: NodeJS.Signals): Promise<void> => {
    child.kill(signal);
    await ended;
  };
  return {
    port,
    connect: () => DapClient.connect(port, '127.0.0.1', answerTimeoutMs),
    log: () => log,
    kill: () => kill('SIGKILL'),
    close: () => kill('SIGTERM'),
  };
}
