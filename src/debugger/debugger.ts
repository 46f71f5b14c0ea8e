import { type Gva, hex } from '../base/address.ts';
import { messageOf, SessionError, TargetError, UserError } from '../base/errors.ts';
import type { ExitStatus, StopEvent, Target, Vcpu } from '../target/target.ts';
import {
  type Breakpoint,
  type BreakpointRequest,
  type BreakpointStatus,
  Breakpoints,
  type StopPointUse,
} from './breakpoints.ts';
import { Disassembler } from './disassembler.ts';
import { type Cause, Execution, type Movement, type StopReason } from './execution.ts';
import type { BreakpointMode } from './placement.ts';
import { RegisterHistory } from './registerHistory.ts';
import { SerialTarget } from './serialTarget.ts';
import { SourcePaths } from './sourcePaths.ts';
import { type Granularity, planStep, type StepKind, type StepPlan } from './stepping.ts';
import type { StopContext } from './stopContext.ts';
import { KernelSymbols, type SymbolSource } from './symbols.ts';

/** A stop the user sees. */
export interface Stop {
  readonly context: StopContext;
  /** The most important of the causes. */
  readonly reason: StopReason;
  readonly vcpu: Vcpu;
  readonly description: string;
  /** Of every cause, not only the first. */
  readonly breakpointIds: readonly number[];
  readonly causes: readonly Cause[];
}

/** What the debugger tells its user. Called in order; must not throw. */
export interface DebuggerEvents {
  stopped(stop: Stop): void;
  /** The user has let the guest go on. */
  resumed(): void;
  exited(status: ExitStatus): void;
  breakpointChanged(status: BreakpointStatus): void;
  output(text: string, breakpoint?: Breakpoint): void;
  /** The session cannot go on. */
  failed(error: unknown): void;
}

export interface DebuggerOptions {
  readonly breakpointMode: BreakpointMode;
  readonly sourceMap: Readonly<Record<string, string>>;
  /** Sources are also looked for below this folder. */
  readonly sourceRoot?: string;
}

/** What happened first on a list of causes, when several vCPUs stopped at once. */
const importance: readonly StopReason[] = [
  'entry',
  'step',
  'breakpoint',
  'function breakpoint',
  'instruction breakpoint',
  'data breakpoint',
  'exception',
  'pause',
  'goto',
];

/** A debugged guest: the composition of a target, symbols and what the user wants of them. Starts stopped.
 *
 *  Commands are serialised here; the target's calls are serialised below. While the guest runs, breakpoints can be set
 *  (it is held for a moment), `pause` works at once, and everything that needs a stop is a UserError. */
export class Debugger {
  readonly target: SerialTarget;
  readonly symbols: KernelSymbols | undefined;
  readonly paths: SourcePaths;
  readonly disassembler: Disassembler;
  readonly registerHistory = new RegisterHistory();
  readonly #breakpoints: Breakpoints;
  readonly #execution: Execution;
  /** `settling`: a run has ended, and what waited for that is done before the user sees the stop. */
  #state: 'stopped' | 'running' | 'settling' | 'ended' = 'stopped';
  #stop: Stop | undefined;
  #commands: Promise<unknown> = Promise.resolve();

