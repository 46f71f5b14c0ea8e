/** The debug sessions of a suite: what VS Code asks their adapter, which is the scripted one. */
import * as vscode from 'vscode';
import { until } from './waiting.ts';

interface Request {
  readonly command: string;
  readonly arguments?: Readonly<Record<string, unknown>>;
}

export class Sessions implements vscode.DebugAdapterTrackerFactory {
  readonly #requests: Request[] = [];
  readonly #asked = new vscode.EventEmitter<Request>();

  constructor() {
    vscode.debug.registerDebugAdapterTrackerFactory('kvm', this);
  }

  createDebugAdapterTracker(): vscode.DebugAdapterTracker {
    return {
      onWillReceiveMessage: (message) => {
        this.#requests.push(message);
        this.#asked.fire(message);
      },
    };
  }

  get started(): number {
    return this.#requests.filter(({ command }) => command === 'initialize').length;
  }

  /** The arguments of the next request of this kind. One that has come is given once. */
  async next(command: string): Promise<Readonly<Record<string, unknown>>> {
    const request = await until(
      () => this.#requests.find((candidate) => candidate.command === command),
      this.#asked.event as vscode.Event<never>,
    );
    this.#requests.splice(this.#requests.indexOf(request), 1);
    return request.arguments ?? {};
  }

  /** Resolves once VS Code shows that the guest is stopped: later than the adapter has said so. */
  async stopped(): Promise<vscode.DebugStackFrame> {
    return until(
      () => {
        const item = vscode.debug.activeStackItem;
        return item instanceof vscode.DebugStackFrame ? item : undefined;
      },
      vscode.debug.onDidChangeActiveStackItem as vscode.Event<never>,
    );
  }

  /** Ends the session that has the focus, once it is under way. */
  async end(): Promise<void> {
    await this.stopped();
    const ended = new Promise((resolve) => vscode.debug.onDidTerminateDebugSession(resolve));
    await vscode.debug.stopDebugging();
    await ended;
    this.#requests.length = 0;
  }
}
