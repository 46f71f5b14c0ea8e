import { Gva } from '../base/address.ts';
import { MemoryFault } from '../base/errors.ts';
import { patchedAddress, probedRange, type TextPatcher } from '../linux/patchedText.ts';
import type { Vcpu } from '../target/target.ts';
import type { Placement, Site } from './placement.ts';
import type { StopContext } from './stopContext.ts';
import type { KernelSymbols } from './symbols.ts';

/** A call of a function that looks at the kernel's code, until it returns. */
interface Call {
  readonly returnSite: Site;
  readonly stackPointer: bigint;
  readonly hidden: readonly Site[];
}

/** Keeps software breakpoints out of the guest's sight while it reads and rewrites its own code: for a kprobe, for ftrace,
 *  for a static key. A breakpoint of our own stands at the functions that do so and, while one of them runs, where it
 *  returns to; in between the breakpoints that it would come across are out of guest memory. So the guest finds its own
 *  instruction, and what it writes is what the breakpoint is put over afterwards. */
export class TextPatching {
  readonly #hooks = new Map<Site, TextPatcher>();
  #calls: readonly Call[] = [];
  #patchers: readonly TextPatcher[] | undefined;

  constructor(
    private readonly symbols: KernelSymbols | undefined,
    private readonly placement: Placement,
  ) {}

  /** To be called before each resume: without software breakpoints there is nothing to keep from the guest. */
  async prepare(context: StopContext, vcpu: Vcpu): Promise<void> {
    const { symbols, placement } = this;
    if (symbols === undefined) return;
    const concerned = placement.software.filter((site) => !this.#isOwn(site));
    if (concerned.length === 0 && this.#calls.length === 0) return this.#release(context);
    this.#patchers ??= symbols.patchedText.patchers();
    const hooked = new Set(this.#hooks.values());
    for (const patcher of this.#patchers) {
      if (hooked.has(patcher)) continue;
      if (patcher.addressAt === undefined && !concerned.some(({ isPatched }) => isPatched)) continue;
      const address = Gva(patcher.address + symbols.bias);
      this.#hooks.set(await placement.acquire({ kind: 'code', address, mode: 'auto' }, context, vcpu), patcher);
    }
  }

  /** The kernel has moved. */
  async rebind(context: StopContext): Promise<void> {
    const calls = this.#calls;
    this.#calls = [];
    for (const { returnSite } of calls) await this.placement.release(returnSite, context);
    await this.#release(context);
  }

  /** A vCPU has arrived at an address, by running or by steps. */
  async arrived(address: Gva, context: StopContext, vcpu: Vcpu): Promise<void> {
    for (const call of this.#calls) {
      if (call.returnSite.address === address && call.stackPointer === (await stackPointer(context, vcpu))) {
        await this.#returned(call, context, vcpu);
      }
    }
    for (const [site, patcher] of this.#hooks) {
      if (site.address === address) await this.#called(patcher, context, vcpu);
    }
  }

  async #called(patcher: TextPatcher, context: StopContext, vcpu: Vcpu): Promise<void> {
    const hidden = await this.#concerned(patcher, context, vcpu);
    if (hidden.length === 0) return;
    const { linkRegister = '' } = context.target.architecture.unwind;
    const address = Gva((await context.registers(vcpu)).get(linkRegister) ?? 0n);
    const returnSite = await this.placement.acquire({ kind: 'code', address, mode: 'auto' }, context, vcpu);
    this.#calls = [...this.#calls, { returnSite, stackPointer: await stackPointer(context, vcpu), hidden }];
    await this.placement.hide(hidden, context, vcpu);
  }

  async #returned(call: Call, context: StopContext, vcpu: Vcpu): Promise<void> {
    this.#calls = this.#calls.filter((each) => each !== call);
    await this.placement.release(call.returnSite, context);
    await this.placement.show(call.hidden, context, vcpu);
  }

  /** The software breakpoints that a vCPU at a patcher's first instruction would come across. */
  async #concerned(patcher: TextPatcher, context: StopContext, vcpu: Vcpu): Promise<readonly Site[]> {
    const { software } = this.placement;
    try {
      const address = await patchedAddress(patcher, await context.registers(vcpu), context.memory(vcpu));
      if (address === undefined) return software.filter(({ isPatched }) => isPatched);
      return software.filter((site) => site.address >= address - probedRange && site.address <= address + probedRange);
    } catch (error) {
      if (error instanceof MemoryFault) return [];
      throw error;
    }
  }

  #isOwn(site: Site): boolean {
    return this.#hooks.has(site) || this.#calls.some(({ returnSite }) => returnSite === site);
  }

  async #release(context: StopContext): Promise<void> {
    const hooks = [...this.#hooks.keys()];
    this.#hooks.clear();
    for (const site of hooks) await this.placement.release(site, context);
  }
}

async function stackPointer(context: StopContext, vcpu: Vcpu): Promise<bigint> {
  return (await context.registers(vcpu)).get(context.target.architecture.stackPointer) ?? 0n;
}
