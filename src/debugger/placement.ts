import { type Gva, hex } from '../base/address.ts';
import { MemoryFault, TargetError } from '../base/errors.ts';
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
  /** How many have acquired it and not released it. */
  readonly users: number;
  /** Why it is not placed. */
  readonly problem: string | undefined;
  /** What is to be said of it also while it is placed. */
  readonly notice: string | undefined;
  /** The guest itself replaces the instruction there. */
  readonly isPatched: boolean;
  /** Not a hardware one, and out of the guest's sight for the moment. */
  readonly isHidden: boolean;
  /** There was memory when it was last looked at. */
  readonly isMapped: boolean;
}

export interface Placed {
  readonly id: StopPointId;
  readonly kind: 'software' | 'hardware' | 'watch';
}

class OwnSite implements Site {
  placed: Placed | undefined;
  /** Why the target did not take it. */
  refusal: string | undefined;
  notice: string | undefined;
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
    return this.hiding > 0 && this.mode !== 'hardware';
  }

  get problem(): string | undefined {
    if (this.placed !== undefined) return undefined;
    return this.isHidden
      ? `The breakpoint at ${hex(this.address)} is out of the guest's memory while it patches its code; passages now are not seen.`
      : this.refusal;
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
      if (!isOfImage(await lookAt(site.address, context, vcpu), site.address, context)) continue;
      const old = site.placed.id;
      if ((await this.#insert(site, 'software', context, vcpu)) !== undefined) continue;
      this.#byId.delete(old);
      await context.target.remove(old);
    }
    for (const site of this.#sites.values()) {
      if (!site.placed && !site.isHidden) await this.#place(site, context, vcpu);
      else if (!site.isMapped) site.isMapped = (await lookAt(site.address, context, vcpu)) !== undefined;
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

  /** The code sites that are in guest memory while it runs, or were, and are hidden for the moment. */
  get software(): readonly Site[] {
    return [...this.#sites.values()].filter(({ placed, isHidden }) => placed?.kind === 'software' || isHidden);
  }

  /** The guest is about to look at its code with these sites in it. The next `hide` takes it back. */
  expose(sites: readonly Site[], notice: string): void {
    for (const site of sites) {
      const own = this.#own(site);
      if (own !== undefined) own.notice = notice;
    }
  }

  /** Takes software sites out while the guest looks at its code there; hardware stands in for the automatic ones where
   *  some is left. To be taken back by one `show` for each `hide`. */
  async hide(sites: readonly Site[], context: StopContext, vcpu: Vcpu): Promise<void> {
    for (const site of sites) {
      const own = this.#own(site);
      if (own === undefined) continue;
      own.hiding += 1;
      own.notice = undefined;
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
      if (standIn === undefined) own.refusal = problem;
      else if (problem === undefined) {
        this.#byId.delete(standIn.id);
        await context.target.remove(standIn.id);
      }
    }
  }

  async #place(site: OwnSite, context: StopContext, vcpu: Vcpu): Promise<void> {
    if (site.kind === 'data') {
      site.refusal = await this.#insert(site, 'watch', context, vcpu);
      return;
    }
    const memory = await lookAt(site.address, context, vcpu);
    site.isMapped = memory !== undefined;
    site.refusal = whyNoCode(memory, site.address, context) ?? (await this.#placeInCode(site, memory, context, vcpu));
  }

  /** Undefined when the target took it; else why not. */
  async #placeInCode(
    site: OwnSite,
    memory: InstructionMemory | undefined,
    context: StopContext,
    vcpu: Vcpu,
  ): Promise<string | undefined> {
    const insert = (kind: Placed['kind']): Promise<string | undefined> => this.#insert(site, kind, context, vcpu);
    if (site.mode !== 'auto') return insert(site.mode);
    // Where the guest itself replaces the instruction it must find its own: hardware, as far as it goes.
    if (site.isPatched && (await insert('hardware')) === undefined) return undefined;
    const whyNotSoftware = isOfImage(memory, site.address, context)
      ? await insert('software')
      : 'its address does not hold the code of the symbol file yet';
    if (whyNotSoftware === undefined) return undefined;
    const whyNotHardware = await insert('hardware');
    return whyNotHardware && `${whyNotHardware} A software breakpoint is not possible: ${whyNotSoftware}.`;
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
      site.refusal = undefined;
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
    return site instanceof OwnSite && this.#sites.get(site.key) === site ? site : undefined;
  }
}

/** What a vCPU finds at an address of code. */
interface InstructionMemory {
  /** As many as a software breakpoint takes. */
  readonly bytes: Uint8Array;
  readonly isExecutable: boolean;
}

/** Undefined where there is no memory. */
async function lookAt(address: Gva, context: StopContext, vcpu: Vcpu): Promise<InstructionMemory | undefined> {
  try {
    const bytes = await context.memory(vcpu).read(address, context.target.architecture.breakpointInstruction.length);
    return { bytes, isExecutable: await isExecutable(address, context, vcpu) };
  } catch (error) {
    if (error instanceof TargetError) return undefined;
    throw error;
  }
}

/** True where the target cannot tell. */
async function isExecutable(address: Gva, context: StopContext, vcpu: Vcpu): Promise<boolean> {
  try {
    return (await context.target.translate(vcpu, address)).executable;
  } catch (error) {
    if (error instanceof TargetError && !(error instanceof MemoryFault)) return true;
    throw error;
  }
}

/** Why there can be no code at an address; undefined where there can. */
function whyNoCode(memory: InstructionMemory | undefined, address: Gva, context: StopContext): string | undefined {
  const section = context.symbols?.dataSectionAt(address);
  if (section !== undefined) return `There is no code at ${hex(address)}: it is in ${section}.`;
  const { instructionAlignment } = context.target.architecture;
  if (address % BigInt(instructionAlignment) !== 0n)
    return `There is no instruction at ${hex(address)}: they are aligned to ${instructionAlignment} bytes.`;
  return memory?.isExecutable === false
    ? `There is no code at ${hex(address)}: its page is not executable.`
    : undefined;
}

/** Whether memory holds what the image has at that address: then the page is the kernel's and can be patched. */
function isOfImage(memory: InstructionMemory | undefined, address: Gva, context: StopContext): boolean {
  const expected = memory && context.symbols?.imageBytes(address, memory.bytes.length);
  return expected?.every((byte, n) => byte === memory?.bytes[n]) === true;
}
