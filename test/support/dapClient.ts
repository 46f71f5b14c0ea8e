// A DAP client for tests: over streams (the adapter in this process) or TCP (the adapter anywhere).
import { connect } from 'node:net';
import type { Readable, Writable } from 'node:stream';
import { encodeMessage, MessageReader } from '../../src/dap/framing.ts';

export interface DapMessage {
  readonly seq: number;
  readonly type: 'request' | 'response' | 'event';
  readonly command?: string;
  readonly event?: string;
  readonly request_seq?: number;
  readonly success?: boolean;
  readonly message?: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into bodies of every shape
  readonly body?: any;
  readonly arguments?: unknown;
}

/** A request that was answered with an error. */
export class DapError extends Error {
  constructor(
    readonly command: string,
    readonly response: DapMessage,
  ) {
    super(response.message ?? 'no message');
  }
}

interface Waiting {
  readonly matches: (message: DapMessage) => boolean;
  readonly resolve: (message: DapMessage) => void;
}

export class DapClient {
  /** Everything sent and received, in order. */
  readonly transcript: DapMessage[] = [];
  /** Resolves when the adapter closes the connection. */
  readonly closed: Promise<void>;
  /** Answers reverse requests; throwing refuses them. */
  onRequest: (command: string, args: unknown) => object = (command) => {
    throw new Error(`${command} is not supported`);
  };
  readonly #waiting = new Set<Waiting>();
  #sequence = 0;
  /** Index in the transcript up to which `waitFor` has consumed events. */
  #consumed = 0;

  constructor(
    readonly input: Readable,
    readonly output: Writable,
    readonly timeoutMs = 10_000,
  ) {
    const reader = new MessageReader();
    input.on('data', (chunk: Buffer) => {
      for (const received of reader.push(chunk)) {
        if ('malformed' in received) throw new Error(`the adapter sent ${received.malformed}`);
        this.#receive(received.message as unknown as DapMessage);
      }
    });
    output.on('error', () => undefined);
    this.closed = new Promise((resolve) => {
      input.once('end', resolve);
      input.once('close', resolve);
      input.once('error', () => resolve());
    });
  }

  static connect(port: number, host = '127.0.0.1', timeoutMs?: number): Promise<DapClient> {
    return new Promise((resolve, reject) => {
      const socket = connect({ port, host, noDelay: true });
      socket.once('error', reject);
      socket.once('connect', () => resolve(new DapClient(socket, socket, timeoutMs)));
    });
  }

  /** The body of the response; rejects with a DapError when it is an error. */
  // biome-ignore lint/suspicious/noExplicitAny: tests look into bodies of every shape
  async request(command: string, args?: object, timeoutMs?: number): Promise<any> {
    const response = await this.send(command, args, timeoutMs).response;
    if (!response.success) throw new DapError(command, response);
    return response.body;
  }

  /** Sends a request without judging its response. */
  send(command: string, args?: object, timeoutMs?: number): { seq: number; response: Promise<DapMessage> } {
    this.#sequence += 1;
    const seq = this.#sequence;
    const request = { seq, type: 'request', command, ...(args ? { arguments: args } : {}) } as const;
    this.transcript.push(request);
    const response = this.#next(
      (message) => message.type === 'response' && message.request_seq === seq,
      `the response to ${command}`,
      timeoutMs,
    );
    this.output.write(encodeMessage(request));
    return { seq, response };
  }

  /** The text of the error that a request is answered with; fails when it succeeds. */
  async refused(command: string, args?: object): Promise<string> {
    const response = await this.send(command, args).response;
    if (response.success) throw new Error(`${command} succeeded: ${JSON.stringify(response.body)}`);
    return response.message ?? '';
  }

  /** The next event of that name which no earlier `waitFor` has returned, and which `matches`. */
  async waitFor(
    event: string,
    matches: (message: DapMessage) => boolean = () => true,
    timeoutMs?: number,
  ): Promise<DapMessage> {
    const wanted = (message: DapMessage): boolean =>
      message.type === 'event' && message.event === event && matches(message);
    const index = this.transcript.findIndex((message, n) => n >= this.#consumed && wanted(message));
    if (index >= 0) {
      this.#consumed = index + 1;
      return this.transcript[index] as DapMessage;
    }
    const message = await this.#next(wanted, `the event ${event}`, timeoutMs);
    this.#consumed = this.transcript.indexOf(message) + 1;
    return message;
  }

  /** All events of that name so far. */
  events(event: string): readonly DapMessage[] {
    return this.transcript.filter((message) => message.type === 'event' && message.event === event);
  }

  /** All output of a category so far. */
  outputText(category: string): string {
    return this.events('output')
      .filter(({ body }) => body.category === category)
      .map(({ body }) => body.output)
      .join('');
  }

  close(): void {
    this.output.end();
  }

  #next(matches: (message: DapMessage) => boolean, what: string, timeoutMs = this.timeoutMs): Promise<DapMessage> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(waiting);
        const last = this.transcript.slice(-8).map((message) => JSON.stringify(message).slice(0, 300));
        reject(new Error(`${what} did not come within ${timeoutMs} ms; the last messages:\n${last.join('\n')}`));
      }, timeoutMs);
      const waiting = {
        matches,
        resolve: (message: DapMessage) => {
          clearTimeout(timer);
          resolve(message);
        },
      };
      this.#waiting.add(waiting);
      void this.closed.then(() => {
        if (!this.#waiting.delete(waiting)) return;
        clearTimeout(timer);
        reject(new Error(`the connection was closed before ${what} came`));
      });
    });
  }

  #receive(message: DapMessage): void {
    this.transcript.push(message);
    if (message.type === 'request') this.#answer(message);
    for (const waiting of this.#waiting) {
      if (!waiting.matches(message)) continue;
      this.#waiting.delete(waiting);
      waiting.resolve(message);
    }
  }

  #answer({ seq, command = '', arguments: args }: DapMessage): void {
    this.#sequence += 1;
    const common = { seq: this.#sequence, type: 'response', request_seq: seq, command } as const;
    let response: DapMessage;
    try {
      response = { ...common, success: true, body: this.onRequest(command, args) };
    } catch (error) {
      response = { ...common, success: false, message: error instanceof Error ? error.message : String(error) };
    }
    this.transcript.push(response);
    this.output.write(encodeMessage(response));
  }
}
