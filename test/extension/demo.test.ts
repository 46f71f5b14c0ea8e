// The demo as the user meets it: what is said before something is fetched, the folder, and F5.
import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import type { DebugAdapterTracker, DebugConfiguration, DebugSession } from 'vscode';
import type { LabPlan } from '../../lab/messages.ts';
import { parseLaunch } from '../../src/dap/arguments.ts';
import { Demo } from '../../src/extension/demo.ts';
import { launchJson, tourFile } from '../../src/extension/demoFolder.ts';
import { LabError, type RunningLab, type Step } from '../../src/extension/labProgram.ts';
import { WindowLab } from '../../src/extension/windowLab.ts';
import { ScriptedWorkbench } from './scriptedWorkbench.ts';

const nothingToFetch: LabPlan = { is: 'plan', missing: [], fetched: [], cache: '/cache' };
const toFetch: LabPlan = {
  ...nothingToFetch,
  fetched: [
    { what: 'a machine', megabytes: 100, disk: 400 },
    { what: 'a kernel', megabytes: 20, disk: 600 },
  ],
};
const fields = {
  type: 'kvm',
  name: 'lab',
  vmm: 'qemu',
  kernel: '/lab/guest/Image',
  cpus: 2,
  console: 'internalConsole',
};
const configuration = { type: 'kvm', request: 'launch', name: 'mine', lab: true };

/** VS Code connects to the adapter. */
const tracked = (demo: Demo, made: DebugConfiguration): DebugAdapterTracker | undefined =>
  demo.slot.createDebugAdapterTracker({ id: 'x', configuration: made } as unknown as DebugSession);
function start(demo: Demo, made: DebugConfiguration | null | undefined): DebugAdapterTracker {
  const tracker = made ? tracked(demo, made) : undefined;
  assert.ok(tracker);
  return tracker;
}

