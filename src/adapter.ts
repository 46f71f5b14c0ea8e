// The debug adapter program: DAP on stdio, or over TCP with --listen.
import { dirname, join } from 'node:path';
import packageJson from '../package.json' with { type: 'json' };
import { messageOf, UserError } from './base/errors.ts';
import type { Services } from './dap/context.ts';
import { DapServer, parseListenAddress } from './dap/server.ts';
import { Session } from './dap/session.ts';
import { SymbolFile } from './symbols/image.ts';
import { deferredConnector } from './target/kvm/deferredConnector.ts';
import { connectRemote } from './target/rsp/connect.ts';

const usage = `Usage: node adapter.js [--listen [HOST:]PORT]

Debugs the kernel of a KVM guest for a client of the Debug Adapter Protocol.

  --listen [HOST:]PORT  serve DAP over TCP, one session after another; HOST is
                        127.0.0.1 unless given, and port 0 takes a free one.
                        Anybody who reaches the port can debug as this user.
  --version             print the version
  --help                print this text

Without --listen the protocol is spoken on standard input and output.
`;

const folder = dirname(process.argv[1] ?? '.');

function services(): Services {
  return {
    connector: { ...deferredConnector({ guardianPath: join(folder, 'guardian.js') }), connect: connectRemote },
    // Names are looked up in an index, which is built beside the session when no earlier one has left it.
    openSymbols: (path, warn) => SymbolFile.open(path, { warn, indexer: join(folder, 'indexer.js') }),
    consoleProgram: join(folder, 'console.js'),
    log,
  };
}

// Standard output may be the protocol.
function log(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** Ends what is under way when the process is told to go, so that no vCPU stays held. */
function closeOnSignals(close: () => Promise<void>): void {
  let closing = false;
  const end = (code: number): void => {
    if (closing) return;
    closing = true;
    void close()
      .catch((error: unknown) => log(messageOf(error)))
      .then(() => process.exit(code));
  };
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => end(0));
  const bug = (error: unknown): void => {
    log(`bug: ${error instanceof Error ? error.stack : String(error)}`);
    end(1);
  };
  process.on('uncaughtException', bug);
  process.on('unhandledRejection', bug);
  process.stderr.on('error', () => undefined);
}

async function serveStdio(): Promise<void> {
  const session = new Session(process.stdin, process.stdout, services());
  closeOnSignals(async () => {
    await session.close();
    await session.finished;
  });
  await session.finished;
  process.exit(0);
}

async function serveTcp(where: string): Promise<void> {
  const server = new DapServer(services());
  closeOnSignals(() => server.close());
  const { address, port } = await server.listen(parseListenAddress(where));
  process.stdout.write(`listening on ${address.includes(':') ? `[${address}]` : address}:${port}\n`);
}

async function main(words: readonly string[]): Promise<void> {
  const [option, ...rest] = words;
  if (option === undefined) return serveStdio();
  const [name, inline] = option.split('=', 2);
  const values = inline === undefined ? rest : [inline, ...rest];
  if (name === '--listen' && values.length === 1) return serveTcp(values[0] ?? '');
  if (option === '--version' && rest.length === 0) process.stdout.write(`${packageJson.version}\n`);
  else if (option === '--help' && rest.length === 0) process.stdout.write(usage);
  else throw new UserError(`The arguments \`${words.join(' ')}\` are not understood.\n\n${usage}`);
}

main(process.argv.slice(2)).catch((error: unknown) => {
  log(error instanceof UserError ? error.message : `bug: ${error instanceof Error ? error.stack : String(error)}`);
  process.exit(2);
});
