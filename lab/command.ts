/** Running the machine's own programs during assembly. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';

export interface CommandOptions {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  /** A file descriptor or 'ignore' (the default). */
  input?: number | 'ignore';
}

/** A program that failed; `output` is what it printed. */
export class CommandError extends Error {
  readonly output: string;
  constructor(message: string, output: string) {
    super(message);
    this.output = output;
  }
}

const running = new Set<ChildProcess>();
// What is fetched or unpacked for nobody ends with this process.
process.on('exit', () => {
  for (const child of running) child.kill();
});

/** Runs a program to its end and returns its standard output. */
export async function command(argv: readonly string[], options: CommandOptions = {}): Promise<string> {
  const [program = '', ...args] = argv;
  const child = spawn(program, args, {
    stdio: [options.input ?? 'ignore', 'pipe', 'pipe'],
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.env === undefined ? {} : { env: options.env }),
  });
  running.add(child);
  let stdout = '';
  let stderr = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  let status: number | null;
  let signal: string | null;
  try {
    [status, signal] = (await once(child, 'close')) as [number | null, string | null];
  } catch (cause) {
    throw new CommandError(`cannot run ${program}: ${(cause as Error).message}`, '');
  } finally {
    running.delete(child);
  }
  if (status === 0) return stdout;
  const tail = `${stdout.slice(-2000)}\n${stderr.slice(-2000)}`.trim();
  throw new CommandError(`${argv.join(' ')}: ${signal ?? `status ${status}`}\n${tail}`, stderr + stdout);
}
