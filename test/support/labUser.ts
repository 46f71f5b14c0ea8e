// A user of the adapter in the lab: what he does there, and what he starts and leaves behind.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { kernelSource, type LabProcess, lkvm } from '../../lab/lab.ts';
import { type GuestOptions, guestCommand } from '../../lab/vmm.ts';
import type { DapClient, DapMessage } from './dapClient.ts';
import type { AdapterInLab, AdapterProcess } from './labAdapter.ts';

export type Vmm = 'kvmtool' | 'qemu';

export interface Stop {
  readonly reason: string;
  readonly threadId: number;
  readonly description: string;
  readonly hitBreakpointIds?: readonly number[];
}

const noLkvm = lkvm() === undefined ? 'no lkvm' : false;
/** The reason to skip a test, where its VMM is missing. */
export const unlessPresent = (vmm: Vmm): string | false => (vmm === 'kvmtool' ? noLkvm : false);

/** The line of init/main.c on which start_kernel calls `callee`. */
export async function lineOf(callee: string): Promise<number> {
  const lines = readFileSync(join(await kernelSource(), 'init/main.c'), 'utf8').split('\n');
  const start = lines.findIndex((line) => /start_kernel\(void\)/.test(line));
  return lines.findIndex((line, index) => index > start && line.includes(`\t${callee}(`)) + 1;
}

/** What a user does in VS Code, as requests. */
export class User {
  threadId = 0;
  readonly client: DapClient;

  private constructor(client: DapClient) {
    this.client = client;
  }

  static async of(adapter: AdapterProcess): Promise<User> {
    const user = new User(await adapter.connect());
    await user.client.request('initialize', { adapterID: 'kvm', linesStartAt1: true, columnsStartAt1: true });
    return user;
  }

  /** Launches or attaches, sets breakpoints before the guest has run, and ends the configuration. */
  async begin(request: 'launch' | 'attach', configuration: object, configure = async () => {}): Promise<void> {
    const begun = this.client.request(request, configuration);
    await Promise.race([this.client.waitFor('initialized'), begun]);
    await configure();
    await this.client.request('configurationDone');
    await begun;
  }

  async breakAt(line: number, extra: object = {}): Promise<DapMessage['body']> {
    const source = { path: 'init/main.c' };
    const { breakpoints } = await this.client.request('setBreakpoints', { source, breakpoints: [{ line, ...extra }] });
    return breakpoints[0];
  }

  async stopped(): Promise<Stop> {
    const { body } = await this.client.waitFor('stopped');
    this.threadId = body.threadId;
    return body;
  }

  async go(command: string, extra: object = {}): Promise<Stop> {
    await this.client.request(command, { threadId: this.threadId, ...extra });
    return this.stopped();
  }

  async frames(): Promise<{ id: number; name: string; line: number; instructionPointerReference: string }[]> {
    return (await this.client.request('stackTrace', { threadId: this.threadId })).stackFrames;
  }

  async pc(): Promise<bigint> {
    return BigInt((await this.frames())[0]?.instructionPointerReference ?? 0);
  }

  async evaluate(expression: string): Promise<string> {
    return (await this.client.request('evaluate', { expression, context: 'repl' })).result;
  }

  async registers(): Promise<Map<string, string>> {
    const [frame] = await this.frames();
    const { scopes } = await this.client.request('scopes', { frameId: frame?.id });
    const { variablesReference } = scopes.find(
      (scope: { presentationHint?: string }) => scope.presentationHint === 'registers',
    );
    const { variables } = await this.client.request('variables', { variablesReference });
    return new Map(variables.map(({ name, value }: { name: string; value: string }) => [name, value]));
  }

  async leave(terminateDebuggee: boolean): Promise<void> {
    await this.client.request('disconnect', { terminateDebuggee });
    await this.client.closed;
  }
}

/** One session, closed however it ends: the adapter serves one after another, and must be free for the next test. */
export async function session(adapter: AdapterProcess, work: (user: User) => Promise<void>): Promise<void> {
  const user = await User.of(adapter);
  try {
    await work(user);
  } finally {
    user.client.close();
    await user.client.closed;
  }
}

/** Fails after a while when a VMM or a guardian stays behind; a guardian needs a moment to go. */
export async function noStrays(adapter: AdapterInLab): Promise<void> {
  const count = 'ps | grep -E "[l]kvm run|[q]emu-system-aarch64 -M|[g]uardian" | wc -l';
  await adapter.lab.run(`while [ "$(${count})" != 0 ]; do :; done`, { timeout: 300_000 });
}

/** Starts a guest that ticks, and waits until it is in user space. */
export async function runGuest(
  adapter: AdapterInLab,
  vmm: Vmm,
  ticks: number,
  context: TestContext,
  options: GuestOptions = {},
  what = 'ticks',
): Promise<{ vm: LabProcess; pid: number }> {
  // On a busy machine a guest reports its CPUs as stalled or stuck also when nobody holds it.
  const parameters = `nowatchdog rcupdate.rcu_cpu_stall_suppress=1 guest.do=${what} guest.ticks=${ticks}`;
  const vm = adapter.lab.start(guestCommand(vmm, parameters, options));
  context.after(async () => {
    const { passed } = context as TestContext & { readonly passed: boolean }; // Node 20.12; @types/node 20 lacks it
    try {
      if (!passed) context.diagnostic(`${await adapter.lab.threads()}\n${adapter.log().slice(-2000)}`);
    } finally {
      vm.kill('SIGKILL');
    }
  });
  await vm.waitFor(/GUEST-TICK 1[\r\n]/);
  const name = vmm === 'kvmtool' ? '[l]kvm run' : '[q]emu-system-aarch64 -M';
  const { output } = await adapter.lab.run(`ps | grep "${name}" | grep -v "sh -c" | head -1`);
  return { vm, pid: Number(output.trim().split(/\s+/)[0]) };
}
