import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { UserError } from '../base/errors.ts';
import type { Services } from './context.ts';
import { Session } from './session.ts';

export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

/** `[HOST:]PORT`, loopback unless told; an IPv6 host is in brackets. */
export function parseListenAddress(text: string): ListenAddress {
  const match = /^(?:(\[[^\]]+\]|[^:]+):)?(\d{1,5})$/.exec(text);
  const port = Number(match?.[2]);
  if (!match || port > 65535) throw new UserError(`--listen ${text}: [HOST:]PORT is expected, such as 4711.`);
  return { host: match[1]?.replace(/^\[|\]$/g, '') ?? '127.0.0.1', port };
}

/** Serves one debug session after another; a client that comes early waits. */
export class DapServer {
  readonly #server: Server;
  readonly #waiting: Socket[] = [];
  #session: Session | undefined;
  #closing = false;

  constructor(private readonly services: Services) {
    // The peer's end of input is the session's to see: it still has to let go of the guest.
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      socket.on('error', () => undefined);
      this.#waiting.push(socket);
      this.#serve();
    });
  }

  /** Resolves to the address that is listened at; UserError when it cannot be. */
  listen({ host, port }: ListenAddress): Promise<AddressInfo> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', (error) => {
        reject(new UserError(`Cannot listen at ${host}:${port}: ${error.message}`, { cause: error }));
      });
      this.#server.listen(port, host, () => resolve(this.#server.address() as AddressInfo));
    });
  }

  /** Ends the session under way as if its client were gone, and serves no more. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#server.close();
    for (const socket of this.#waiting.splice(0)) socket.destroy();
    await this.#session?.close();
    await this.#session?.finished;
  }

  #serve(): void {
    if (this.#session || this.#closing) return;
    const socket = this.#waiting.shift();
    if (!socket) return;
    if (socket.destroyed) {
      this.#serve();
      return;
    }
    const session = new Session(socket, socket, this.services);
    this.#session = session;
    void session.finished.then(() => {
      this.#session = undefined;
      this.#serve();
    });
  }
}
