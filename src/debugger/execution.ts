import type { Gva } from '../base/address.ts';
import { hex } from '../base/address.ts';
import { messageOf, TargetError, UserError } from '../base/errors.ts';
import { EventLoopTurns } from '../base/eventLoop.ts';
import { type ExitStatus, type StopEvent, UnplantedBreakpoints, type Vcpu } from '../target/target.ts';
import {
  type Breakpoint,
  type BreakpointKind,
  type BreakpointStatus,
  type Breakpoints,
  functionNamed,
} from './breakpoints.ts';
import { formatLog } from './conditions.ts';
import { carryOut } from './dataAccess.ts';
import type { Disassembler } from './disassembler.ts';
import { numberOf } from './evaluate.ts';
import { type ExceptionFilter, filterNamed, GuestTraps } from './exceptions.ts';
import { KernelPlace } from './kernelPlace.ts';
import type { Site } from './placement.ts';
import { FrameScope } from './scope.ts';
import type { SerialTarget } from './serialTarget.ts';
import { StopContext } from './stopContext.ts';
import type { KernelSymbols } from './symbols.ts';
import { TextPatching } from './textPatching.ts';

export type StopReason =
  | 'entry'
  | 'breakpoint'
  | 'function breakpoint'
  | 'instruction breakpoint'
  | 'data breakpoint'
  | 'exception'
  | 'step'
  | 'pause'
  | 'goto';

/** One thing the user should hear of at a stop. */
export interface Cause {
  readonly vcpu: Vcpu;
  readonly reason: StopReason;
  readonly description: string;
  readonly breakpointIds: readonly number[];
  /** The exception filter that took it. */
  readonly exception?: ExceptionFilter | undefined;
}

/** How one movement of the guest ended. */
export interface Movement {
  readonly context: StopContext;
  /** Empty when nothing but what the movement was made for happened. */
  readonly causes: readonly Cause[];
  /** vCPUs that arrived where a temporary breakpoint wanted them. */
  readonly arrived: readonly Vcpu[];
  readonly exited: ExitStatus | undefined;
}

/** A temporary breakpoint of a step. `accepts` tells the frame that is waited for from others that pass by. */
export interface Waypoint {
  readonly address: Gva;
  accepts(context: StopContext, vcpu: Vcpu): Promise<boolean>;
}

/** The guest has executed no more than the instructions at breakpoints that vCPUs stood at. */
export class UnplacedWaypoint extends UserError {
  override readonly name = 'UnplacedWaypoint';

  constructor(address: Gva, why: string) {
    super(`The step needs a breakpoint at ${hex(address)}. ${why}`);
  }
}

export interface ExecutionEvents {
  breakpointChanged(status: BreakpointStatus): void;
  /** Text of a logpoint, trouble with a condition, or with the symbols. */
  log(text: string, breakpoint?: Breakpoint): void;
}

const reasons: Readonly<Record<BreakpointKind, StopReason>> = {
  source: 'breakpoint',
  function: 'function breakpoint',
  instruction: 'instruction breakpoint',
  data: 'data breakpoint',
  exception: 'exception',
};

/** Moves the guest and decides what of its stops the user sees. Used by one run at a time. */
export class Execution {
  readonly #held: { run(): Promise<void>; fail(error: unknown): void }[] = [];
  #pauseWanted = false;
  #stepped = false;
  readonly #turns = new EventLoopTurns();
  /** The guest has ended or was let go of. */
  #over = false;
  readonly #kernel: KernelPlace;
  readonly #traps: GuestTraps;
  readonly #patching: TextPatching;
  context: StopContext;

  constructor(
    private readonly target: SerialTarget,
    private readonly symbols: KernelSymbols | undefined,
    private readonly breakpoints: Breakpoints,
    private readonly disassembler: Disassembler,
    private readonly events: ExecutionEvents,
  ) {
    this.context = new StopContext(target, symbols, [], target.vcpus[0] ?? 0);
    this.#kernel = new KernelPlace(symbols, breakpoints.placement);
    this.#traps = new GuestTraps(symbols);
    this.#patching = new TextPatching(symbols, breakpoints.placement);
  }

