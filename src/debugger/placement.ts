import { type Gva, hex } from '../base/address.ts';
import { TargetError } from '../base/errors.ts';
import type { StopPointId, Vcpu, WatchAccess } from '../target/target.ts';
import type { StopContext } from './stopContext.ts';
import type { KernelSymbols } from './symbols.ts';

export type BreakpointMode = 'auto' | 'software' | 'hardware';

/** A place in the guest that stop points are taken for; several breakpoints may share it. */
export interface Site {
  readonly kind: 'code' | 'data';
  readonly address: Gva;
  readonly mode: BreakpointMode;
  readonly placed: Placed | undefined;
  /** Why it is not placed. */
  readonly problem: string | undefined;
  /** The guest itself replaces the instruction there. */
  readonly isPatched: boolean;
  /** Software, but out of the guest's sight for the moment. */
  readonly isHidden: boolean;
  /** There was memory when it was last looked at. */
  readonly isMapped: boolean;
}

/** Hardware breakpoints in use, and what the vCPU has. */
export interface HardwareUse {
  readonly used: number;
  readonly breakpoints: number;
  readonly watchpoints: number;
}

export interface Placed {
  readonly id: StopPointId;
  readonly kind: 'software' | 'hardware' | 'watch';
}

class OwnSite implements Site {
  placed: Placed | undefined;
  problem: string | undefined;
  users = 0;
  /** How much is under way in the guest that must not see it. */
  hiding = 0;
  isMapped = true;

  constructor(
    readonly key: string,
    readonly kind: 'code' | 'data',
    readonly address: Gva,
    readonly length: number,
    readonly access: WatchAccess,
    readonly isPatched: boolean,
    public mode: BreakpointMode,
  ) {}

  get isHidden(): boolean {
    return this.hiding > 0;
  }
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
  readonly #sites = new Map<string, OwnSite>();
  readonly #byId = new Map<StopPointId, OwnSite>();

  constructor(private readonly symbols: KernelSymbols | undefined) {}

