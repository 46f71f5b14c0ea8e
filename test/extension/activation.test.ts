// The bundle as VS Code loads it: small, quick, and with everything registered that package.json promises.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { compileFunction } from 'node:vm';
import { build } from 'esbuild';
import { tourFile } from '../../src/extension/demoFolder.ts';

const repository = new URL('../../', import.meta.url);
const manifest = JSON.parse(readFileSync(new URL('package.json', repository), 'utf8')) as {
  activationEvents: string[];
  contributes: {
    commands: { command: string; title: string; category: string }[];
    menus: Record<string, { command: string; when?: string }[]>;
    viewsWelcome: { contents: string }[];
    debuggers: [{ configurationSnippets: unknown[] }];
  };
};
const { outputFiles } = await build({
  entryPoints: [fileURLToPath(new URL('src/extension/extension.ts', repository))],
  bundle: true,
  platform: 'node',
  target: 'node20',
  format: 'cjs',
  external: ['vscode'],
  write: false,
});
const code = outputFiles[0]?.text ?? '';

/** Loads and activates the bundle in a VS Code that only remembers. */
function activate() {
  const commands: string[] = [];
  const providers: [type: string, trigger: number | undefined][] = [];
  const adapters: string[] = [];
  /** What was made or registered, and not disposed of yet. */
  const alive = new Set<object>();
  const disposable = () => {
    const made = { dispose: () => alive.delete(made) };
    alive.add(made);
    return made;
  };
  class Disposable {
    dispose: () => void = () => undefined;
    static from(...parts: readonly { dispose(): void }[]): Disposable {
      const all = new Disposable();
      all.dispose = () => {
        for (const part of parts) part.dispose();
      };
      return all;
    }
  }
  class EventEmitter {
    readonly #made = disposable();
    readonly event = disposable;
    dispose(): void {
      this.#made.dispose();
    }
  }
  const vscode = {
    Disposable,
    EventEmitter,
    StatusBarAlignment: { Left: 1 },
    DebugConfigurationProviderTriggerKind: { Initial: 1, Dynamic: 2 },
    debug: {
      registerDebugConfigurationProvider: (type: string, _provider: object, trigger?: number) => {
        providers.push([type, trigger]);
        return disposable();
      },
      registerDebugAdapterDescriptorFactory: (type: string) => {
        adapters.push(type);
        return disposable();
      },
      registerDebugAdapterTrackerFactory: disposable,
      onDidStartDebugSession: disposable,
      onDidReceiveDebugSessionCustomEvent: disposable,
      onDidTerminateDebugSession: disposable,
      onDidChangeActiveDebugSession: disposable,
    },
    window: { createStatusBarItem: disposable },
    workspace: { registerTextDocumentContentProvider: disposable, workspaceFolders: undefined },
    commands: {
      registerCommand: (name: string) => {
        commands.push(name);
        return disposable();
      },
    },
  };
  const load = createRequire(import.meta.url);
  const module: { exports: { activate?: (context: object) => unknown } } = { exports: {} };
  const subscriptions: { dispose(): void }[] = [];
  const require = (name: string): unknown => (name === 'vscode' ? vscode : load(name));
  compileFunction(code, ['require', 'module', 'exports'])(require, module, module.exports);
  module.exports.activate?.({
    subscriptions,
    extension: { packageJSON: manifest },
    globalStorageUri: { fsPath: '/storage' },
    asAbsolutePath: (path: string) => `/extension/${path}`,
  });
  return { commands, providers, adapters, subscriptions, alive };
}

test('the extension is small', () => {
  assert.ok(code.length < 200_000, `${code.length} characters`);
});

test('what package.json promises is registered, and disposed of with the extension', () => {
  const { commands, providers, adapters, subscriptions, alive } = activate();
  const { contributes, activationEvents } = manifest;
  assert.deepEqual(commands.sort(), contributes.commands.map(({ command }) => command).sort());
  assert.deepEqual(providers, [
    ['kvm', undefined],
    ['kvm', 2],
  ]);
  assert.deepEqual(adapters, ['kvm']);
  assert.ok(alive.size > commands.length + providers.length + adapters.length);
  for (const subscription of subscriptions) subscription.dispose();
  assert.equal(alive.size, 0);
  // VS Code derives the events of commands; without these it would not ask for configurations.
  assert.deepEqual(activationEvents, [
    'onDebugResolve:kvm',
    'onDebugInitialConfigurations',
    'onDebugDynamicConfigurations:kvm',
    `workspaceContains:${tourFile}`,
  ]);
});

test('each command has its category and its place in the palette, or is kept out of it', () => {
  const { commands, menus, viewsWelcome } = manifest.contributes;
  const palette = new Map(menus.commandPalette?.map(({ command, when }) => [command, when]));
  for (const { command, title, category } of commands) {
    assert.equal(category, 'KVM Debug', command);
    assert.match(title, /^[A-Z]/, command);
    assert.ok(palette.get(command), command);
  }
  for (const { contents } of viewsWelcome) {
    for (const [, command] of contents.matchAll(/\(command:([^)]+)\)/g)) {
      assert.ok(commands.some((candidate) => candidate.command === command));
    }
  }
});
