import { type Gva, hex } from '../base/address.ts';
import { TargetError } from '../base/errors.ts';
import type { StopPointId, Vcpu, WatchAccess } from '../target/target.ts';
import type { StopContext } from './stopContext.ts';

export type BreakpointMode = 'auto' | 'software' | 'hardware';

/** A place in the guest that stop points are taken for; several breakpoints may share it. */
export interface Site {
  readonly kind: 'code' | 'data';
  readonly address: Gva;
  readonly mode: BreakpointMode;
  readonly placed: Placed | undefined;
  /** Why it is not placed. */
  readonly problem: string | undefined;
}

export interface Placed {
  readonly id: StopPointId;
  readonly kind: 'software' | 'hardware' | 'watch';
}

interface MutableSite {
  readonly key: string;
  readonly kind: 'code' | 'data';
  readonly address: Gva;
  readonly length: number;
  readonly access: WatchAccess;
  mode: BreakpointMode;
  placed: Placed | undefined;
  problem: string | undefined;
  users: number;
}

export interface SiteRequest {
  readonly kind: 'code' | 'data';
  readonly address: Gva;
  readonly mode: BreakpointMode;
  readonly length?: number;
  readonly access?: WatchAccess;
}

/** Takes sites into the target, as software or hardware stop points. Preconditions of every call: stopped. */
export class Placement {
  readonly #sites = new Map<string, MutableSite>();
  readonly #byId = new Map<StopPointId, MutableSite>();

  /** Adds one user of a site and tries to place it. */
  async acquire(request: SiteRequest, context: StopContext, vcpu: Vcpu): Promise<Site> {
    const { kind, address, mode, length = 0, access = 'write' } = request;
    const key = kind === 'code' ? `${address}` : `${address}/${length}/${access}`;
    let site = this.#sites.get(key);
    if (!site) {
      site = { key, kind, address, length, access, mode, placed: undefined, problem: undefined, users: 0 };
      this.#sites.set(key, site);
    }
    site.users += 1;
    // A user who names a mode gets it, also where another one left the choice open.
    if (site.mode === 'auto' && mode !== 'auto') {
      site.mode = mode;
      if (site.placed && site.placed.kind !== mode) await this.#take(site, context);
    }
    if (!site.placed) await this.#place(site, context, vcpu);
    return site;
  }

  /** Drops one user of a site; the last one takes it out of the target. */
  async release(site: Site, context: StopContext): Promise<void> {
    const own = this.#own(site);
    if (!own) return;
    own.users -= 1;
    if (own.users > 0) return;
    this.#sites.delete(own.key);
    await this.#take(own, context);
  }

  /** The site that a stop point of the target belongs to. */
  siteOf(id: StopPointId): Site | undefined {
    return this.#byId.get(id);
  }

  /** At each stop: tries again what is not placed, and moves automatic hardware breakpoints to software where the
   *  kernel's code is mapped by now, so that the few hardware ones are free again. Returns the sites that changed. */
  async reconsider(context: StopContext, vcpu: Vcpu): Promise<ReadonlySet<Site>> {
    const changed = new Set<Site>();
    for (const site of this.#sites.values()) {
      if (site.mode !== 'auto' || site.kind !== 'code' || site.placed?.kind !== 'hardware') continue;
      if (!(await holdsImageBytes(site.address, context, vcpu))) continue;
      const old = site.placed.id;
      if ((await this.#insert(site, 'software', context, vcpu)) !== undefined) continue;
      this.#byId.delete(old);
      await context.target.remove(old);
      changed.add(site);
    }
    for (const site of this.#sites.values()) {
      if (site.placed) continue;
      const before = site.problem;
      await this.#place(site, context, vcpu);
      if (site.placed || site.problem !== before) changed.add(site);
    }
    return changed;
  }

  /** The guest has written over software breakpoints: automatic ones become hardware ones where one is left, since code
   *  that the guest rewrites once (alternatives, static keys, ftrace) it may rewrite again. */
  async leaveToGuest(ids: readonly StopPointId[], context: StopContext, vcpu: Vcpu): Promise<void> {
    for (const id of ids) {
      const site = this.#byId.get(id);
      if (site?.mode !== 'auto') continue;
      if ((await this.#insert(site, 'hardware', context, vcpu)) !== undefined) continue;
      this.#byId.delete(id);
      await context.target.remove(id);
    }
  }

  async #place(site: MutableSite, context: StopContext, vcpu: Vcpu): Promise<void> {
    if (site.kind === 'data') {
      site.problem = await this.#insert(site, 'watch', context, vcpu);
      return;
    }
    if (site.mode === 'software') {
      site.problem = await this.#insert(site, 'software', context, vcpu);
      return;
    }
    let whyNotSoftware: string | undefined;
    if (site.mode === 'auto') {
      if (await holdsImageBytes(site.address, context, vcpu)) {
        whyNotSoftware = await this.#insert(site, 'software', context, vcpu);
        if (whyNotSoftware === undefined) return;
      } else whyNotSoftware = 'its address does not hold the code of the symbol file yet';
    }
    const problem = await this.#insert(site, 'hardware', context, vcpu);
    site.problem =
      problem && whyNotSoftware ? `${problem} A software breakpoint is not possible: ${whyNotSoftware}.` : problem;
  }

  /** Undefined when the target took it; else why not. */
  async #insert(
    site: MutableSite,
    kind: Placed['kind'],
    context: StopContext,
    vcpu: Vcpu,
  ): Promise<string | undefined> {
    const over = kind === 'software' ? undefined : this.#overBudget(kind, site, context);
    if (over !== undefined) return over;
    const { address, length, access } = site;
    const point = kind === 'watch' ? ({ kind, address, length, access } as const) : ({ kind, address } as const);
    try {
      const id = await context.target.insert(point, vcpu);
      site.placed = { id, kind };
      site.problem = undefined;
      this.#byId.set(id, site);
      return undefined;
    } catch (error) {
      if (!(error instanceof TargetError)) throw error;
      return error.message;
    }
  }

  #overBudget(kind: 'hardware' | 'watch', wanted: MutableSite, context: StopContext): string | undefined {
    const { hardwareBreakpoints, hardwareWatchpoints } = context.target.capabilities;
    const [budget, name] =
      kind === 'hardware' ? [hardwareBreakpoints, 'hardware breakpoints'] : [hardwareWatchpoints, 'watchpoints'];
    const used = [...this.#sites.values()].filter((site) => site !== wanted && site.placed?.kind === kind).length;
    if (used < budget) return undefined;
    return `No ${kind === 'watch' ? 'watchpoint' : 'hardware breakpoint'} is left for ${hex(wanted.address)}: ${used} of the vCPU's ${budget} ${name} are in use.`;
  }

  async #take(site: MutableSite, context: StopContext): Promise<void> {
    const { placed } = site;
    if (!placed) return;
    site.placed = undefined;
    this.#byId.delete(placed.id);
    await context.target.remove(placed.id);
  }

  #own(site: Site): MutableSite | undefined {
    return [...this.#sites.values()].find((candidate) => candidate === site);
  }
}

/** Whether memory holds what the image has at that address: then the page is the kernel's and can be patched. */
async function holdsImageBytes(address: Gva, context: StopContext, vcpu: Vcpu): Promise<boolean> {
  const { length } = context.target.architecture.breakpointInstruction;
  const expected = context.symbols?.imageBytes(address, length);
  if (!expected) return false;
  try {
    const actual = await context.memory(vcpu).read(address, length);
    return expected.every((byte, n) => byte === actual[n]);
  } catch (error) {
    if (error instanceof TargetError) return false;
    throw error;
  }
}