  constructor(
    target: Target,
    symbols: SymbolSource | undefined,
    options: DebuggerOptions,
    private readonly events: DebuggerEvents,
  ) {
    this.target = new SerialTarget(target);
    this.symbols = symbols && new KernelSymbols(symbols);
    this.paths = new SourcePaths(options.sourceMap, options.sourceRoot);
    this.disassembler = new Disassembler(target.architecture, (address) => this.symbols?.describe(address));
    this.#breakpoints = new Breakpoints(this.symbols, this.paths, options.breakpointMode);
    this.#execution = new Execution(this.target, this.symbols, this.#breakpoints, this.disassembler, {
      breakpointChanged: (status) => events.breakpointChanged(status),
      log: (text, breakpoint) => events.output(text, breakpoint),
    });
  }

  /** To be called once, first: finds the kernel in the guest, wherever it has moved itself. UserError when it is certainly
   *  not the one that the symbols are of. */
  locateKernel(): Promise<void> {
    return this.#execution.locateKernel();
  }

  /** To be called once: ends the session with the VMM, also when it dies while the guest is stopped. */
  watchExit(): void {
    void this.target.target.exited.then(
      (status) => this.#exited(status),
      (lost: unknown) => this.#failed(lost),
    );
  }

  get state(): 'stopped' | 'running' | 'ended' {
    return this.#state === 'settling' ? 'running' : this.#state;
  }

  /** What the user's breakpoints take of the vCPU's debug registers. */
  get stopPointUse(): StopPointUse {
    return this.#breakpoints.use(this);
  }

  /** The current stop; UserError while the guest runs. */
  stopped(): StopContext {
    if (this.#state === 'ended') throw new UserError('The debug session has ended.');
    if (this.#state !== 'stopped') throw new UserError('The guest is running; pause it first.');
    return this.#execution.context;
  }

  /** What the vCPU stopped for at the current stop, if for anything. */
  causeOf(vcpu: Vcpu): Cause | undefined {
    return this.#stop?.causes.find((cause) => cause.vcpu === vcpu);
  }

  /** The exception that the vCPU stopped at, and what was said of it. */
  exceptionOf(vcpu: Vcpu): Cause | undefined {
    return this.#stop?.causes.find((cause) => cause.vcpu === vcpu && cause.exception !== undefined);
  }

  /** Shows the user the stop the guest is in since it was launched or attached. */
  reportEntry(): void {
    const vcpu = this.target.vcpus[0] ?? 0;
    const event: StopEvent = { kind: 'entry', vcpu };
    this.stopped();
    this.#publish([{ vcpu: event.vcpu, reason: 'entry', description: 'Stopped on entry', breakpointIds: [] }]);
  }

  /** Lets the guest run. Returns at once; `events` tell how it ends. UserError when it runs already. */
  continue(): void {
    const { focus } = this.stopped();
    this.#begin(async (execution) => ({ movement: await execution.run([], focus), completedOn: undefined }));
  }

  /** Prepares a step of one vCPU; the function it resolves to starts it. UserError when it is not possible. */
  async prepareStep(kind: StepKind, granularity: Granularity, vcpu: Vcpu, into?: Gva): Promise<() => void> {
    const context = this.stopped();
    const plan = await planStep(kind, granularity, context, vcpu, into);
    context.check();
    return () => {
      this.stopped();
      this.#begin(plan);
    };
  }

  /** Has a vCPU go on at another place, and shows that as a stop; nothing of the guest is executed. The function it
   *  resolves to tells the user. */
  async jump(vcpu: Vcpu, address: Gva): Promise<() => void> {
    this.stopped();
    this.#execution.renew();
    const { context } = this.#execution;
    await context.writeRegister(vcpu, this.target.architecture.programCounter, address);
    const where = this.symbols?.describe(address) ?? hex(address);
    return () => this.#publish([{ vcpu, reason: 'goto', description: `Jumped to ${where}`, breakpointIds: [] }]);
  }

  /** Stops the guest, if it runs. The one call that overtakes the others. */
  pause(): void {
    if (this.#state === 'ended') throw new UserError('The debug session has ended.');
    if (this.#state === 'running') this.#execution.pause();
  }

  /** Replaces the breakpoints that `replaced` selects by `requests`. The guest may run: it is held for a moment. */
  setBreakpoints(
    requests: readonly BreakpointRequest[],
    replaced: (request: BreakpointRequest) => boolean,
  ): Promise<readonly BreakpointStatus[]> {
    return this.#whileHeld(async () => {
      const { context } = this.#execution;
      const selected = (breakpoint: Breakpoint): boolean => replaced(breakpoint.request);
      const { statuses, others } = await this.#breakpoints.set(requests, selected, context, context.focus);
      for (const status of others) this.events.breakpointChanged(status);
      return statuses;
    });
  }

  /** Leaves the guest running as if nobody had been there. Idempotent. */
  detach(): Promise<void> {
    return this.#leave(() => this.target.detach());
  }

  /** Ends the VM. Idempotent. */
  kill(): Promise<void> {
    return this.#leave(() => this.target.kill());
  }

  #begin(plan: StepPlan): void {
    this.#state = 'running';
    this.#stop = undefined;
    this.#execution.context.end();
    this.events.resumed();
    void this.#run(plan);
  }

  async #run(plan: StepPlan): Promise<void> {
    try {
      // The first movement starts from the stop that has just ended for the user.
      const { movement, completedOn } = await this.#moved(plan);
      if (this.#state !== 'running') return;
      if (movement.exited) return this.#exited(movement.exited);
      this.#state = 'settling';
      await this.#execution.settle();
      if (this.state !== 'running') return;
      const step: Cause[] =
        completedOn === undefined
          ? []
          : [{ vcpu: completedOn, reason: 'step', description: 'Step completed', breakpointIds: [] }];
      this.#state = 'stopped';
      this.#publish([...movement.causes, ...step]);
    } catch (error) {
      if (this.state === 'running') this.#failed(error);
    }
  }

  async #moved(plan: StepPlan): Promise<{ movement: Movement; completedOn: Vcpu | undefined }> {
    this.#execution.renew();
    try {
      return await plan(this.#execution);
    } catch (error) {
      // The step cannot go on, but the guest is held where it got to.
      if (!(error instanceof UserError || error instanceof TargetError)) throw error;
      if (this.#execution.context.signal.aborted) this.#execution.renew();
      const { context } = this.#execution;
      const description = `The step was ended: ${messageOf(error)}`;
      this.events.output(description);
      const cause: Cause = { vcpu: context.focus, reason: 'pause', description, breakpointIds: [] };
      return { movement: { context, causes: [cause], arrived: [], exited: undefined }, completedOn: undefined };
    }
  }

  #publish(causes: readonly Cause[]): void {
    const { context } = this.#execution;
    const rank = ({ reason, breakpointIds }: Cause): number =>
      breakpointIds.length > 0 ? -1 : importance.indexOf(reason);
    const [first] = [...causes].sort((a, b) => rank(a) - rank(b));
    if (!first) throw new Error('a stop without a cause');
    context.focus = first.vcpu;
    const others = causes.filter((cause) => cause !== first && cause.reason !== 'step');
    const description = [first, ...others]
      .map((cause) => (cause === first ? cause.description : `vCPU ${cause.vcpu}: ${cause.description}`))
      .join('; ');
    this.#stop = {
      context,
      reason: first.reason,
      vcpu: first.vcpu,
      description,
      breakpointIds: causes.flatMap((cause) => cause.breakpointIds),
      causes,
    };
    this.events.stopped(this.#stop);
    this.registerHistory.stopped(context);
  }

  #exited(status: ExitStatus): void {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    this.#execution.abandon(new UserError('The VM has exited.'));
    this.events.exited(status);
  }

  #failed(error: unknown): void {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    this.#execution.abandon(new SessionError('The debug session has failed.', { cause: error }));
    this.events.failed(error);
  }

  async #leave(action: () => Promise<void>): Promise<void> {
    this.#state = 'ended';
    this.#stop = undefined;
    this.#execution.abandon(new UserError('The debug session has ended.'));
    await action();
  }

  #whileHeld<T>(action: () => Promise<T>): Promise<T> {
    const result = this.#commands.then(() => {
      if (this.#state === 'running') return this.#execution.whileHeld(action);
      if (this.#state === 'ended') throw new UserError('The debug session has ended.');
      return action();
    });
    this.#commands = result.catch(() => undefined);
    return result;
  }
}
