/** VS Code's server, which runs extensions as a desktop does and shows its workbench in a browser. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type Browser, chromium } from 'playwright-core';
import { command } from '../../lab/command.ts';
import type { Installation } from './installation.ts';

/** What would cover or move what the tests look at. */
export const SETTINGS = {
  'security.workspace.trust.enabled': false,
  'workbench.startupEditor': 'none',
  'workbench.reduceMotion': 'on',
  'workbench.enableExperiments': false,
  'telemetry.telemetryLevel': 'off',
  'update.mode': 'none',
  'extensions.autoUpdate': false,
  'extensions.ignoreRecommendations': true,
  'chat.disableAIFeatures': true,
  'debug.openDebug': 'openOnSessionStart',
  // Its item tells when VS Code has got to that part of its debugger that comes last: see Workbench.
  'debug.showInStatusBar': 'always',
  'editor.minimap.enabled': false,
  'workbench.secondarySideBar.defaultVisibility': 'hidden',
  'editor.fontFamily': 'DejaVu Sans Mono',
  'git.enabled': false,
  // A terminal's text is in the page.
  'terminal.integrated.gpuAcceleration': 'off',
};

const BROWSER_OPTIONS = [
  ...['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'],
  ...['--disable-component-update', '--disable-sync'],
];

export interface ServerOptions {
  /** Extensions to install. */
  readonly vsix?: readonly string[];
  /** More arguments of the server. */
  readonly arguments?: readonly string[];
  /** More of the environment; the extension host has it too. */
  readonly environment?: Readonly<Record<string, string>>;
}

export class Server {
  readonly #process: ChildProcess;
  /** Of its workbench, with no slash at the end. */
  readonly url: string;

  private constructor(process: ChildProcess, url: string) {
    this.#process = process;
    this.url = url;
  }

  /** Starts a fresh one, whose state is in `scratch`. */
  static async start(installed: Installation, scratch: string, options: ServerOptions = {}): Promise<Server> {
    const main = join(installed.vscode, 'out/server-main.js');
    const data = join(scratch, 'data');
    const folders = ['--server-data-dir', scratch, '--user-data-dir', data];
    const common = ['--accept-server-license-terms', ...folders, '--extensions-dir', join(scratch, 'extensions')];
    for (const place of ['User', 'Machine']) {
      mkdirSync(join(data, place), { recursive: true });
      writeFileSync(join(data, place, 'settings.json'), JSON.stringify(SETTINGS));
    }
    const installs = (options.vsix ?? []).flatMap((file) => ['--install-extension', file]);
    if (installs.length > 0) await command([installed.node, main, ...common, ...installs, '--force']);
    const listen = ['--host', '127.0.0.1', '--port', '0', '--without-connection-token', '--telemetry-level', 'off'];
    // In a group of its own, which ends it: the extension host can outlive the server.
    const server = spawn(installed.node, [main, ...common, ...listen, ...(options.arguments ?? [])], {
      detached: true,
      stdio: ['ignore', 'pipe', 'ignore'],
      env: { ...process.env, ...options.environment },
    });
    try {
      return new Server(server, await served(server));
    } catch (error) {
      endGroup(server);
      throw error;
    }
  }

  async close(): Promise<void> {
    endGroup(this.#process);
    const { exitCode, signalCode } = this.#process;
    if (exitCode === null && signalCode === null) await once(this.#process, 'exit');
  }
}

export async function openBrowser({ chromium: { program, environment } }: Installation): Promise<Browser> {
  const env = Object.fromEntries(Object.entries(environment).map(([name, value]) => [name, value ?? '']));
  return chromium.launch({ executablePath: program, env, args: BROWSER_OPTIONS });
}

/** The address the server prints once it accepts connections. */
async function served(server: ChildProcess): Promise<string> {
  if (!server.stdout) throw new Error('the server has no output');
  for await (const line of createInterface(server.stdout)) {
    const address = /Web UI available at (http:\/\/[^/\s]+)/.exec(line)?.[1];
    if (address) {
      server.stdout.resume();
      return address;
    }
  }
  throw new Error(`VS Code's server ended (${server.signalCode ?? server.exitCode}) before it listened`);
}

function endGroup(server: ChildProcess): void {
  if (server.pid === undefined) return;
  try {
    process.kill(-server.pid, 'SIGKILL');
  } catch {
    // The group is already gone.
  }
}
