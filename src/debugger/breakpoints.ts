import { Gva, hex } from '../base/address.ts';
import { UserError } from '../base/errors.ts';
import type { TrapClass } from '../linux/traps.ts';
import type { CodeLocation } from '../symbols/image.ts';
import { PathPattern } from '../symbols/sourcePaths.ts';
import type { StopPointId, Vcpu, WatchAccess } from '../target/target.ts';
import { type Conditions, type ParsedConditions, parseConditions } from './conditions.ts';
import { filterNamed, trapFilterOf } from './exceptions.ts';
import { type BreakpointMode, type Placed, Placement, type Site } from './placement.ts';
import type { SourcePaths } from './sourcePaths.ts';
import type { StopContext } from './stopContext.ts';
import type { KernelSymbols } from './symbols.ts';

export type BreakpointKind = 'source' | 'function' | 'instruction' | 'data' | 'exception';

/** What the user asked for. */
export type BreakpointRequest = Conditions & { readonly mode?: BreakpointMode } & (
    | { readonly kind: 'source'; readonly path: string; readonly line: number }
    | { readonly kind: 'function'; readonly name: string }
    | {
        readonly kind: 'instruction';
        readonly address: Gva;
        /** The text of code that it was set in, if any. */
        readonly listing?: number;
      }
    | { readonly kind: 'exception'; readonly filter: string }
    | { readonly kind: 'data'; readonly address: Gva; readonly length: number; readonly access: WatchAccess }
  );

/** What became of it. `verified` only while the target holds it, at one of its places at least. */
export interface BreakpointStatus {
  readonly id: number;
  readonly kind: BreakpointKind;
  readonly verified: boolean;
  readonly message: string | undefined;
  readonly location: { readonly path: string; readonly line: number } | undefined;
  readonly address: Gva | undefined;
}

/** What the name of a function breakpoint says: `FUNCTION` or `FILE:FUNCTION`. */
export function functionNamed(text: string): { readonly file: string | undefined; readonly name: string } {
  // Not at the `::` of a path of Rust.
  const [, file, name = text] = /^(.*[^:]):([^:]+)$/.exec(text) ?? [];
  return { file, name };
}

export class Breakpoint {
  sites: readonly Site[] = [];
  location: { readonly path: string; readonly line: number } | undefined;
  /** Why it cannot be placed anywhere; what the sites say comes on top. */
  problem: string | undefined;
  parsed: ParsedConditions | undefined;
  /** How often its condition held. */
  hits = 0;
  /** The user has been told that its condition cannot be evaluated. */
  isConditionTold = false;
  /** The guest's own breakpoint instructions that it stops at. */
  readonly traps: readonly TrapClass[];
  lastStatus = '';

  constructor(
    readonly id: number,
    readonly request: BreakpointRequest,
    /** Of the kernel's symbols, when the addresses in the request were true. */
    readonly bias: bigint,
  ) {
    this.traps = request.kind === 'exception' ? (filterNamed(request.filter)?.traps ?? []) : [];
  }

  status(use: StopPointUse): BreakpointStatus {
    const placed = this.sites.filter((site) => site.placed);
    const notices = [...new Set(this.sites.flatMap((site) => site.notice ?? []))];
    const problems = [...new Set(this.sites.flatMap((site) => site.problem ?? []))];
    const partly = placed.length > 0 && placed.length < this.sites.length;
    const message =
      this.problem ??
      (problems.length === 0
        ? [...scarceNote(placed, use), ...notices].join(' ') || undefined
        : `${partly ? `Only ${placed.length} of ${this.sites.length} places: ` : ''}${[...problems, ...notices].join(' ')}`);
    return {
      id: this.id,
      kind: this.request.kind,
      // Nothing has to be in place for the guest's own traps.
      verified: this.problem === undefined && (placed.length > 0 || this.traps.length > 0),
      message,
      // A debugger's view would take one that was set in a listing to the source.
      location: 'listing' in this.request ? undefined : this.location,
      address: (placed[0] ?? this.sites[0])?.address,
    };
  }
}