  /** To be called once, at the stop the session begins with: finds out where the kernel is. UserError when it is certainly
   *  another one than the symbols are of. */
  async locateKernel(): Promise<void> {
    const { context } = this;
    await this.#kernel.follow(context, context.focus);
    const mismatch = await this.#mismatch();
    if (mismatch !== undefined) throw new UserError(mismatch);
  }

  async #mismatch(): Promise<string | undefined> {
    const { context } = this;
    const other = await this.#kernel.otherBuild(context, context.focus);
    const source = this.symbols?.source;
    if (other === undefined || source === undefined) return undefined;
    return (
      `The symbols are not of the kernel that runs: it has build-id ${other}, ${source.path} has ${source.buildId ?? 'none'}. ` +
      'Name the vmlinux of the same build in "symbols".'
    );
  }

  /** The user's context of this stop is over, but the guest has not moved yet: the run starts with its own. */
  renew(): void {
    this.#pauseWanted = false;
    this.#lookAgain();
  }

  /** The guest is where it was. */
  #lookAgain(): void {
    this.context.end();
    this.context = new StopContext(this.target, this.symbols, this.context.events, this.context.focus);
  }

  /** The user wants the guest to stop: ends the movement under way, or the next one. */
  pause(): void {
    this.#pauseWanted = true;
    this.target.interrupt();
  }

  /** Runs `action` while the guest is held, between two movements, without the user seeing a stop. */
  whileHeld<T>(action: () => Promise<T>): Promise<T> {
    const result = new Promise<T>((resolve, reject) => {
      this.#held.push({ run: () => action().then(resolve, reject), fail: reject });
    });
    this.target.interrupt();
    return result;
  }

  /** Nothing will run any more: whoever waits is told so. */
  abandon(error: unknown): void {
    this.#over = true;
    this.context.end();
    for (const action of this.#held.splice(0)) action.fail(error);
  }

  /** A run ended visibly: does what still waits. */
  async settle(): Promise<void> {
    await this.#runHeld();
  }

  /** Runs all vCPUs until the user must hear of something or one arrives at a waypoint. */
  async run(waypoints: readonly Waypoint[], vcpu: Vcpu): Promise<Movement> {
    const sites = new Map<Site, Waypoint>();
    try {
      for (const waypoint of waypoints) {
        const request = { kind: 'code', address: waypoint.address, mode: 'auto' } as const;
        const site = await this.breakpoints.placement.acquire(request, this.context, vcpu);
        sites.set(site, waypoint);
        if (!site.placed) throw new UnplacedWaypoint(waypoint.address, site.problem ?? '');
      }
      for (;;) {
        await this.#runHeld();
        if (this.#pauseWanted) return this.#paused(vcpu);
        if (this.#stepped) await this.#reconsider(vcpu);
        await this.#patching.prepare(this.context, vcpu);
        this.context.end();
        const movement = await this.#classify(await this.#resume(sites, vcpu), sites, undefined);
        if (movement?.exited) return movement;
        await this.#reconsider(this.context.focus);
        if (movement) return movement;
        // A target may have stopped again whenever it is asked.
        if (this.#turns.isOver) await this.#turns.next();
      }
    } finally {
      // After an exit or a detach there is nothing to release; the target has forgotten its points.
      if (!this.#over) {
        // The guest could not be resumed: it is still where it was.
        if (this.context.signal.aborted) this.renew();
        for (const site of sites.keys()) await this.breakpoints.placement.release(site, this.context);
      }
    }
  }

  /** What cannot be planted any more is tried elsewhere once: in a hardware breakpoint, or nowhere. */
  async #resume(waypoints: ReadonlyMap<Site, Waypoint>, vcpu: Vcpu): Promise<readonly StopEvent[]> {
    try {
      return await this.target.resume();
    } catch (error) {
      if (!(error instanceof UnplantedBreakpoints)) throw error;
      this.#lookAgain();
      await this.breakpoints.placement.replace(error.ids, this.context, vcpu);
      await this.#reconsider(vcpu);
      for (const { placed, address, problem } of waypoints.keys()) {
        if (!placed) throw new UnplacedWaypoint(address, problem ?? '');
      }
      this.context.end();
      return this.target.resume();
    }
  }

  /** Whether a breakpoint of the user's is there. */
  isBreakpointAt(address: Gva): boolean {
    return this.breakpoints.at(address).length > 0;
  }

  /** Executes one instruction of one vCPU, or with `end` more of the code up to there (`Target.step`). A breakpoint at the
   *  address it arrives at counts as hit. */
  async step(vcpu: Vcpu, end?: Gva): Promise<Movement> {
    for (;;) {
      await this.#runHeld();
      if (this.#pauseWanted) return this.#paused(vcpu);
      const limit = end && (this.breakpoints.firstBetween(await this.context.pc(vcpu), end) ?? end);
      this.context.end();
      this.#stepped = true;
      const movement = await this.#classify(await this.target.step(vcpu, limit), new Map(), vcpu);
      if (movement) return movement;
    }
  }

  async #runHeld(): Promise<void> {
    for (let action = this.#held.shift(); action; action = this.#held.shift()) await action.run();
  }

  // Not after each of many single steps, which would make every one of them slower.
  async #reconsider(vcpu: Vcpu): Promise<void> {
    this.#stepped = false;
    const rewritten = this.target.takeRewritten();
    for (const breakpoint of this.breakpoints.behind(rewritten)) {
      this.events.log(`Breakpoint ${breakpoint.id}: ${await this.#rewriting(breakpoint, vcpu)}`, breakpoint);
    }
    await this.breakpoints.placement.replace(rewritten, this.context, vcpu);
    for (const status of await this.breakpoints.reconsider(this.context, vcpu)) this.events.breakpointChanged(status);
  }

  async #rewriting({ location, sites }: Breakpoint, vcpu: Vcpu): Promise<string> {
    const where = location === undefined ? '' : ` of ${location.path}:${location.line}`;
    try {
      for (const { address } of sites) await this.context.memory(vcpu).read(address, 4);
      return `the guest has rewritten the code${where}; it may have passed there unseen.`;
    } catch (error) {
      if (error instanceof TargetError) return `the guest has freed the code${where}.`;
      throw error;
    }
  }

  #paused(vcpu: Vcpu): Movement {
    this.#pauseWanted = false;
    return { context: this.context, causes: [cause(vcpu, 'pause', 'Paused')], arrived: [], exited: undefined };
  }

  // Every event is looked at, also when an earlier one already decides: hit counts count every hit, and the user hears
  // of all that happened. Undefined: nothing that ends the movement.
  async #classify(
    happened: readonly StopEvent[],
    waypoints: ReadonlyMap<Site, Waypoint>,
    stepped: Vcpu | undefined,
  ): Promise<Movement | undefined> {
    const { events, accesses } = await this.#carryOutAccesses(happened);
    const exited = events.find((event) => event.kind === 'exited');
    const first = events.find((event) => event.kind !== 'interrupted') ?? events[0];
    const vcpu = first && first.kind !== 'exited' ? first.vcpu : 0;
    const context = new StopContext(this.target, this.symbols, events, vcpu);
    this.context = context;
    if (exited) {
      this.#over = true;
      context.end();
      return { context, causes: [], arrived: [], exited: exited.status };
    }
    const causes: Cause[] = [];
    const arrived: Vcpu[] = [];
    let completed = false;
    // Before the kernel is followed: breakpoints that move with it get other stop points.
    const hits = new Map(events.map((event) => [event, this.#hit(event)]));
    await this.#follow(events);
    for (const event of events) {
      if (event.kind === 'breakpoint' || event.kind === 'step') {
        await this.#patching.arrived(event.pc, context, event.vcpu);
      }
      switch (event.kind) {
        case 'entry':
          causes.push(cause(event.vcpu, 'entry', "Stopped at the guest's first instruction"));
          break;
        case 'breakpoint': {
          const { breakpoints = [], sites = [] } = hits.get(event) ?? {};
          causes.push(...(await this.#hits(breakpoints, event.vcpu, '')));
          for (const site of sites) {
            const waypoint = waypoints.get(site);
            if (waypoint && (await waypoint.accepts(context, event.vcpu))) arrived.push(event.vcpu);
          }
          break;
        }
        case 'watchpoint': {
          causes.push(...(await this.#hits(hits.get(event)?.breakpoints ?? [], event.vcpu, accesses.get(event) ?? '')));
          break;
        }
        case 'step':
          completed = true;
          causes.push(...(await this.#hits(this.breakpoints.at(event.pc), event.vcpu, '')));
          for (const [site, waypoint] of waypoints) {
            if (site.address === event.pc && (await waypoint.accepts(context, event.vcpu))) arrived.push(event.vcpu);
          }
          break;
        case 'guestTrap':
          causes.push(...(await this.#trapped(event)));
          break;
        case 'interrupted':
          if (this.#pauseWanted) causes.push(cause(event.vcpu, 'pause', 'Paused'));
          break;
        case 'unknown':
          causes.push(cause(event.vcpu, 'exception', `Unexplained stop: ${event.detail}`));
          break;
      }
    }
    if (causes.length === 0 && arrived.length === 0 && !(completed && stepped !== undefined)) return undefined;
    return { context, causes, arrived, exited: undefined };
  }

  async #carryOutAccesses(
    happened: readonly StopEvent[],
  ): Promise<{ readonly events: readonly StopEvent[]; readonly accesses: ReadonlyMap<StopEvent, string> }> {
    const accesses = new Map<StopEvent, string>();
    const events = [...happened];
    for (const event of happened) {
      if (event.kind !== 'watchpoint' || events.some(({ kind }) => kind === 'exited')) continue;
      const access = await carryOut(event, this.breakpoints.behind(event.ids), this.target, this.disassembler);
      accesses.set(event, access.text);
      events.push(...access.events);
    }
    return { events, accesses };
  }

  /** Nothing when no filter takes it: the guest gets it back when it goes on. */
  async #trapped({ vcpu, pc, immediate }: StopEvent & { kind: 'guestTrap' }): Promise<readonly Cause[]> {
    const trap = await this.#traps.classOf(pc, immediate, this.context, vcpu);
    return this.#hits(this.breakpoints.taking(trap), vcpu, ` (BRK #${hex(immediate)})`);
  }

  #hit(event: StopEvent): { readonly breakpoints: readonly Breakpoint[]; readonly sites: readonly Site[] } {
    const ids = event.kind === 'breakpoint' || event.kind === 'watchpoint' ? event.ids : [];
    const { placement } = this.breakpoints;
    return { breakpoints: this.breakpoints.behind(ids), sites: ids.flatMap((id) => placement.siteOf(id) ?? []) };
  }

  /** Takes symbols and breakpoints to where the kernel is now. */
  async #follow(events: readonly StopEvent[]): Promise<void> {
    const { context } = this;
    const departing = events.flatMap((event) => {
      const departure = this.#hit(event).sites.flatMap((site) => this.#kernel.departureOf(site) ?? [])[0];
      return event.kind === 'breakpoint' && departure !== undefined ? [{ vcpu: event.vcpu, departure }] : [];
    })[0];
    const hasMoved = await this.#kernel.follow(context, departing?.vcpu ?? context.focus, departing);
    // A kernel that has unpacked itself since.
    const mismatch = await this.#mismatch();
    if (mismatch !== undefined) this.events.log(mismatch);
    if (!hasMoved) return;
    await this.#patching.rebind(context);
    await this.breakpoints.rebind(context, context.focus);
    await this.#reconsider(context.focus);
  }

  async #hits(breakpoints: readonly Breakpoint[], vcpu: Vcpu, detail: string): Promise<readonly Cause[]> {
    const stopping: Breakpoint[] = [];
    let trouble = '';
    for (const breakpoint of breakpoints) {
      const verdict = await this.#decide(breakpoint, vcpu);
      if (verdict === false) continue;
      stopping.push(breakpoint);
      if (typeof verdict === 'string') trouble = `: ${verdict}`;
    }
    const [first] = stopping;
    if (!first) return [];
    const onFunction = stopping.find(({ request }) => request.kind === 'function');
    if (onFunction) this.context.show(vcpu, await this.#seenFrom(onFunction, vcpu));
    const ids = stopping.map(({ id }) => id);
    const exceptions = stopping.flatMap(({ request }) =>
      request.kind === 'exception' ? (filterNamed(request.filter) ?? []) : [],
    );
    const [exception] = exceptions;
    // By kind, and not by number, which no view shows.
    const kinds = stopping.flatMap(({ request }) => (request.kind === 'exception' ? [] : [reasons[request.kind]]));
    const what = [...exceptions.map((each) => each.label), ...new Set(kinds)].join(' and ');
    const reason = reasons[first.request.kind];
    return [{ vcpu, reason, description: `Paused on ${what}${detail}${trouble}`, breakpointIds: ids, exception }];
  }

  /** Whether the vCPU is in a function of the filter for the sake of one of the callers it names, if it names any. */
  async #isCalledAsWanted(filter: string, vcpu: Vcpu): Promise<boolean> {
    const calls = filterNamed(filter)?.calls ?? [];
    const names = (address: Gva): readonly string[] => {
      const inlined = this.symbols?.inlinesAt(address).map(({ name }) => name) ?? [];
      return [...inlined, this.symbols?.at(address)?.symbol.name ?? ''];
    };
    const [here, caller] = await this.context.stack(vcpu).frames(2);
    const call = calls.find(({ functions }) => here && names(here.lookup).some((name) => functions.includes(name)));
    const { callers } = call ?? {};
    return (
      callers === undefined || (caller !== undefined && names(caller.lookup).some((name) => callers.includes(name)))
    );
  }

  /** Which of the functions inlined at the pc a breakpoint that is hit is seen from: its own, also where that only begins. */
  async #seenFrom({ request }: Breakpoint, vcpu: Vcpu): Promise<number> {
    const { context } = this;
    const chain = this.symbols?.inlinesAt(await context.pc(vcpu)) ?? [];
    const name = request.kind === 'function' ? functionNamed(request.name).name : undefined;
    const own = chain.findIndex((each) => each.name === name);
    return own >= 0 ? own : context.innermost(vcpu);
  }

  /** Whether a hit stops the guest; a string does, and says what is wrong with the condition. */
  async #decide(breakpoint: Breakpoint, vcpu: Vcpu): Promise<boolean | string> {
    const { parsed, request } = breakpoint;
    if (request.kind === 'exception' && !(await this.#isCalledAsWanted(request.filter, vcpu))) return false;
    if (!parsed) return true;
    const inline = await this.#seenFrom(breakpoint, vcpu);
    const scope = await FrameScope.of(this.context, { vcpu, frame: 0, inline });
    if (parsed.condition) {
      try {
        if ((await numberOf(parsed.condition, scope)) === 0n) return false;
      } catch (error) {
        // A condition that cannot be told must not silently pass by what the user waits for, nor stop him time and again.
        if (!(error instanceof UserError || error instanceof TargetError)) throw error;
        if (breakpoint.isConditionTold) return false;
        breakpoint.isConditionTold = true;
        const text = `its condition cannot be evaluated: ${messageOf(error)} From now on it is taken not to hold then.`;
        this.events.log(`Breakpoint ${breakpoint.id}: ${text}`, breakpoint);
        return text;
      }
    }
    breakpoint.hits += 1;
    if (parsed.hitCondition && !parsed.hitCondition(breakpoint.hits)) return false;
    if (!parsed.log) return true;
    this.events.log(await formatLog(parsed.log, scope), breakpoint);
    return false;
  }
}

const cause = (vcpu: Vcpu, reason: StopReason, description: string): Cause => ({
  vcpu,
  reason,
  description,
  breakpointIds: [],
});
