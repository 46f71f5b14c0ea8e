import { accessSync, constants, existsSync, statSync } from 'node:fs';
import { delimiter, isAbsolute, join, resolve } from 'node:path';
import { messageOf, SessionError, TargetError, UserError } from '../base/errors.ts';
import { Debugger, type DebuggerEvents } from '../debugger/debugger.ts';
import type { ExitStatus, Target } from '../target/target.ts';
import { type AttachConfiguration, type CommonConfiguration, type LaunchConfiguration, vmmNames } from './arguments.ts';
import { breakpointBody, logBody, stoppedBody } from './bodies.ts';
import { checkBuildIds } from './buildId.ts';
import type { Client, Services } from './context.ts';
import { ConsoleRelay } from './guestConsole.ts';
import { type OpenSymbols, openSymbols } from './sessionSymbols.ts';
import { SessionStatus } from './status.ts';
import { vmmCommand } from './vmmCommand.ts';

/** The debugged VM of a session: the debugger, and what must be let go of with it. */
export class Guest {
  readonly debugger: Debugger;
  readonly status: SessionStatus;
  #over = false;
  #failed = false;
  #left: Promise<void> | undefined;

  private constructor(
    target: Target,
    private readonly symbols: OpenSymbols | undefined,
    readonly configuration: CommonConfiguration,
    folder: string,
    private readonly launched: boolean,
    private readonly relay: ConsoleRelay | undefined,
    private readonly client: Client,
    private readonly services: Services,
  ) {
    const options = { ...configuration, sourceRoot: folder };
    this.debugger = new Debugger(target, symbols?.source, options, this.#events());
    this.status = new SessionStatus(this.debugger, client);
    this.debugger.watchExit();
  }

  static async launch(
    configuration: LaunchConfiguration,
    client: Client,
    services: Services,
    signal: AbortSignal,
  ): Promise<Guest> {
    const { vmm, kernel } = configuration;
    const cwd = configuration.cwd ?? process.cwd();
    if (kernel !== undefined) requireFile('kernel', kernel, cwd);
    if (vmm.kind !== 'command') {
      if (vmm.initrd !== undefined) requireFile('initrd', vmm.initrd, cwd);
      if (vmm.disk !== undefined) requireFile('disk', vmm.disk, cwd);
    }
    const program = vmm.kind === 'command' ? undefined : findVmm(vmm.kind, vmm.path, cwd, configuration.environment);
    const symbols = symbolsOf(configuration, cwd, client, services);
    try {
      if (kernel !== undefined && symbols) {
        checkBuildIds(resolve(cwd, kernel), symbols.source.path, symbols.source.buildId);
      }
      const { target, console } = await services.connector.launch(
        {
          argv: vmmCommand(vmm, program),
          cwd,
          environment: { ...definedEnvironment(), ...configuration.environment },
          exitTrap: configuration.exitTrap,
        },
        signal,
      );
      const relay = new ConsoleRelay(console, client);
      if (client.features.runInTerminal && configuration.console !== 'internalConsole') {
        const kind = configuration.console === 'externalTerminal' ? 'external' : 'integrated';
        relay.useTerminal(kind, services.consoleProgram);
      } else relay.useOutputEvents();
      return new Guest(target, symbols, configuration, cwd, true, relay, client, services);
    } catch (error) {
      symbols?.close();
      throw error;
    }
  }

  static async attach(
    configuration: AttachConfiguration,
    client: Client,
    services: Services,
    signal: AbortSignal,
  ): Promise<Guest> {
    const symbols = symbolsOf(configuration, process.cwd(), client, services);
    try {
      const target = await (configuration.remote
        ? services.connector.connect(configuration.remote, signal)
        : services.connector.attach({ pid: configuration.pid, exitTrap: configuration.exitTrap }, signal));
      return new Guest(target, symbols, configuration, process.cwd(), false, undefined, client, services);
    } catch (error) {
      symbols?.close();
      throw error;
    }
  }

  /** The client has set its breakpoints: the session begins to run. */
  start(): void {
    if (this.configuration.stopOnEntry) this.debugger.reportEntry();
    else this.debugger.continue();
  }

  /** Lets go of the VM: a launched one ends, an attached one runs on, unless the client says otherwise. Idempotent. */
  leave(terminate = this.launched): Promise<void> {
    this.#left ??= this.#leave(terminate);
    return this.#left;
  }

  async #leave(terminate: boolean): Promise<void> {
    try {
      if (this.#over) return;
      if (!terminate) this.relay?.leave();
      await (terminate ? this.debugger.kill() : this.debugger.detach());
    } finally {
      this.#over = true;
      this.relay?.close();
      this.symbols?.close();
    }
  }

  #events(): DebuggerEvents {
    return {
      stopped: (stop) => {
        this.client.event('stopped', stoppedBody(stop));
        this.status.changed();
      },
      resumed: () => this.status.changed(),
      exited: (status) => void this.#exited(status),
      breakpointChanged: (status) => {
        const breakpoint = breakpointBody(status, this.client.features);
        this.client.event('breakpoint', { reason: 'changed', breakpoint });
        this.status.changed();
      },
      output: (text, breakpoint) => this.client.event('output', logBody(text, breakpoint)),
      failed: (error) => this.fail(error),
    };
  }