/** What the user's breakpoints take of what is scarce, and how much of it the vCPU has. */
export interface StopPointUse {
  readonly hardware: number;
  /** How many of the watchpoints each of them takes is the target's affair. */
  readonly data: number;
  readonly breakpoints: number;
  readonly watchpoints: number;
}

/** How much of what is scarce a breakpoint takes: people who choose what to keep want to know. */
function scarceNote(placed: readonly Site[], use: StopPointUse): readonly string[] {
  const hardware = placed.filter((site) => site.placed?.kind === 'hardware');
  if (hardware.length > 0) {
    const unmapped = hardware.some(({ isMapped }) => !isMapped) ? ['No code is mapped there yet.'] : [];
    return [`A hardware breakpoint; ${use.hardware} of the vCPU's ${use.breakpoints} are in use.`, ...unmapped];
  }
  if (!placed.some(({ kind }) => kind === 'data')) return [];
  const set = use.data === 1 ? '1 data breakpoint is set' : `${use.data} data breakpoints are set`;
  return [`A watchpoint; the vCPU has ${use.watchpoints}, and ${set}.`];
}

/** What became of the breakpoints that were asked for, and of others for their sake. */
export interface BreakpointChanges {
  readonly statuses: readonly BreakpointStatus[];
  readonly others: readonly BreakpointStatus[];
}

/** Whether a step that arrives at it is a hit, also while it is hidden from the guest. */
const countsSteps = (site: Site): boolean => site.kind === 'code' && (site.placed !== undefined || site.isHidden);

/** Everything the user wants to stop at. Preconditions of the asynchronous calls: stopped, visibly or not. */
export class Breakpoints {
  readonly placement: Placement;
  readonly #all = new Map<number, Breakpoint>();
  #nextId = 1;

  constructor(
    private readonly symbols: KernelSymbols | undefined,
    private readonly paths: SourcePaths,
    private readonly defaultMode: BreakpointMode,
  ) {
    this.placement = new Placement(symbols);
  }