describe('the demo', () => {
  let scratch: string;
  let sources: string;
  beforeEach(() => {
    scratch = mkdtempSync(join(tmpdir(), 'kvm-debug-demo-'));
    sources = join(scratch, 'cache/linux');
    mkdirSync(join(sources, 'init'), { recursive: true });
    writeFileSync(
      join(sources, 'init/main.c'),
      'boot_cpu_init();\nvoid start_kernel(void)\n{\n\tsmp();\n\tboot_cpu_init();\n}\n',
    );
  });
  afterEach(() => rmSync(scratch, { recursive: true }));

  /** A lab that boots at once, or fails, or is cancelled; `end` ends the one that runs. */
  function lab({ plan = nothingToFetch, failure }: { plan?: LabPlan; failure?: string } = {}) {
    const did: string[] = [];
    let end = (_why: string): void => undefined;
    const work = (what: string, step: Step, signal: AbortSignal): void => {
      did.push(what);
      step(`step of ${what}`);
      signal.throwIfAborted();
      if (failure !== undefined) throw new LabError(failure);
    };
    const prepared = { sources, sourcePaths: { init: 'init', '/build/net/core': 'net/core' }, configuration: fields };
    return {
      did,
      end: (why = '') => end(why),
      plan: async () => plan,
      async prepare(step: Step, signal: AbortSignal) {
        work('prepare', step, signal);
        return { is: 'prepared' as const, ...prepared };
      },
      async run(step: Step, signal: AbortSignal): Promise<RunningLab> {
        work('run', step, signal);
        const ended = new Promise<string>((resolve) => {
          end = resolve;
        });
        return { ready: { is: 'ready', port: 4711, ...prepared }, ended, stop: () => did.push('stop') };
      },
    };
  }
  const folder = (): string => join(scratch, 'storage/demo');
  const read = (path: string): string => readFileSync(join(folder(), path), 'utf8');

  it('says what it fetches, how much and where to, and fetches nothing unless told', async () => {
    const program = lab({ plan: toFetch });
    const workbench = new ScriptedWorkbench();
    await new Demo(workbench, program, folder()).open();
    assert.deepEqual(program.did, []);
    const [[message = '', detail = '', ...buttons] = []] = workbench.confirmed;
    assert.match(message, /120 MB/);
    assert.match(detail, /a machine, 100 MB\n• a kernel, 20 MB\n\n.*\/cache.*1\.0 GB.*nothing is installed/s);
    assert.deepEqual(buttons, ['Fetch']);
  });

  it('is prepared with its steps shown, and opened in the window that the user chooses', async () => {
    for (const inNewWindow of [true, false]) {
      const buttons = ['Fetch', inNewWindow ? 'Open in a New Window' : 'Open Here'];
      const workbench = new ScriptedWorkbench({ buttons });
      await new Demo(workbench, lab({ plan: toFetch }), folder()).open();
      assert.deepEqual(workbench.progressed, ['KVM Debug: preparing the demo', 'step of prepare']);
      assert.deepEqual(workbench.opened, [{ folder: folder(), inNewWindow }]);
    }
    const undecided = new ScriptedWorkbench();
    await new Demo(undecided, lab(), folder()).open();
    assert.deepEqual(undecided.opened, []);
    const inside = new ScriptedWorkbench({ folders: [folder()] });
    await new Demo(inside, lab(), folder()).open();
    assert.match(inside.confirmed[0]?.[0] ?? '', /press F5/);
  });

  it('has a folder with the sources, a launch.json that the adapter takes, and what there is to see', async () => {
    await new Demo(new ScriptedWorkbench(), lab(), folder()).open();
    assert.equal(readlinkSync(join(folder(), 'linux')), sources);
    assert.match(read(tourFile), /\(linux\/init\/main\.c#L5\)/);
    assert.match(read('.vscode/launch.json'), /\/\/ An emulated arm64 machine/);
    const [launch] = JSON.parse(read('.vscode/launch.json').replaceAll(/^ *\/\/.*$/gm, '')).configurations;
    const { console: _console, name: _name, ...said } = fields;
    assert.deepEqual(launch, {
      request: 'launch',
      name: "Demo: Debian's kernel in an emulated arm64 host",
      lab: true,
      ...said,
    });
    assert.deepEqual(parseLaunch(launch).ignored, []);
  });

  it('shows what there is to see the first time that its folder is open, and in no other', async () => {
    const kept = new Map<string, unknown>();
    const state = {
      get: <Value>(key: string) => kept.get(key) as Value | undefined,
      update: async (key: string, value: unknown) => void kept.set(key, value),
    };
    const elsewhere = new ScriptedWorkbench({ folders: [scratch] });
    await new Demo(elsewhere, lab(), folder()).welcome(state);
    assert.deepEqual(elsewhere.previewed, []);
    const inside = new ScriptedWorkbench({ folders: [folder()] });
    await new Demo(inside, lab(), folder()).welcome(state);
    await new Demo(inside, lab(), folder()).welcome(state);
    assert.deepEqual(inside.previewed, [join(folder(), tourFile)]);
  });

  it('keeps what the user has changed in its folder, and follows the sources to where they are', async () => {
    await new Demo(new ScriptedWorkbench(), lab(), folder()).open();
    writeFileSync(join(folder(), '.vscode/launch.json'), 'mine');
    rmSync(join(folder(), 'linux'));
    symlinkSync('/gone', join(folder(), 'linux'));
    await new Demo(new ScriptedWorkbench(), lab(), folder()).open();
    assert.equal(read('.vscode/launch.json'), 'mine');
    assert.equal(readlinkSync(join(folder(), 'linux')), sources);
  });

  it('names all that this machine lacks, each with its remedy, and does nothing', async () => {
    const missing = [
      { need: 'npm', remedy: 'install npm' },
      { need: 'flock', remedy: 'install util-linux' },
    ];
    const program = lab({ plan: { ...toFetch, missing } });
    const workbench = new ScriptedWorkbench({ button: 'Fetch' });
    await new Demo(workbench, program, folder()).open();
    assert.deepEqual(program.did, []);
    assert.equal(workbench.failures[0]?.[1], '• npm: install npm\n• flock: install util-linux');
    const refused = new ScriptedWorkbench();
    await new Demo(refused, lab({ plan: { ...toFetch, refusal: 'Not here.' } }), folder()).open();
    assert.deepEqual(refused.failures, [['Not here.', '']]);
  });

  it('says why it cannot go on; a user who cancels knows', async () => {
    const workbench = new ScriptedWorkbench();
    await new Demo(workbench, lab({ failure: 'apt said no\nE: its output' }), folder()).open();
    assert.deepEqual(workbench.failures, [['The demo cannot go on: apt said no', 'E: its output']]);
    const blocked = new ScriptedWorkbench();
    writeFileSync(join(scratch, 'file'), '');
    await new Demo(blocked, lab(), join(scratch, 'file/demo')).open();
    assert.equal(blocked.failures[0]?.[0], 'The demo cannot go on: its folder cannot be made.');
    assert.match(blocked.failures[0]?.[1] ?? '', /ENOTDIR/);
    const cancelled = new ScriptedWorkbench({ cancelsAt: 'step of prepare' });
    await new Demo(cancelled, lab(), folder()).open();
    assert.deepEqual([cancelled.failures, cancelled.confirmed], [[], []]);
  });

  describe('at F5', () => {
    it('boots the lab once, and again when it is gone', async () => {
      const program = lab();
      const workbench = new ScriptedWorkbench();
      const demo = new Demo(workbench, program, folder());
      const first = await demo.session(undefined, configuration);
      assert.equal(first?.debugServer, 4711);
      start(demo, first).onWillStopSession?.();
      assert.equal((await demo.session(undefined, configuration))?.debugServer, 4711);
      assert.deepEqual(program.did, ['run']);
      assert.equal(workbench.progressed[0], 'KVM Debug: starting the lab');
      program.end('the debug adapter in the lab has ended');
      await new Promise(setImmediate);
      const told = [['The lab has ended; F5 boots it again.', 'the debug adapter in the lab has ended']];
      assert.deepEqual(workbench.failures, told);
      await demo.session(undefined, configuration);
      assert.deepEqual(program.did, ['run', 'run']);
      demo.dispose();
      await new Promise(setImmediate);
      assert.deepEqual(program.did, ['run', 'run', 'stop']);
      program.end('stopped');
      await new Promise(setImmediate);
      assert.deepEqual(workbench.failures, told);
    });

    it('gives the lab to one session at a time, and says so to others', async () => {
      const workbench = new ScriptedWorkbench();
      const program = lab();
      const demo = new Demo(workbench, program, folder());
      const session = () => demo.session(undefined, configuration);
      const refusals = () => workbench.failures.splice(0).map(([sentence]) => sentence);
      const refusal = 'The lab has a session already: stop it, then press F5 again.';
      // While it boots; three, as only one may be let through.
      const [first, ...others] = await Promise.all([session(), session(), session()]);
      assert.equal(first?.debugServer, 4711);
      assert.deepEqual(
        [others, refusals()],
        [
          [undefined, undefined],
          [refusal, refusal],
        ],
      );
      for (const end of ['onWillStopSession', 'onExit', 'onError'] as const) {
        const tracker = start(demo, first);
        assert.deepEqual([await session(), await session()], [undefined, undefined]);
        assert.deepEqual(refusals(), [refusal, refusal]);
        if (end === 'onError') tracker.onError?.(new Error());
        else if (end === 'onExit') tracker.onExit?.(0, undefined);
        else tracker.onWillStopSession?.();
        assert.ok(await session(), end);
      }
      // VS Code did not start the last one, and says nothing of it.
      assert.equal(await session(), undefined);
      assert.ok(await session());
      start(demo, first);
      program.end();
      await new Promise(setImmediate);
      assert.ok(await session(), 'a lab that is gone has no session');
    });

    it('leaves alone sessions that are not of the lab', async () => {
      const demo = new Demo(new ScriptedWorkbench(), lab(), folder());
      const first = await demo.session(undefined, configuration);
      start(demo, first).onExit?.(0, undefined);
      assert.equal(tracked(demo, { ...configuration, debugServer: 1 }), undefined);
      assert.equal(tracked(demo, { type: 'kvm', request: 'launch', name: 'x' }), undefined);
      assert.ok(await demo.session(undefined, configuration));
    });

    it('ends the wait of a session that is cancelled while another boots', async () => {
      const program = lab();
      let boot = (): void => undefined;
      const run = program.run.bind(program);
      program.run = async (step, signal) => {
        await new Promise<void>((resolve) => {
          boot = resolve;
        });
        return run(step, signal);
      };
      const waiting = new WindowLab(program);
      const first = waiting.ready(() => undefined, new AbortController().signal);
      const second = new AbortController();
      const other = waiting.ready(() => undefined, second.signal);
      second.abort();
      await assert.rejects(other, { name: 'AbortError' });
      assert.equal(getEventListeners(second.signal, 'abort').length, 0);
      boot();
      assert.equal((await first).port, 4711);
    });

    it('asks before it fetches, and starts nothing when cancelled or when the lab fails; then it tries again', async () => {
      const demoWith = (program: ReturnType<typeof lab>, user = {}) =>
        new Demo(new ScriptedWorkbench(user), program, folder()).session(undefined, configuration);
      const unasked = lab({ plan: toFetch });
      assert.equal(await demoWith(unasked), undefined);
      assert.deepEqual(unasked.did, []);
      assert.equal(await demoWith(lab(), { cancelsAt: 'step of run' }), undefined);
      const failing = lab({ failure: 'no' });
      const demo = new Demo(new ScriptedWorkbench(), failing, folder());
      assert.equal(await demo.session(undefined, configuration), undefined);
      assert.equal(await demo.session(undefined, configuration), undefined);
      assert.deepEqual(failing.did, ['run', 'run']);
    });

    it('completes the configuration as the lab says, and changes nothing of what it says itself', async () => {
      const demo = new Demo(new ScriptedWorkbench(), lab(), folder());
      const made = await demo.session(undefined, { ...configuration, cpus: 8, sourceMap: { init: '/mine' } });
      assert.deepEqual(made, {
        ...configuration,
        vmm: 'qemu',
        kernel: '/lab/guest/Image',
        cpus: 8,
        console: 'internalConsole',
        sourceMap: { init: '/mine', '/build/net/core': join(sources, 'net/core') },
        debugServer: 4711,
      });
      assert.deepEqual(parseLaunch(made).ignored, []);
    });

    it('finds the sources where the workspace has them', async () => {
      const demo = new Demo(new ScriptedWorkbench(), lab(), folder());
      await demo.open();
      const map = async (workspace: string) => {
        const made = await demo.session(workspace, configuration);
        start(demo, made).onExit?.(0, undefined);
        return made?.sourceMap.init;
      };
      assert.equal(await map(folder()), join(folder(), 'linux/init'));
      assert.equal(await map(scratch), join(sources, 'init'));
    });
  });
});

it('launch.json keeps lists on one line, and ends without a comma', () => {
  assert.match(launchJson({ type: 'kvm', vmmArgs: ['-a', 'b c'] }), /"vmmArgs": \["-a", "b c"\]\n {4}\}/);
});
