import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { StringDecoder } from 'node:string_decoder';
import { messageOf } from '../base/errors.ts';
import type { GuestConsole } from '../target/connection.ts';
import type { Client } from './context.ts';
import { LineGatherer } from './lines.ts';

const backlogLimit = 1 << 20;
const terminalTimeoutMs = 30_000;
/** How long the program in the terminal may take to connect. It never does where the client is on another machine. */
const terminalConnectTimeoutMs = 15_000;

/** Brings what the guest prints to the user: to a terminal of the client's, where it can also be typed at, or as
 *  output events. Until the terminal is there, and when it is closed, nothing is lost to it but what exceeds 1 MiB. */
export class ConsoleRelay {
  readonly #decoder = new StringDecoder('utf8');
  readonly #lines = new LineGatherer((output) => this.client.event('output', { category: 'stdout', output }));
  readonly #backlog: Buffer[] = [];
  #backlogSize = 0;
  #terminal: Socket | 'none' | 'awaited' = 'none';
  #server: Server | undefined;
  #directory: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  readonly #ended: Promise<void>;

  constructor(
    private readonly console: GuestConsole,
    private readonly client: Client,
    private readonly connectTimeoutMs = terminalConnectTimeoutMs,
  ) {
    this.#ended = new Promise((resolve) => {
      console.output.once('close', resolve);
      console.output.once('end', resolve);
    });
    console.output.on('error', () => undefined);
    console.input.on('error', () => undefined);
  }

  /** Sends all output as events from now on. */
  useOutputEvents(): void {
    this.console.output.on('data', (chunk: Buffer) => this.#show(chunk));
  }

  /** Asks the client for a terminal that runs `program`; falls back to output events when it cannot. */
  useTerminal(kind: 'integrated' | 'external', program: string): void {
    this.#terminal = 'awaited';
    this.console.output.on('data', (chunk: Buffer) => this.#show(chunk));
    this.#directory = mkdtempSync(join(tmpdir(), 'kvm-debug-console-'));
    const path = join(this.#directory, 'socket');
    const server = createServer((socket) => this.#connected(socket));
    this.#server = server;
    server.on('error', (error) => this.#noTerminal(messageOf(error)));
    server.listen(path, () => {
      const args = {
        kind,
        title: 'Guest console',
        // A folder that stays: the shell of the terminal does too.
        cwd: process.cwd(),
        args: [process.execPath, program, path],
        // VS Code's own runtime is an Electron that must be told to be Node.
        ...(process.versions.electron ? { env: { ELECTRON_RUN_AS_NODE: '1' } } : {}),
      };
      this.client.request('runInTerminal', args, terminalTimeoutMs).then(
        () => this.#expectConnection(),
        (error: unknown) => this.#noTerminal(messageOf(error)),
      );
    });
  }

  /** Resolves when the console has printed all it has to, at the latest after `timeoutMs`. */
  async drained(timeoutMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, timeoutMs);
    });
    await Promise.race([this.#ended, timeout]);
    clearTimeout(timer);
    this.#lines.flush();
  }

  /** Before the VM is left running without us. */
  leave(): void {
    this.console.leave();
  }

  close(): void {
    this.#lines.flush();
    clearTimeout(this.#timer);
    if (this.#terminal === 'awaited') this.#noTerminal(undefined);
    if (typeof this.#terminal === 'object') this.#terminal.end();
    this.#server?.close();
    if (this.#directory !== undefined) rmSync(this.#directory, { recursive: true, force: true });
    this.#directory = undefined;
  }

  #expectConnection(): void {
    if (this.#terminal !== 'awaited') return;
    const why = 'its program did not connect; on another machine use "console": "internalConsole"';
    this.#timer = setTimeout(() => this.#noTerminal(why), this.connectTimeoutMs);
  }

  #connected(socket: Socket): void {
    if (this.#terminal !== 'awaited') {
      socket.destroy();
      return;
    }
    this.#terminal = socket;
    clearTimeout(this.#timer);
    this.#server?.close();
    for (const chunk of this.#backlog.splice(0)) socket.write(chunk);
    socket.on('data', (chunk: Buffer) => this.console.input.write(chunk));
    socket.on('error', () => undefined);
    socket.on('close', () => {
      if (this.#terminal === socket) this.#terminal = 'none';
    });
    this.console.output.once('end', () => socket.end());
  }

  #show(chunk: Buffer): void {
    if (this.#terminal === 'none') this.#event(chunk);
    else if (this.#terminal === 'awaited') {
      if (this.#backlogSize >= backlogLimit) return;
      this.#backlog.push(chunk);
      this.#backlogSize += chunk.length;
    } else if (this.#terminal.writableLength < backlogLimit) this.#terminal.write(chunk);
  }

  #event(chunk: Buffer): void {
    // The serial line ends lines with CR LF; the client's console knows LF.
    const text = this.#decoder.write(chunk).replaceAll('\r\n', '\n').replaceAll('\r', '');
    this.#lines.push(text);
  }

  #noTerminal(why: string | undefined): void {
    if (this.#terminal !== 'awaited') return;
    this.#terminal = 'none';
    if (why !== undefined) {
      const output = `The guest's console is not in a terminal (${why}); it follows here.\n`;
      this.client.event('output', { category: 'console', output });
    }
    for (const chunk of this.#backlog.splice(0)) this.#event(chunk);
  }
}
