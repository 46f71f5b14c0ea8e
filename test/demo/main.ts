// `npm run demo`: the main job on real input, as a transcript. A Debian arm64 kernel under KVM in the emulated lab is
// stopped at its first instruction, broken at a source line of start_kernel, looked at, stepped, and left running.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { reportProgress } from '../../lab/cache.ts';
import { kernelSource, lkvm } from '../../lab/lab.ts';
import type { DapClient } from '../support/dapClient.ts';
import { buildAdapter, guestConfiguration, startAdapterInLab } from '../support/labAdapter.ts';

const say = (text: string): void => console.log(text);
const title = (text: string): void => say(`\n== ${text}`);

interface Frame {
  id: number;
  name: string;
  line: number;
  source?: { name?: string; path?: string; sourceReference?: number };
  instructionPointerReference: string;
}

/** The line of start_kernel to break at: found in the source, which moves between releases. */
function breakpointLine(source: string): number {
  const lines = source.split('\n');
  const start = lines.findIndex((line) => /start_kernel\(void\)/.test(line));
  const call = lines.findIndex((line, index) => index > start && /\bboot_cpu_init\(\);/.test(line));
  if (start < 0 || call < 0) throw new Error('init/main.c has no start_kernel that calls boot_cpu_init');
  return call + 1;
}

/** A source path as the kernel's tree has it: what the compiler saw may be below a build folder. */
const kernelPath = (path: string): string => path.replace(/^.*?(?=(arch|init|kernel|mm|fs|lib|include)\/)/, '');

class Transcript {
  threadId = 1;
  constructor(
    private readonly client: DapClient,
    private readonly sources: string,
  ) {}

  async stopped(): Promise<void> {
    const { body } = await this.client.waitFor('stopped');
    this.threadId = body.threadId;
    say(`stopped: ${body.reason}${body.description ? ` (${body.description})` : ''}`);
  }

  async frames(levels: number): Promise<Frame[]> {
    const { stackFrames } = await this.client.request('stackTrace', { threadId: this.threadId, levels });
    return stackFrames;
  }

  async stack(): Promise<Frame | undefined> {
    const frames = await this.frames(10);
    for (const [index, frame] of frames.entries()) {
      const at = frame.source?.path ? `  at ${kernelPath(frame.source.path)}:${frame.line}` : '';
      say(`  #${index} ${frame.instructionPointerReference}  ${frame.name}${at}`);
    }
    return frames[0];
  }

  async registers(names: readonly string[]): Promise<void> {
    const [frame] = await this.frames(1);
    const { scopes } = await this.client.request('scopes', { frameId: frame?.id });
    const general = scopes.find((scope: { presentationHint?: string }) => scope.presentationHint === 'registers');
    const { variables } = await this.client.request('variables', { variablesReference: general.variablesReference });
    const wanted = variables.filter(({ name }: { name: string }) => names.includes(name));
    say(`  ${wanted.map(({ name, value }: { name: string; value: string }) => `${name} = ${value}`).join('\n  ')}`);
  }

  /** Arguments and locals of the innermost function. */
  async variables(): Promise<void> {
    const [frame] = await this.frames(1);
    const { scopes } = await this.client.request('scopes', { frameId: frame?.id });
    for (const { name, presentationHint, variablesReference } of scopes) {
      if (presentationHint !== 'arguments' && presentationHint !== 'locals') continue;
      const { variables } = await this.client.request('variables', { variablesReference });
      say(`  ${name}:`);
      for (const variable of variables) say(`    ${variable.type} ${variable.name} = ${variable.value}`);
    }
  }

  async disassembly(count: number): Promise<void> {
    const [frame] = await this.frames(1);
    const { instructions } = await this.client.request('disassemble', {
      memoryReference: frame?.instructionPointerReference,
      instructionCount: count,
      resolveSymbols: true,
    });
    for (const { address, instruction } of instructions) say(`  ${address}  ${instruction}`);
  }

