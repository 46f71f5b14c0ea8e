import type { RegisterValues } from '../arch/architecture.ts';
import { Gva } from '../base/address.ts';
import { MemoryFault, UserError } from '../base/errors.ts';
import type { VirtualMemory } from '../base/memory.ts';
import type { StopEvent, Vcpu } from '../target/target.ts';
import type { SerialTarget } from './serialTarget.ts';
import type { KernelSymbols } from './symbols.ts';
import { type Frame, Stack } from './unwinder.ts';

// The smallest page of every architecture here: what is readable at one byte of it is readable at all of them.
const blockSize = 4096n;
const cachedReadLimit = 4096;
/** Why the signal of a stop is aborted: one for all, since making the default one takes longer than reading a register. */
const resumed = new UserError('The guest has resumed since; this refers to an earlier stop.');

/** One stop of the guest: owns the caches, and its signal is aborted when the guest runs again. Whatever was computed
 *  in it is stale afterwards; each call says so with a UserError, also when the guest resumed while it waited. */
export class StopContext {
  readonly #ended = new AbortController();
  readonly #general = new Map<Vcpu, Promise<RegisterValues>>();
  readonly #stacks = new Map<Vcpu, Stack>();
  readonly #blocks = new Map<string, Promise<Uint8Array>>();
  readonly #shown = new Map<Vcpu, number>();

  constructor(
    readonly target: SerialTarget,
    readonly symbols: KernelSymbols | undefined,
    /** Everything that happened when the guest stopped. */
    readonly events: readonly StopEvent[],
    /** The vCPU that requests without a thread mean. */
    public focus: Vcpu,
  ) {}

  get signal(): AbortSignal {
    return this.#ended.signal;
  }

  /** The guest is about to run: whatever refers to this stop is stale from now on. */
  end(): void {
    this.#ended.abort(resumed);
  }

  /** Throws a UserError when the guest has resumed since. */
  check(): void {
    if (this.signal.aborted) throw new UserError(resumed.message);
  }

  /** The general registers of a vCPU. */
  registers(vcpu: Vcpu): Promise<RegisterValues> {
    let values = this.#general.get(vcpu);
    if (!values) {
      values = this.#current(() => this.target.readRegisters(vcpu));
      this.#general.set(vcpu, values);
      values.catch(() => this.#general.delete(vcpu));
    }
    return values;
  }

  /** Values of any registers, by name. */
  async readRegisters(vcpu: Vcpu, names: readonly string[]): Promise<RegisterValues> {
    return this.#current(() => this.target.readRegisters(vcpu, names));
  }

  async writeRegister(vcpu: Vcpu, name: string, value: bigint): Promise<void> {
    this.#forget();
    if (name === this.target.architecture.programCounter) this.#shown.delete(vcpu);
    await this.#current(() => this.target.writeRegister(vcpu, name, value));
  }

  async pc(vcpu: Vcpu): Promise<Gva> {
    return Gva((await this.registers(vcpu)).get(this.target.architecture.programCounter) ?? 0n);
  }

  /** Virtual memory through the vCPU's translation regime. Small reads are cached until the guest runs. */
  memory(vcpu: Vcpu): VirtualMemory {
    return {
      read: (address, length) => this.#read(vcpu, address, length),
      write: async (address, bytes) => {
        this.#forget();
        await this.#current(() => this.target.memory(vcpu).write(address, bytes));
      },
    };
  }

  /** The innermost frame that the user sees of a vCPU: which of the functions inlined at its pc, counted out from the innermost
   *  (`KernelSymbols.inlinesAt`). */
  async innermost(vcpu: Vcpu): Promise<number> {
    return this.#shown.get(vcpu) ?? this.symbols?.callsAhead(await this.pc(vcpu)) ?? 0;
  }

  /** From now on the user sees this function of `KernelSymbols.inlinesAt`, also when its code only begins at the pc. */
  show(vcpu: Vcpu, inline: number): void {
    this.#shown.set(vcpu, inline);
  }

  /** The call stack of a vCPU, unwound as far as asked. */
  stack(vcpu: Vcpu): Stack {
    let stack = this.#stacks.get(vcpu);
    if (!stack) {
      stack = new Stack(this.target.architecture, this.symbols, this.memory(vcpu), () => this.#initial(vcpu));
      this.#stacks.set(vcpu, stack);
    }
    return stack;
  }

  async frame(vcpu: Vcpu, index: number): Promise<Frame> {
    const frame = (await this.stack(vcpu).frames(index + 1))[index];
    if (!frame) throw new UserError(`vCPU ${vcpu} has no stack frame ${index}.`);
    return frame;
  }

  // The general registers, and those that say how code addresses are signed.
  async #initial(vcpu: Vcpu): Promise<RegisterValues> {
    const wanted = this.target.architecture.unwind.addressing ?? [];
    const extra = wanted.filter((name) => this.target.registers.some((register) => register.name === name));
    const general = await this.registers(vcpu);
    return extra.length === 0 ? general : new Map([...general, ...(await this.readRegisters(vcpu, extra))]);
  }

  async #read(vcpu: Vcpu, address: Gva, length: number): Promise<Uint8Array> {
    if (length === 0) return new Uint8Array(0);
    const first = address - (address % blockSize);
    const end = address + BigInt(length);
    const memory = this.target.memory(vcpu);
    if (length > cachedReadLimit || end > 1n << 64n) return this.#current(() => memory.read(address, length));
    const bytes = new Uint8Array(length);
    for (let block = first; block < end; block += blockSize) {
      const from = block > address ? block : address;
      const to = block + blockSize < end ? block + blockSize : end;
      const piece = await this.#block(vcpu, Gva(block)).catch((error: unknown) => {
        if (!(error instanceof MemoryFault)) throw error;
        return undefined;
      });
      // A block that faults may still hold the bytes asked for; the exact read gives the exact answer.
      const part =
        piece?.subarray(Number(from - block), Number(to - block)) ??
        (await this.#current(() => memory.read(Gva(from), Number(to - from))));
      bytes.set(part, Number(from - address));
    }
    return bytes;
  }

  #block(vcpu: Vcpu, block: Gva): Promise<Uint8Array> {
    const key = `${vcpu}:${block}`;
    let bytes = this.#blocks.get(key);
    if (!bytes) {
      bytes = this.#current(() => this.target.memory(vcpu).read(block, Number(blockSize)));
      this.#blocks.set(key, bytes);
    }
    return bytes;
  }

  /** Anything written may change anything read: a page table, a stack, another vCPU's view of the same page. */
  #forget(): void {
    this.#general.clear();
    this.#stacks.clear();
    this.#blocks.clear();
  }

  async #current<T>(call: () => Promise<T>): Promise<T> {
    this.check();
    const result = await call();
    this.check();
    return result;
  }
}