  /** Replaces the breakpoints that `replaced` selects. One that is asked for again as it was keeps its id and count. */
  async set(
    requests: readonly BreakpointRequest[],
    replaced: (breakpoint: Breakpoint) => boolean,
    context: StopContext,
    vcpu: Vcpu,
  ): Promise<BreakpointChanges> {
    const old = [...this.#all.values()].filter(replaced);
    const kept: (Breakpoint | undefined)[] = requests.map((request) => {
      const text = identity(request);
      const index = old.findIndex((breakpoint) => identity(breakpoint.request) === text);
      return index < 0 ? undefined : old.splice(index, 1)[0];
    });
    for (const breakpoint of old) await this.#drop(breakpoint, context);
    const asked: Breakpoint[] = [];
    for (const [index, request] of requests.entries()) {
      asked.push(kept[index] ?? (await this.#add(request, context, vcpu)));
    }
    // What was given up may be what others lack.
    await this.placement.reconsider(context, vcpu);
    context.target.setTrapFilter(trapFilterOf(new Set(this.#working().flatMap(({ traps }) => traps))));
    const ids = new Set(asked.map(({ id }) => id));
    const others = this.#changed(context).filter(({ id }) => !ids.has(id));
    const use = this.use(context);
    return { statuses: asked.map((breakpoint) => breakpoint.status(use)), others };
  }

  /** To be called at each stop: see `Placement.reconsider`. Returns what the user should hear of. */
  async reconsider(context: StopContext, vcpu: Vcpu): Promise<readonly BreakpointStatus[]> {
    await this.placement.reconsider(context, vcpu);
    return this.#changed(context);
  }

  /** Not what a step takes for as long as it lasts: the user can do nothing about that. */
  use({ target }: Pick<StopContext, 'target'>): StopPointUse {
    const { hardwareBreakpoints: breakpoints, hardwareWatchpoints: watchpoints } = target.capabilities;
    const sites = [...new Set([...this.#all.values()].flatMap((breakpoint) => breakpoint.sites))];
    const count = (kind: Placed['kind']): number => sites.filter(({ placed }) => placed?.kind === kind).length;
    return { hardware: count('hardware'), data: count('watch'), breakpoints, watchpoints };
  }

  /** Those of which something else is to be said than the last time. */
  #changed(context: StopContext): readonly BreakpointStatus[] {
    const use = this.use(context);
    const changed: BreakpointStatus[] = [];
    for (const breakpoint of this.#all.values()) {
      const status = breakpoint.status(use);
      const text = JSON.stringify({ ...status, address: undefined });
      if (text === breakpoint.lastStatus) continue;
      breakpoint.lastStatus = text;
      changed.push(status);
    }
    return changed;
  }

  /** The kernel has moved: breakpoints move with it, also those that were set at an address in it. Their ids and counts
   *  stay. */
  async rebind(context: StopContext, vcpu: Vcpu): Promise<void> {
    for (const breakpoint of this.#all.values()) {
      const old = breakpoint.sites;
      breakpoint.sites = [];
      for (const site of old) await this.placement.release(site, context);
    }
    for (const breakpoint of this.#all.values()) await this.#place(breakpoint, context, vcpu);
  }

  /** The breakpoints behind stop points that the target reports. */
  behind(ids: readonly StopPointId[]): readonly Breakpoint[] {
    const sites = new Set(ids.flatMap((id) => this.placement.siteOf(id) ?? []));
    return [...this.#all.values()].filter((breakpoint) => breakpoint.sites.some((site) => sites.has(site)));
  }

  /** The exception filters that take a trap of the guest's own. */
  taking(trap: TrapClass): readonly Breakpoint[] {
    return this.#working().filter(({ traps }) => traps.includes(trap));
  }

  #working(): readonly Breakpoint[] {
    return [...this.#all.values()].filter(({ problem }) => problem === undefined);
  }

  /** The breakpoints at an address that a step arrived at. */
  at(address: Gva): readonly Breakpoint[] {
    return [...this.#all.values()].filter((breakpoint) =>
      breakpoint.sites.some((site) => countsSteps(site) && site.address === address),
    );
  }

  /** The first address after `from` and before `to` that a step must not run past. */
  firstBetween(from: Gva, to: Gva): Gva | undefined {
    return [...this.#all.values()]
      .flatMap(({ sites }) => sites.filter(countsSteps).map(({ address }) => address))
      .filter((address) => address > from && address < to)
      .reduce<Gva | undefined>(
        (first, address) => (first === undefined || address < first ? address : first),
        undefined,
      );
  }

  async #add(request: BreakpointRequest, context: StopContext, vcpu: Vcpu): Promise<Breakpoint> {
    const breakpoint = new Breakpoint(this.#nextId++, request, this.symbols?.bias ?? 0n);
    this.#all.set(breakpoint.id, breakpoint);
    try {
      const lookup = await context.pc(vcpu);
      const isType = (name: string): boolean => this.symbols?.typeNamed(undefined, name, lookup) !== undefined;
      breakpoint.parsed = parseConditions(request, isType);
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      breakpoint.problem = error.message;
      return breakpoint;
    }
    await this.#place(breakpoint, context, vcpu);
    return breakpoint;
  }

  async #place(breakpoint: Breakpoint, context: StopContext, vcpu: Vcpu): Promise<void> {
    const { request, bias } = breakpoint;
    if (breakpoint.parsed === undefined) return;
    breakpoint.problem = undefined;
    try {
      if (breakpoint.traps.length > 0 && !context.target.capabilities.guestTraps) {
        throw new UserError("Breakpoint instructions of the guest's own are not seen through this target.");
      }
      if (request.kind === 'data') {
        const { length, access } = request;
        const address = this.#moved(request.address, bias);
        const site = { kind: 'data', address, length, access, mode: 'hardware' } as const;
        breakpoint.sites = [await this.placement.acquire(site, context, vcpu)];
        return;
      }
      const locations = this.#locate(request, bias);
      const first = locations[0];
      if (first && first.line > 0 && request.kind !== 'exception')
        breakpoint.location = { path: this.#path(request, first), line: first.line };
      const mode = request.mode ?? this.defaultMode;
      const sites: Site[] = [];
      breakpoint.sites = sites; // those that were acquired are to be released, also when the next is refused
      for (const address of new Set(locations.map((location) => Gva(location.address)))) {
        sites.push(await this.placement.acquire({ kind: 'code', address, mode }, context, vcpu));
      }
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      breakpoint.problem = error.message;
    }
  }

  /** Where an address that was in the kernel at a former bias is now. */
  #moved(address: Gva, bias: bigint): Gva {
    return this.symbols?.moved(address, bias) ?? address;
  }

  async #drop(breakpoint: Breakpoint, context: StopContext): Promise<void> {
    this.#all.delete(breakpoint.id);
    for (const site of breakpoint.sites) await this.placement.release(site, context);
  }

  #path(request: BreakpointRequest, location: CodeLocation): string {
    return request.kind === 'source' ? request.path : this.paths.local(location);
  }

  /** Where a request goes; UserError when nowhere. */
  #locate(
    request: BreakpointRequest,
    bias: bigint,
  ): readonly Pick<CodeLocation, 'address' | 'line' | 'file' | 'directory' | 'column'>[] {
    if (request.kind === 'exception' && filterNamed(request.filter)?.calls === undefined) return [];
    if (request.kind === 'instruction') return [this.#instruction(this.#moved(request.address, bias))];
    const { symbols } = this;
    if (!symbols) throw new UserError('There are no symbols; name the vmlinux in "symbols".');
    if (request.kind === 'exception') return this.#functionsOf(request.filter, symbols);
    if (request.kind === 'function') {
      // Symbol tables are full of symbols without a name.
      if (request.name === '') throw new UserError('The function name is empty.');
      const { file, name } = functionNamed(request.name);
      const locations = symbols.functionBreakpoint(name);
      if (file !== undefined) return inFile(locations, file, name);
      if (locations.length > 0) return locations;
      // Assembly has no line table entry for its prologue: its first instruction it is.
      const named = symbols.named(request.name).filter((symbol) => symbol.kind !== 'object');
      if (named.length === 0)
        throw new UserError(`There is no function \`${request.name}\` in ${symbols.source.path}.`);
      return named.map(({ address }) => ({ ...noLocation, address }));
    }
    if (request.kind !== 'source') return [];
    const { debugInformationNotice: notice } = symbols.source;
    if (notice !== undefined) throw new UserError(notice);
    const locations = this.paths.locations(symbols, request.path, request.line);
    if (locations.length === 0) {
      throw new UserError(`There is no code at ${request.path}:${request.line} in ${symbols.source.path}.`);
    }
    return locations;
  }

  #functionsOf(filter: string, symbols: KernelSymbols): readonly CodeLocation[] {
    const names = filterNamed(filter)?.calls?.flatMap(({ functions }) => functions) ?? [];
    const locations = names.flatMap((name) => symbols.functionBreakpoint(name));
    if (locations.length > 0) return locations;
    throw new UserError(`There is none of the functions ${names.join(', ')} in ${symbols.source.path}.`);
  }

  #instruction(address: Gva): CodeLocation {
    const row = this.symbols?.lineAt(address);
    return row ? { ...row, address } : { ...noLocation, address };
  }
}

/** Of functions of one name, those of the file whose path ends as the user says (gdb's `FILE:FUNCTION`). */
function inFile(locations: readonly CodeLocation[], file: string, name: string): readonly CodeLocation[] {
  const pattern = new PathPattern(file);
  const found = locations.filter((location) => pattern.rank(location.file) > 0);
  if (found.length > 0) return found;
  const files = [...new Set(locations.map((location) => location.file))].filter((path) => path !== '');
  throw new UserError(
    files.length === 0
      ? `There is no function \`${name}\`.`
      : `There is no function \`${name}\` in ${file}; there is in ${files.slice(0, 5).join(', ')}.`,
  );
}

const noLocation = { file: '', directory: '', line: 0, column: 0 };

const identity = (request: BreakpointRequest): string =>
  JSON.stringify(request, (_key, value: unknown) => (typeof value === 'bigint' ? hex(value) : value));
