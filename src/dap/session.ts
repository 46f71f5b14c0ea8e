import type { Readable, Writable } from 'node:stream';
import type { Gva } from '../base/address.ts';
import { messageOf, SessionError, TargetError, UserError } from '../base/errors.ts';
import type { Client, ClientFeatures, FrameHandle, RequestContext, Services, VariableHandle } from './context.ts';
import { Fields } from './fields.ts';
import { encodeMessage, MessageReader } from './framing.ts';
import type { Guest } from './guest.ts';
import { Handles } from './handles.ts';
import { handlers, immediate } from './table.ts';

interface Request {
  readonly seq: number;
  readonly command: string;
  readonly arguments: unknown;
}

const endTimeoutMs = 5000;
const flushTimeoutMs = 2000;

/** One DAP client and the guest it debugs. The only place that sends. Requests are answered in their order, exactly
 *  once each; those that end or interrupt others overtake them. */
export class Session {
  readonly #features: ClientFeatures = {
    linesStartAt1: true,
    columnsStartAt1: true,
    runInTerminal: false,
    invalidatedEvent: false,
    progressReporting: false,
    radix: undefined,
  };
  readonly #frames = new Handles<FrameHandle>('stack frame');
  readonly #variables = new Handles<VariableHandle>('variable');
  readonly #places = new Handles<Gva>('target');
  readonly #active = new Map<number, AbortController>();
  readonly #reverse = new Map<number, { resolve(body: unknown): void; reject(error: Error): void }>();
  readonly #client: Client;
  #queue: Promise<void> = Promise.resolve();
  #guest: Guest | undefined;
  #sequence = 0;
  #closed = false;
  #end: Promise<void> | undefined;
  #finish: () => void = () => undefined;
  /** Resolves when the session is over and the guest let go of. */
  readonly finished: Promise<void>;

  constructor(
    private readonly input: Readable,
    private readonly output: Writable,
    private readonly services: Services,
  ) {
    this.finished = new Promise((resolve) => {
      this.#finish = resolve;
    });
    this.#client = {
      features: this.#features,
      event: (name, body) => this.#send({ type: 'event', event: name, ...(body ? { body } : {}) }),
      request: (command, args, timeout) => this.#ask(command, args, timeout),
    };
    const reader = new MessageReader();
    input.on('data', (chunk: Buffer) => {
      if (this.#closed) return;
      try {
        for (const received of reader.push(chunk)) {
          if ('message' in received) this.#receive(received.message);
          else this.#complain(`A message that is not valid JSON was ignored: ${received.malformed}`);
        }
      } catch (error) {
        // Where the next message begins cannot be told any more.
        this.#complain(
          `The connection is closed because what came is not the Debug Adapter Protocol: ${messageOf(error)}`,
        );
        void this.close();
      }
    });
    const gone = (): void => {
      if (reader.incomplete && !this.#closed) this.services.log('the client ended the connection within a message');
      void this.close();
    };
    input.once('end', gone);
    input.once('close', gone);
    input.on('error', gone);
    output.on('error', gone);
  }

  /** The client is gone, or the adapter is told to end: lets go of the guest as a plain `disconnect` does. */
  async close(): Promise<void> {
    await this.#endGuest(undefined).catch((error: unknown) => this.services.log(messageOf(error)));
    if (this.#closed) return;
    this.#closed = true;
    for (const { reject } of this.#reverse.values()) reject(new Error('the session has ended'));
    const over = (): void => {
      clearTimeout(timer);
      this.output.destroy();
      this.input.destroy();
      this.#finish();
    };
    // What is still to be sent, the last response above all, goes out before the connection closes.
    const timer = setTimeout(over, flushTimeoutMs);
    this.output.end(over);
  }

  #receive(message: Record<string, unknown>): void {
    if (message.type === 'response') {
      this.#answered(message);
      return;
    }
    const { seq, command } = message;
    if (typeof seq !== 'number' || typeof command !== 'string') {
      this.#complain('A message without a sequence number and a command was ignored.');
      return;
    }
    const request = { seq, command, arguments: message.arguments };
    const active = new AbortController();
    this.#active.set(seq, active);
    if (this.#overtakes(command)) void this.#answer(request, active);
    else this.#queue = this.#queue.then(() => this.#answer(request, active));
  }

  /** A pause waits for what is to let the guest run: it would find it stopped, do nothing, and the guest would run on. */
  #overtakes(command: string): boolean {
    return immediate.has(command) && (command !== 'pause' || this.#guest?.debugger.state === 'running');
  }

  async #answer(request: Request, active: AbortController): Promise<void> {
    const { seq, command } = request;
    const after: (() => void)[] = [];
    const respond = (outcome: object): void => this.#send({ type: 'response', request_seq: seq, command, ...outcome });
    try {
      if (active.signal.aborted) throw new UserError('cancelled');
      const handler = Object.hasOwn(handlers, command) ? handlers[command] : undefined;
      if (!handler) throw new UserError(`The request "${command.slice(0, 80)}" is not known to this adapter.`);
      const args = new Fields(request.arguments, command);
      const body = await handler(args, this.#context(active, after));
      if (active.signal.aborted && command !== 'disconnect') throw new UserError('cancelled');
      respond({ success: true, ...(body === undefined ? {} : { body }) });
    } catch (error) {
      respond({ success: false, ...this.#failure(error, command) });
      if (error instanceof SessionError) this.#guest?.fail(error);
      if (command === 'disconnect') void this.close();
      return;
    } finally {
      this.#active.delete(seq);
    }
    for (const action of after) {
      try {
        action();
      } catch (error) {
        this.#complain(messageOf(error));
      }
    }
  }

  #failure(error: unknown, command: string): object {
    const expected = error instanceof UserError || error instanceof TargetError || error instanceof SessionError;
    if (!expected) this.services.log(`bug in ${command}: ${error instanceof Error ? error.stack : String(error)}`);
    const format = expected ? messageOf(error) : `Internal error: ${messageOf(error)}`;
    // Hovers and watches fail quietly; what starts a session is shown.
    const showUser = command === 'launch' || command === 'attach';
    return { message: format, body: { error: { id: 1, format, showUser } } };
  }

  #context(active: AbortController, after: (() => void)[]): RequestContext {
    const session = this;
    return {
      services: this.services,
      client: this.#client,
      signal: active.signal,
      frames: this.#frames,
      variables: this.#variables,
      places: this.#places,
      get guest() {
        return session.#guest;
      },
      set guest(guest) {
        session.#guest = guest;
      },
      afterResponse: (action) => {
        after.push(action);
      },
      cancel: (id) => this.#active.get(id)?.abort(),
      abandon: () => active.abort(),
      endSession: async (terminate) => {
        this.#active.delete(this.#seqOf(active));
        await this.#endGuest(terminate);
        after.push(() => void this.close());
      },
    };
  }

  #seqOf(active: AbortController): number {
    return [...this.#active].find(([, candidate]) => candidate === active)?.[0] ?? -1;
  }

  #endGuest(terminate: boolean | undefined): Promise<void> {
    this.#end ??= this.#release(terminate);
    return this.#end;
  }

  async #release(terminate: boolean | undefined): Promise<void> {
    for (const active of this.#active.values()) active.abort();
    // A launch that is aborted cleans up after itself; what hangs must not keep the guest held.
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, endTimeoutMs);
    });
    await Promise.race([this.#queue, timeout]);
    clearTimeout(timer);
    await this.#guest?.leave(terminate);
  }

  #ask(command: string, args: object, timeoutMs: number): Promise<unknown> {
    return new Promise((resolve, reject) => {
      // The answer can come before the write returns.
      const seq = this.#sequence + 1;
      const timer = setTimeout(() => settle(() => reject(new Error('no answer'))), timeoutMs);
      const settle = (action: () => void): void => {
        clearTimeout(timer);
        this.#reverse.delete(seq);
        action();
      };
      this.#reverse.set(seq, {
        resolve: (body) => settle(() => resolve(body)),
        reject: (error) => settle(() => reject(error)),
      });
      this.#send({ type: 'request', command, arguments: args });
    });
  }

  #answered(message: Record<string, unknown>): void {
    const waiting = this.#reverse.get(Number(message.request_seq));
    if (message.success === true) waiting?.resolve(message.body);
    else waiting?.reject(new Error(typeof message.message === 'string' ? message.message : 'refused'));
  }

  #complain(text: string): void {
    this.#client.event('output', { category: 'important', output: `${text}\n` });
  }

  #send(message: object): void {
    this.#sequence += 1;
    if (!this.#closed && !this.output.writableEnded && !this.output.destroyed) {
      this.output.write(encodeMessage({ seq: this.#sequence, ...message }));
    }
  }
}
