/** The debug adapter on its standard input and output, as VS Code has it: one process a session. */
import { type ChildProcess, spawn } from 'node:child_process';
import type { DebugProtocol } from '@vscode/debugprotocol';
import { DapClient } from '../support/dapClient.ts';
import { type BreakpointPlace, type Debugger, patienceMs, type VmToDebug } from './debuggers.ts';

interface Session {
  readonly process: ChildProcess;
  readonly client: DapClient;
  /** The vCPU of the last stop. */
  threadId: number;
}

export class Adapter implements Debugger {
  readonly name = 'kvm-debug';
  #session: Session | undefined;

  /** `cache`: for XDG_CACHE_HOME, with the index of `symbols` in it. */
  constructor(
    private readonly program: string,
    private readonly symbols: string,
    private readonly cache: string,
  ) {}

  get #current(): Session {
    if (!this.#session) throw new Error('no session');
    return this.#session;
  }

  async attach({ pid }: VmToDebug): Promise<void> {
    const adapter = spawn(process.execPath, [this.program], {
      env: { ...process.env, XDG_CACHE_HOME: this.cache },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const client = new DapClient(adapter.stdout, adapter.stdin, patienceMs);
    await client.request('initialize', { adapterID: 'kvm', linesStartAt1: true, columnsStartAt1: true });
    await client.request('attach', { pid, symbols: this.symbols, stopOnEntry: true });
    await client.waitFor('initialized');
    await client.request('configurationDone');
    const { threadId } = (await client.waitFor('stopped')).body;
    this.#session = { process: adapter, client, threadId };
  }

  async detach(): Promise<void> {
    const { client } = this.#current;
    await client.request('disconnect', { terminateDebuggee: false });
    await client.closed;
    client.close();
    this.#session = undefined;
  }

  async setBreakpoint(place?: BreakpointPlace): Promise<void> {
    const of = ({ address, condition, isHardware }: BreakpointPlace): object => ({
      instructionReference: `0x${address.toString(16)}`,
      ...(condition === undefined ? {} : { condition }),
      ...(isHardware ? { mode: 'hardware' } : {}),
    });
    const breakpoints = place ? [of(place)] : [];
    const answer = await this.#current.client.request('setInstructionBreakpoints', { breakpoints });
    for (const { verified, message } of answer.breakpoints) {
      if (!verified) throw new Error(`kvm-debug: a breakpoint is not verified: ${message}`);
    }
  }

  async #toStop(command: string, args?: object): Promise<void> {
    const session = this.#current;
    const { client } = session;
    client.transcript.length = 0; // it is for what goes wrong, and would grow for minutes
    const stopped = client.waitFor('stopped');
    const [{ body }] = await Promise.all([stopped, client.request(command, args)]);
    session.threadId = body.threadId;
  }

  continueToStop(): Promise<void> {
    return this.#toStop('continue', { threadId: this.#current.threadId });
  }

  async run(): Promise<void> {
    const { client, threadId } = this.#current;
    await client.request('continue', { threadId });
  }

  pause(): Promise<void> {
    return this.#toStop('pause', { threadId: this.#current.threadId });
  }

  next(): Promise<void> {
    return this.#toStop('next', { threadId: this.#current.threadId });
  }

  async stack(levels: number): Promise<readonly string[]> {
    return (await this.#frames(levels)).map(({ name }) => name);
  }

  async #frames(levels: number): Promise<readonly DebugProtocol.StackFrame[]> {
    const { client, threadId } = this.#current;
    return (await client.request('stackTrace', { threadId, startFrame: 0, levels })).stackFrames;
  }

  async pc(): Promise<bigint> {
    return BigInt((await this.#frames(1))[0]?.instructionPointerReference ?? Number.NaN);
  }

  async evaluate(expression: string): Promise<bigint> {
    const { client } = this.#current;
    const frameId = (await this.#frames(1))[0]?.id;
    const { result } = await client.request('evaluate', { expression, frameId, context: 'watch' });
    return BigInt(/-?\d+/.exec(result)?.[0] ?? Number.NaN);
  }

  end(): void {
    this.#session?.process.kill('SIGKILL');
  }
}
