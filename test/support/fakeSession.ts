// A session with a fake guest in this process, and its client.
import { PassThrough } from 'node:stream';
import type { Services, SessionSymbols } from '../../src/dap/context.ts';
import { Session } from '../../src/dap/session.ts';
import type { AttachRequest, Connector, LaunchRequest, RemoteAddress } from '../../src/target/connection.ts';
import { DapClient } from './dapClient.ts';
import { fakeGuest, fakeSymbols } from './fakeKernel.ts';
import type { FakeTarget } from './fakeTarget.ts';

export interface FakeSession {
  readonly client: DapClient;
  readonly session: Session;
  readonly target: FakeTarget;
  readonly requests: (LaunchRequest | AttachRequest | RemoteAddress)[];
  readonly logs: string[];
  /** What the guest prints. */
  readonly printed: PassThrough;
  /** What the user typed at the guest. */
  readonly typed: PassThrough;
}

export interface FakeOptions {
  readonly target?: FakeTarget;
  readonly symbols?: boolean;
  /** Called instead of handing out the target. */
  readonly connect?: (signal: AbortSignal) => Promise<FakeTarget>;
  readonly timeoutMs?: number;
  readonly symbolFile?: SessionSymbols;
  /** Called instead of handing it out. */
  readonly openSymbols?: Services['openSymbols'];
}

export function fakeServices(options: FakeOptions = {}) {
  const target = options.target ?? fakeGuest();
  const requests: (LaunchRequest | AttachRequest | RemoteAddress)[] = [];
  const logs: string[] = [];
  const [printed, typed] = [new PassThrough(), new PassThrough()];
  const connect = options.connect ?? (async () => target);
  const connector: Connector = {
    launch: async (request, signal) => {
      requests.push(request);
      return { target: await connect(signal), console: { output: printed, input: typed, leave: () => undefined } };
    },
    attach: async (request, signal) => {
      requests.push(request);
      return connect(signal);
    },
    connect: async (address, signal) => {
      requests.push(address);
      return connect(signal);
    },
  };
  const services: Services = {
    connector,
    openSymbols: options.openSymbols ?? (() => options.symbolFile ?? fakeSymbols),
    consoleProgram: '/nowhere/console.js',
    log: (text) => logs.push(text),
  };
  return { services, target, requests, logs, printed, typed };
}

export function fakeSession(options: FakeOptions = {}): FakeSession {
  const { services, ...rest } = fakeServices(options);
  const [toAdapter, fromAdapter] = [new PassThrough(), new PassThrough()];
  const session = new Session(toAdapter, fromAdapter, services);
  return { client: new DapClient(fromAdapter, toAdapter, options.timeoutMs), session, ...rest };
}

export const initialization = { adapterID: 'kvm', linesStartAt1: true, columnsStartAt1: true };
export const launchArguments = { command: ['vmm', '--flag'], symbols: '/fake/vmlinux', stopOnEntry: true };

/** Initialized, launched, configured and stopped at the first instruction. */
export async function atEntry(options: FakeOptions = {}, launch: object = {}): Promise<FakeSession> {
  const fake = fakeSession(options);
  await fake.client.request('initialize', initialization);
  await fake.client.request('launch', { ...launchArguments, ...launch });
  await fake.client.waitFor('initialized');
  await fake.client.request('configurationDone');
  await fake.client.waitFor('stopped');
  return fake;
}
