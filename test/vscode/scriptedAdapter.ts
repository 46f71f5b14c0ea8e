/** A debug adapter that plays two stopped vCPUs, and remembers what VS Code asked: on TCP (`debugServer`), or on the
 *  standard streams of a program. */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import type { Readable, Writable } from 'node:stream';
import type { DebugProtocol } from '@vscode/debugprotocol';
import { encodeMessage, MessageReader } from '../../src/dap/framing.ts';

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
  'kvm/status': {
    state: 'stopped',
    vmm: 'kvmtool',
    pid: 4711,
    vcpus: 2,
    exitTrap: 'perf',
    hardwareBreakpoints: { used: 1, total: 6 },
    watchpoints: { used: 0, total: 4 },
  },
  'kvm/numberFormat': { radix: 'hexadecimal' },
  'kvm/pageWalk': { lines: ['level 0', 'level 1'] },
  'kvm/kernelLog': { text: '[    0.000000] Booting Linux on physical CPU 0x0\n' },
};

export class ScriptedAdapter {
  readonly requests: DebugProtocol.Request[] = [];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #source: string;
  #sequence = 1;

  private constructor(source: string) {
    this.#source = source;
    this.#server = createServer((socket) => {
      this.#sockets.add(socket);
      this.#serve(socket, socket);
    });
  }

  /** `source`: the file the vCPU is stopped in, at the line of the first breakpoint. */
  static async listen(source: string): Promise<ScriptedAdapter> {
    const adapter = new ScriptedAdapter(source);
    adapter.#server.listen(0, '127.0.0.1');
    await once(adapter.#server, 'listening');
    return adapter;
  }

  /** The same for one session, on streams. */
  static onStreams(source: string, input: Readable, output: Writable): void {
    new ScriptedAdapter(source).#serve(input, output);
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

  #serve(input: Readable, output: Writable): void {
    const reader = new MessageReader();
    input.on('data', (chunk: Buffer) => {
      for (const received of reader.push(chunk)) {
        if ('malformed' in received) throw new Error(`VS Code sent ${received.malformed}`);
        const request = received.message as unknown as DebugProtocol.Request;
        this.requests.push(request);
        this.#answer(output, request);
      }
    });
  }

  #answer(output: Writable, request: DebugProtocol.Request): void {
    const send = (message: object): void => {
      output.write(encodeMessage({ seq: this.#sequence++, ...message }));
    };
    const { command, seq } = request;
    send({ type: 'response', request_seq: seq, command, success: true, body: this.#body(request) });
    const event = (name: string, body?: object): void => send({ type: 'event', event: name, body });
    if (command === 'attach' || command === 'launch') event('initialized');
    if (command === 'configurationDone')
      event('stopped', { reason: 'breakpoint', threadId: 1, allThreadsStopped: true });
    // Who has asked is told of changes: as if there had been one.
    if (command === 'kvm/status') event(command, BODIES[command] as object);
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