  /** Adds one user of a site and tries to place it. */
  async acquire(request: SiteRequest, context: StopContext, vcpu: Vcpu): Promise<Site> {
    const { kind, address, mode, length = 0, access = 'write' } = request;
    const key = kind === 'code' ? `${address}` : `${address}/${length}/${access}`;
    let site = this.#sites.get(key);
    if (!site) {
      const isPatched = kind === 'code' && this.symbols?.isPatched(address) === true;
      site = new OwnSite(key, kind, address, length, access, isPatched, mode);
      this.#sites.set(key, site);
    }
    site.users += 1;
    // A user who names a mode gets it, also where another one left the choice open.
    if (site.mode === 'auto' && mode !== 'auto') {
      site.mode = mode;
      if (site.placed && site.placed.kind !== mode) await this.#take(site, context);
    }
    if (!site.placed && !site.isHidden) await this.#place(site, context, vcpu);
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
   *  kernel's code is mapped by now, so that the few hardware ones are free again. */
  async reconsider(context: StopContext, vcpu: Vcpu): Promise<void> {
    for (const site of this.#sites.values()) {
      if (site.mode !== 'auto' || site.kind !== 'code' || site.placed?.kind !== 'hardware') continue;
      if (site.isPatched || site.isHidden) continue;
      if (!(await holdsImageBytes(site.address, context, vcpu))) continue;
      const old = site.placed.id;
      if ((await this.#insert(site, 'software', context, vcpu)) !== undefined) continue;
      this.#byId.delete(old);
      await context.target.remove(old);
    }
    for (const site of this.#sites.values()) {
      if (!site.isMapped) site.isMapped = (await instructionAt(site.address, context, vcpu)) !== undefined;
      if (!site.placed && !site.isHidden) await this.#place(site, context, vcpu);
    }
  }

  /** The guest has written over software breakpoints: what is there now may be no code any more, and is only patched again
   *  where that is as sure as at first. */
  async replace(ids: readonly StopPointId[], context: StopContext, vcpu: Vcpu): Promise<void> {
    for (const id of ids) {
      const site = this.#byId.get(id);
      if (site === undefined) continue;
      await this.#take(site, context);
      await this.#place(site, context, vcpu);
    }
  }

  hardwareUse({ target }: StopContext): HardwareUse {
    const { hardwareBreakpoints, hardwareWatchpoints } = target.capabilities;
    const used = [...this.#sites.values()].filter(({ placed }) => placed?.kind === 'hardware').length;
    return { used, breakpoints: hardwareBreakpoints, watchpoints: hardwareWatchpoints };
  }

  /** The code sites that are in guest memory while it runs. */
  get software(): readonly Site[] {
    return [...this.#sites.values()].filter(({ placed }) => placed?.kind === 'software');
  }

  /** Takes software sites out while the guest looks at its code there; hardware stands in for the automatic ones where
   *  some is left. To be taken back by one `show` for each `hide`. */
  async hide(sites: readonly Site[], context: StopContext, vcpu: Vcpu): Promise<void> {
    for (const site of sites) {
      const own = this.#own(site);
      if (own === undefined) continue;
      own.hiding += 1;
      if (own.placed?.kind !== 'software') continue;
      await this.#take(own, context);
      if (own.mode === 'auto') await this.#insert(own, 'hardware', context, vcpu);
    }
  }

  /** Whatever the guest has put there is now under the breakpoint. */
  async show(sites: readonly Site[], context: StopContext, vcpu: Vcpu): Promise<void> {
    for (const site of sites) {
      const own = this.#own(site);
      if (own === undefined) continue;
      own.hiding -= 1;
      if (own.isHidden || own.mode === 'hardware') continue;
      const standIn = own.placed;
      const problem = await this.#insert(own, 'software', context, vcpu);
      if (standIn === undefined) own.problem = problem;
      else if (problem === undefined) {
        this.#byId.delete(standIn.id);
        await context.target.remove(standIn.id);
      }
    }
  }

  async #place(site: OwnSite, context: StopContext, vcpu: Vcpu): Promise<void> {
    if (site.kind === 'data') {
      site.problem = await this.#insert(site, 'watch', context, vcpu);
      return;
    }
    const section = this.symbols?.dataSectionAt(site.address);
    if (section !== undefined) {
      site.problem = `There is no code at ${hex(site.address)}: it is in ${section}.`;
      return;
    }
    const { instructionAlignment } = context.target.architecture;
    if (site.address % BigInt(instructionAlignment) !== 0n) {
      site.problem = `There is no instruction at ${hex(site.address)}: they are aligned to ${instructionAlignment} bytes.`;
      return;
    }
    site.isMapped = (await instructionAt(site.address, context, vcpu)) !== undefined;
    if ((await isExecutable(site.address, context, vcpu)) === false) {
      site.problem = `There is no code at ${hex(site.address)}: its page is not executable.`;
      return;
    }
    if (site.mode === 'software') {
      site.problem = await this.#insert(site, 'software', context, vcpu);
      return;
    }
    // Where the guest itself replaces the instruction it must find its own: hardware, as far as it goes.
    if (site.mode === 'auto' && site.isPatched) {
      if ((await this.#insert(site, 'hardware', context, vcpu)) === undefined) return;
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
  async #insert(site: OwnSite, kind: Placed['kind'], context: StopContext, vcpu: Vcpu): Promise<string | undefined> {
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

  #overBudget(kind: 'hardware' | 'watch', wanted: OwnSite, context: StopContext): string | undefined {
    const { hardwareBreakpoints, hardwareWatchpoints } = context.target.capabilities;
    const [budget, name] =
      kind === 'hardware' ? [hardwareBreakpoints, 'hardware breakpoints'] : [hardwareWatchpoints, 'watchpoints'];
    const used = [...this.#sites.values()].filter((site) => site !== wanted && site.placed?.kind === kind).length;
    if (used < budget) return undefined;
    return `No ${kind === 'watch' ? 'watchpoint' : 'hardware breakpoint'} is left for ${hex(wanted.address)}: ${used} of the vCPU's ${budget} ${name} are in use.`;
  }

  async #take(site: OwnSite, context: StopContext): Promise<void> {
    const { placed } = site;
    if (!placed) return;
    site.placed = undefined;
    this.#byId.delete(placed.id);
    await context.target.remove(placed.id);
  }

  #own(site: Site): OwnSite | undefined {
    return [...this.#sites.values()].find((candidate) => candidate === site);
  }
}

/** Whether memory holds what the image has at that address: then the page is the kernel's and can be patched. */
async function holdsImageBytes(address: Gva, context: StopContext, vcpu: Vcpu): Promise<boolean> {
  const { length } = context.target.architecture.breakpointInstruction;
  const expected = context.symbols?.imageBytes(address, length);
  const actual = expected && (await instructionAt(address, context, vcpu));
  return actual !== undefined && expected?.every((byte, n) => byte === actual[n]) === true;
}

/** As many bytes as a software breakpoint takes; undefined where there is no memory. */
async function instructionAt(address: Gva, context: StopContext, vcpu: Vcpu): Promise<Uint8Array | undefined> {
  try {
    return await context.memory(vcpu).read(address, context.target.architecture.breakpointInstruction.length);
  } catch (error) {
    if (error instanceof TargetError) return undefined;
    throw error;
  }
}

/** Undefined where nothing is mapped. */
async function isExecutable(address: Gva, context: StopContext, vcpu: Vcpu): Promise<boolean | undefined> {
  try {
    return (await context.target.translate(vcpu, address)).executable;
  } catch (error) {
    if (error instanceof TargetError) return undefined;
    throw error;
  }
}