  /** The source around the innermost frame. */
  async source(): Promise<void> {
    const [frame] = await this.frames(1);
    if (!frame?.source?.path) return;
    const lines = readFileSync(join(this.sources, kernelPath(frame.source.path)), 'utf8').split('\n');
    for (let line = frame.line - 2; line <= frame.line + 2; line++) {
      say(`  ${line === frame.line ? '>' : ' '} ${line}  ${lines[line - 1] ?? ''}`);
    }
  }

  async run(command: 'continue' | 'next' | 'stepIn' | 'stepOut', granularity?: 'instruction'): Promise<void> {
    await this.client.request(command, { threadId: this.threadId, ...(granularity ? { granularity } : {}) });
    await this.stopped();
  }
}

async function main(): Promise<void> {
  const vmm = lkvm() === undefined ? 'qemu' : 'kvmtool';
  buildAdapter();
  const sources = await kernelSource();
  const line = breakpointLine(readFileSync(join(sources, 'init/main.c'), 'utf8'));
  reportProgress('booting the arm64 host with KVM (emulated) …');
  const adapter = await startAdapterInLab();
  try {
    const client = await adapter.connect();
    await client.request('initialize', { adapterID: 'kvm', linesStartAt1: true, columnsStartAt1: true });
    title(`launch: ${vmm} with Debian's arm64 kernel, KASLR on, 2 vCPUs, stopOnEntry`);
    const launched = client.request(
      'launch',
      guestConfiguration(vmm, { cpus: 2, parameters: 'guest.do=ticks', kaslr: true }),
    );
    await Promise.race([client.waitFor('initialized'), launched]);
    const { breakpoints } = await client.request('setBreakpoints', {
      source: { path: 'init/main.c' },
      breakpoints: [{ line }],
    });
    say(
      `breakpoint: init/main.c:${breakpoints[0].line} verified=${breakpoints[0].verified} ${breakpoints[0].message ?? ''}`,
    );
    await client.request('configurationDone');
    await launched;
    const transcript = new Transcript(client, sources);

    title('the first instruction of the guest, MMU off');
    await transcript.stopped();
    await transcript.stack();
    await transcript.registers(['x0', 'sp', 'pc', 'pstate']);
    await transcript.disassembly(3);

    title('continue to the breakpoint');
    await transcript.run('continue');
    await transcript.stack();
    await transcript.source();
    await transcript.registers(['x0', 'x1', 'x29', 'x30', 'sp', 'pc', 'pstate']);
    await transcript.variables();
    for (const expression of ['$pc', 'start_kernel', '&jiffies', 'jiffies', 'init_task.comm', '&init_task.tasks,x']) {
      const { result } = await client.request('evaluate', { expression, context: 'repl' });
      say(`  ${expression} = ${result}`);
    }

    title('step over, step into, step out');
    await transcript.run('next');
    await transcript.source();
    await transcript.run('stepIn');
    await transcript.stack();
    await transcript.variables();
    await transcript.run('stepOut');
    await transcript.stack();

    title('on to user space, then detach');
    await client.request('setBreakpoints', { source: { path: 'init/main.c' }, breakpoints: [] });
    await client.request('continue', { threadId: transcript.threadId });
    while (!client.outputText('stdout').includes('GUEST-USERSPACE')) await client.waitFor('output', undefined);
    say('the guest reached user space');
    await client.request('disconnect', { terminateDebuggee: false });
    const { output } = await adapter.lab.run('ps | grep -E "[l]kvm run|[q]emu-system-aarch64" | wc -l');
    say(`detached; VMM processes still running: ${output.trim()}`);
    if (output.trim() === '0') throw new Error('the VMM did not survive the detach');
  } catch (error) {
    say(`\nthe adapter's log:\n${adapter.log()}`);
    throw error;
  } finally {
    await adapter.close();
  }
}

await main();
