import { type Gpa, Gva } from '../base/address.ts';
import {
  type Departure,
  hostPlaceRegisters,
  isMmuOn,
  KernelImage,
  type PlaceRegisters,
  placeIn,
  placeRegisters,
} from '../linux/kernelImage.ts';
import type { Vcpu } from '../target/target.ts';
import type { Placement, Site } from './placement.ts';
import type { StopContext } from './stopContext.ts';
import type { KernelSymbols } from './symbols.ts';

/** Where a kernel is that has said where it runs, and is about to move (arch/arm64/kernel/head.S of v5.x). */
const relocating = new Set(['__primary_switch', '__primary_switched', '__relocate_kernel', 'kaslr_early_init']);

/** Keeps the bias of the kernel's symbols right: from where the kernel was loaded to where it has moved itself. At a launch
 *  a hardware breakpoint stands at each branch to its virtual addresses, so that it is followed before it runs there. */
export class KernelPlace {
  readonly #image: KernelImage | undefined;
  readonly #departures = new Map<Site, Departure>();
  /** Where the image was loaded. */
  #base: Gpa | undefined;
  /** What the last search that found nothing went by. */
  #searched = '';
  /** Whether the MMU was on when another kernel was looked for. */
  readonly #asked = new Set<boolean>();
  /** The kernel has said where it runs, and will not move again. */
  #settled = false;

  constructor(
    private readonly symbols: KernelSymbols | undefined,
    private readonly placement: Placement,
  ) {
    this.#image = symbols && KernelImage.of(symbols.source);
  }

  /** What is known of a vCPU's departure from where the kernel was loaded. */
  departureOf(site: Site): Departure | undefined {
    return this.#departures.get(site);
  }

  /** Looks at a stop where the kernel is; `departing`: a vCPU that is about to take a departure. Returns whether the bias
   *  has changed. */
  async follow(
    context: StopContext,
    vcpu: Vcpu,
    departing?: { readonly vcpu: Vcpu; readonly departure: Departure },
  ): Promise<boolean> {
    const { symbols } = this;
    const image = this.#image;
    if (symbols === undefined || image === undefined || this.#settled) return false;
    const before = symbols.bias;
    if (this.#base === undefined) {
      this.#base = await this.#find(image, context, vcpu);
      if (this.#base === undefined) return false;
      const tables = image.tables(this.#base);
      if (tables) context.target.setKernelTables({ from: tables.trampoline, to: tables.own });
    }
    if (departing === undefined) await this.#look(image, this.#base, symbols, context, vcpu);
    else await this.#depart(image, symbols, departing.departure, context, departing.vcpu);
    return symbols.bias !== before;
  }

  async #depart(
    image: KernelImage,
    symbols: KernelSymbols,
    departure: Departure,
    context: StopContext,
    vcpu: Vcpu,
  ): Promise<void> {
    const target = (await context.registers(vcpu)).get(departure.register) ?? 0n;
    symbols.bias = BigInt.asUintN(64, target - (image.arrival ?? 0n));
    if ([...this.#departures.values()].at(-1) === departure) await this.#settle(context);
  }

  async #look(image: KernelImage, base: Gpa, symbols: KernelSymbols, context: StopContext, vcpu: Vcpu): Promise<void> {
    const bias = await image.bias(base, context.target.physicalMemory);
    if (bias !== undefined) {
      symbols.bias = bias;
      // A kernel that relocates itself twice, before v6.0, does so in these; one without a seed never does.
      const here = symbols.at(await context.pc(vcpu))?.symbol.name ?? '';
      if (this.#departures.size <= 1 || !relocating.has(here)) await this.#settle(context);
    } else if (this.#departures.size === 0) {
      symbols.bias = image.loadedBias(base);
      await this.#watch(image, context, vcpu);
    }
  }

  /** The build-id of the kernel that is there instead of the one the symbols are of, if that can be told. Looks for it
   *  once with the MMU off, and once with it on. */
  async otherBuild(context: StopContext, vcpu: Vcpu): Promise<string | undefined> {
    if (this.#image === undefined || this.#base !== undefined || this.#asked.size === 2) return undefined;
    const registers = await placeOf(context, vcpu);
    if (registers === undefined || this.#asked.has(isMmuOn(registers))) return undefined;
    this.#asked.add(isMmuOn(registers));
    return this.#image.otherBuild(registers, context.target.physicalMemory);
  }

  async #find(image: KernelImage, context: StopContext, vcpu: Vcpu): Promise<Gpa | undefined> {
    const registers = await placeOf(context, vcpu);
    if (registers === undefined) return undefined;
    // A search takes a thousand reads: one for each set of page tables.
    const where = `${registers.sctlr_el1} ${registers.ttbr1_el1}`;
    if (where === this.#searched) return undefined;
    this.#searched = where;
    return image.find(registers, context.target.physicalMemory);
  }

  // One that finds no room is done without: the next stop shows where the kernel went.
  async #watch(image: KernelImage, context: StopContext, vcpu: Vcpu): Promise<void> {
    const bias = this.symbols?.bias ?? 0n;
    for (const departure of image.departures()) {
      const address = Gva(departure.address + bias);
      const site = await this.placement.acquire({ kind: 'code', address, mode: 'hardware' }, context, vcpu);
      this.#departures.set(site, departure);
    }
  }

  async #settle(context: StopContext): Promise<void> {
    this.#settled = true;
    for (const site of this.#departures.keys()) await this.placement.release(site, context);
    this.#departures.clear();
  }
}

async function placeOf(context: StopContext, vcpu: Vcpu): Promise<PlaceRegisters | undefined> {
  const offered = new Set(context.target.registers.map(({ name }) => name));
  if (!placeRegisters.every((name) => offered.has(name))) return undefined;
  const names = [...placeRegisters, ...hostPlaceRegisters].filter((name) => offered.has(name));
  return placeIn(await context.readRegisters(vcpu, names));
}