  async #exited(status: ExitStatus): Promise<void> {
    this.#over = true;
    // What the VMM printed last often says why it ended.
    await this.relay?.drained(1000);
    const { code, signal } = status;
    if (signal !== undefined) this.#say(`The VMM was ended by signal ${signal}.`);
    // A shell shows a death by signal as 128 and its number. Without either nothing is known, and nothing is said.
    const exitCode = code ?? (signal === undefined ? undefined : 128 + signal);
    if (exitCode !== undefined) this.client.event('exited', { exitCode });
    this.client.event('terminated');
    await this.leave();
  }

  /** The session cannot go on: says why, lets go of the VM, and tells the client that it is over. */
  fail(error: unknown): void {
    // A lost target fails what waits for it, and by itself.
    if (this.#failed) return;
    this.#failed = true;
    const expected = error instanceof SessionError || error instanceof TargetError || error instanceof UserError;
    if (!expected) this.services.log(`bug: ${error instanceof Error ? error.stack : String(error)}`);
    this.client.event('output', { category: 'important', output: `The session has ended: ${messageOf(error)}\n` });
    void this.leave()
      .catch((cause: unknown) => this.#say(`The VM could not be let go of cleanly: ${messageOf(cause)}`))
      .then(() => this.client.event('terminated'));
  }

  #say(text: string): void {
    this.client.event('output', { category: 'console', output: `${text}\n` });
  }
}

function symbolsOf(
  { symbols }: CommonConfiguration,
  cwd: string,
  client: Client,
  services: Services,
): OpenSymbols | undefined {
  return symbols === undefined ? undefined : openSymbols(resolve(cwd, symbols), client, services);
}

function requireFile(field: string, path: string, cwd: string): void {
  const full = resolve(cwd, path);
  if (!existsSync(full)) throw new UserError(`launch: "${field}" names ${full}, which does not exist.`);
  if (statSync(full).isDirectory()) throw new UserError(`launch: "${field}" names ${full}, which is a directory.`);
  try {
    accessSync(full, constants.R_OK);
  } catch (error) {
    throw new UserError(`launch: "${field}" names ${full}, which cannot be read.`, { cause: error });
  }
}

/** The program of a VMM, found as a shell in `cwd` would. */
function findVmm(
  kind: keyof typeof vmmNames,
  path: string | undefined,
  cwd: string,
  environment: Readonly<Record<string, string>>,
): string {
  const folders = (environment.PATH ?? process.env.PATH ?? '').split(delimiter).filter(isAbsolute);
  const names = path === undefined ? vmmNames[kind] : [path];
  for (const name of names) {
    if (name.includes('/')) {
      if (existsSync(resolve(cwd, name))) return resolve(cwd, name);
    } else if (folders.some((folder) => isProgram(join(folder, name)))) return name;
  }
  const where = path?.includes('/') ? 'does not exist' : 'is not on PATH';
  throw new UserError(`launch: ${names[0]} ${where}; install ${kind}, or name its program in "vmmPath".`);
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

const definedEnvironment = (): Record<string, string> =>
  Object.fromEntries(Object.entries(process.env).filter((entry): entry is [string, string] => entry[1] !== undefined));
