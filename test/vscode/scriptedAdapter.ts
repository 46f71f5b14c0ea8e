/** A debug adapter on TCP (`debugServer`) that plays two stopped vCPUs, and remembers what VS Code asked. */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import type { DebugProtocol } from '@vscode/debugprotocol';

const BODIES: Record<string, unknown> = {
  initialize: { supportsConfigurationDoneRequest: true },
  threads: {
    threads: [
      { id: 1, name: 'vCPU 0 (EL1, swapper/0)' },
      { id: 2, name: 'vCPU 1 (not started)' },
    ],
  },
  scopes: { scopes: [{ name: 'General', presentationHint: 'registers', variablesReference: 1, expensive: false }] },
  variables: { variables: [{ name: 'x0', value: '0x0000000040000000', variablesReference: 0 }] },
};

export class ScriptedAdapter {
  readonly requests: DebugProtocol.Request[] = [];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #source: string;
  #sequence = 1;

  private constructor(source: string) {
    this.#source = source;
    this.#server = createServer((socket) => this.#serve(socket));
  }

  /** `source`: the file the vCPU is stopped in, at the line of the first breakpoint. */
  static async listen(source: string): Promise<ScriptedAdapter> {
    const adapter = new ScriptedAdapter(source);
    adapter.#server.listen(0, '127.0.0.1');
    await once(adapter.#server, 'listening');
    return adapter;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** The arguments of the first request of this kind. */
  argumentsOf(name: string): Record<string, unknown> | undefined {
    return this.requests.find(({ command }) => command === name)?.arguments;
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }

  #serve(socket: Socket): void {
    this.#sockets.add(socket);
    let received = Buffer.alloc(0);
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk]);
      for (;;) {
        const header = /^Content-Length: (\d+)\r\n\r\n/.exec(received.toString('latin1', 0, 64));
        const end = (header?.[0].length ?? 0) + Number(header?.[1]);
        if (!header || received.length < end) return;
        const request = JSON.parse(received.toString('utf8', header[0].length, end)) as DebugProtocol.Request;
        received = received.subarray(end);
        this.requests.push(request);
        this.#answer(socket, request);
      }
    });
  }

  #answer(socket: Socket, request: DebugProtocol.Request): void {
    const send = (message: object): void => {
      const text = JSON.stringify({ seq: this.#sequence++, ...message });
      socket.write(`Content-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`);
    };
    const { command, seq } = request;
    send({ type: 'response', request_seq: seq, command, success: true, body: this.#body(request) });
    const event = (name: string, body?: object): void => send({ type: 'event', event: name, body });
    if (command === 'attach') event('initialized');
    if (command === 'configurationDone')
      event('stopped', { reason: 'breakpoint', threadId: 1, allThreadsStopped: true });
    if (command === 'disconnect') event('terminated');
  }

  #body({ command, arguments: args }: DebugProtocol.Request): unknown {
    if (command === 'setBreakpoints') {
      const { breakpoints = [] } = args as DebugProtocol.SetBreakpointsArguments;
      return { breakpoints: breakpoints.map(({ line }) => ({ verified: true, line })) };
    }
    if (command === 'stackTrace') {
      const set = this.argumentsOf('setBreakpoints') as DebugProtocol.SetBreakpointsArguments | undefined;
      const line = set?.breakpoints?.[0]?.line ?? 1;
      const source = { name: 'main.c', path: this.#source };
      return { stackFrames: [{ id: 1, name: 'start_kernel', line, column: 1, source }], totalFrames: 1 };
    }
    return BODIES[command] ?? {};
  }
}
