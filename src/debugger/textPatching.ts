import { Gva, hex } from '../base/address.ts';
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
  readonly #hooks = new Map<TextPatcher, Site>();
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
    const concerned = placement.software.filter((site) => this.#hasOtherUsers(site));
    if (concerned.length === 0 && this.#calls.length === 0) return this.#release(context);
    this.#patchers ??= symbols.patchedText.patchers();
    for (const patcher of this.#patchers) {
      if (this.#hooks.has(patcher)) continue;
      if (patcher.addressAt === undefined && !concerned.some((site) => this.#mayBePatched(site))) continue;
      const address = Gva(patcher.address + symbols.bias);
      this.#hooks.set(patcher, await placement.acquire({ kind: 'code', address, mode: 'auto' }, context, vcpu));
    }
  }

  /** The kernel has moved. */
  async rebind(context: StopContext): Promise<void> {
    const calls = this.#calls;
    this.#calls = [];
    for (const { returnSite, hidden } of calls) {
      await this.placement.show(hidden, context, context.focus);
      await this.placement.release(returnSite, context);
    }
    await this.#release(context);
  }

  /** A vCPU has arrived at an address, by running or by steps. */
  async arrived(address: Gva, context: StopContext, vcpu: Vcpu): Promise<void> {
    for (const call of this.#calls) {
      if (call.returnSite.address === address && call.stackPointer === (await stackPointer(context, vcpu))) {
        await this.#returned(call, context, vcpu);
      }
    }
    for (const [patcher, site] of this.#hooks) {
      if (site.address === address) await this.#called(patcher, site, context, vcpu);
    }
  }

  async #called(patcher: TextPatcher, hook: Site, context: StopContext, vcpu: Vcpu): Promise<void> {
    const { linkRegister } = context.target.architecture.unwind;
    if (linkRegister === undefined) return;
    const concerned = await this.#concerned(patcher, context, vcpu);
    if (concerned.length === 0) return;
    const address = Gva((await context.registers(vcpu)).get(linkRegister) ?? 0n);
    const returnSite = await this.placement.acquire({ kind: 'code', address, mode: 'auto' }, context, vcpu);
    if (returnSite.placed === undefined) {
      const name = this.symbols?.describe(hook.address) ?? hex(hook.address);
      const reason = returnSite.problem ?? '';
      await this.placement.release(returnSite, context);
      const what = `The guest is patching its code and finds this breakpoint in it: the end of ${name} cannot be seen.`;
      this.placement.expose(concerned, `${what} ${reason}`);
      return;
    }
    const call = { returnSite, stackPointer: await stackPointer(context, vcpu), hidden: concerned };
    this.#calls = [...this.#calls, call];
    await this.placement.hide(concerned, context, vcpu);
    await this.#keepReturns(call, context, vcpu);
  }

  /** Hiding must not keep a return from being seen: then the guest had better find the breakpoint. */
  async #keepReturns(call: Call, context: StopContext, vcpu: Vcpu): Promise<void> {
    const lost = call.hidden.filter(
      (site) => site.placed === undefined && this.#calls.some(({ returnSite }) => returnSite === site),
    );
    if (lost.length === 0) return;
    const hidden = call.hidden.filter((site) => !lost.includes(site));
    this.#calls = this.#calls.map((each) => (each === call ? { ...call, hidden } : each));
    await this.placement.show(lost, context, vcpu);
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
      if (address === undefined) return software.filter((site) => this.#mayBePatched(site));
      return software.filter((site) => site.address >= address - probedRange && site.address <= address + probedRange);
    } catch (error) {
      if (error instanceof MemoryFault) return [];
      throw error;
    }
  }

  /** Outside of the image, as in a module, nothing is known of what the guest replaces. */
  #mayBePatched({ isPatched, address }: Site): boolean {
    return isPatched || this.symbols?.imageBytes(address, 1) === undefined;
  }

  #hasOtherUsers(site: Site): boolean {
    const own = [...this.#hooks.values(), ...this.#calls.map(({ returnSite }) => returnSite)];
    return site.users > own.filter((each) => each === site).length;
  }

  async #release(context: StopContext): Promise<void> {
    const hooks = [...this.#hooks.values()];
    this.#hooks.clear();
    for (const site of hooks) await this.placement.release(site, context);
  }
}

async function stackPointer(context: StopContext, vcpu: Vcpu): Promise<bigint> {
  return (await context.registers(vcpu)).get(context.target.architecture.stackPointer) ?? 0n;
}
