// The registers of the vCPUs behind a stub. Values are kept until the guest runs again.

import { activeStackPointer } from '../../arch/aarch64/registers.ts';
import { hex } from '../../base/address.ts';
import { TargetError } from '../../base/errors.ts';
import type { Vcpu } from '../target.ts';
import { hexNumber, type RspConnection, refusal } from './connection.ts';
import { fromHex, hexOf, integerOf, littleEndian } from './packet.ts';
import type { RegisterEntry } from './registerMap.ts';
import type { RemoteRegister } from './targetDescription.ts';
import type { Threads } from './threads.ts';

export class RemoteRegisters {
  readonly #byName: ReadonlyMap<string, RegisterEntry>;
  /** In the order of their numbers, which is that of `g`. */
  readonly #ordered: readonly RemoteRegister[];
  /** By the registers' numbers. */
  readonly #known = new Map<Vcpu, Map<number, Uint8Array>>();

  constructor(
    readonly catalogue: readonly RegisterEntry[],
    /** All that the stub has, also those that the catalogue leaves out: they have their places in `g`. */
    remotes: readonly RemoteRegister[],
    private readonly connection: RspConnection,
    private readonly threads: Threads,
  ) {
    this.#byName = new Map(catalogue.map((entry) => [entry.name, entry]));
    this.#ordered = [...remotes].sort((a, b) => a.number - b.number);
  }

  has(name: string): boolean {
    return this.#byName.has(name);
  }

  /** The vCPUs may have run. */
  invalidate(): void {
    this.#known.clear();
  }

  #entry(name: string): RegisterEntry {
    const entry = this.#byName.get(name);
    if (!entry) throw new TargetError(`The remote stub has no register named "${name}"`);
    return entry;
  }

  async read(vcpu: Vcpu, names: readonly string[]): Promise<Map<string, bigint>> {
    const entries = names.map((name) => this.#entry(name));
    const values = new Map<string, bigint>();
    for (const entry of entries) values.set(entry.name, await this.#value(vcpu, entry));
    return values;
  }

  async one(vcpu: Vcpu, name: string): Promise<bigint> {
    return this.#value(vcpu, this.#entry(name));
  }

  async #value(vcpu: Vcpu, entry: RegisterEntry): Promise<bigint> {
    const source = await this.#source(vcpu, entry);
    const value = integerOf(await this.#fetch(vcpu, source.remote));
    return source.isLowPart ? BigInt.asUintN(source.bits, value) : value;
  }

  /** QEMU keeps the stack pointer in use in `sp`, and gives what SP_EL0 or SP_EL1 were before that for themselves. */
  async #source(vcpu: Vcpu, entry: RegisterEntry): Promise<RegisterEntry> {
    if (entry.name !== 'sp_el0' && entry.name !== 'sp_el1') return entry;
    const isActive = activeStackPointer(await this.one(vcpu, 'pstate')) === entry.name;
    return isActive ? this.#entry('sp') : entry;
  }

  #of(vcpu: Vcpu): Map<number, Uint8Array> {
    let known = this.#known.get(vcpu);
    if (!known) {
      known = new Map();
      this.#known.set(vcpu, known);
    }
    return known;
  }

  async #fetch(vcpu: Vcpu, remote: RemoteRegister): Promise<Uint8Array> {
    const known = this.#of(vcpu);
    // The first registers of all come together.
    if (known.size === 0) await this.#fetchGeneral(vcpu, known);
    const value = known.get(remote.number);
    if (value) return value;
    await this.threads.select(vcpu);
    const answer = await this.connection.ask(`p${hexNumber(remote.number)}`);
    const bytes = fromHex(answer);
    if (bytes?.length !== remote.bytes) throw refusal(`Cannot read ${remote.name}`, answer);
    known.set(remote.number, bytes);
    return bytes;
  }

  // `g`: the values of all registers behind one another, as far as the stub gives them; x for each digit of one that it
  // does not know now.
  async #fetchGeneral(vcpu: Vcpu, known: Map<number, Uint8Array>): Promise<void> {
    await this.threads.select(vcpu);
    const answer = await this.connection.ask('g');
    let position = 0;
    for (const { number, bytes } of this.#ordered) {
      const digits = answer.slice(position, position + 2 * bytes);
      position += 2 * bytes;
      const value = fromHex(digits);
      if (digits.length < 2 * bytes) break;
      if (value) known.set(number, value);
    }
  }

  /** TargetError when the value does not fit, or is not there afterwards: some stubs say OK to what they do not do. */
  async write(vcpu: Vcpu, name: string, value: bigint): Promise<void> {
    const entry = this.#entry(name);
    if (value < 0n || value >= 1n << BigInt(entry.bits)) {
      throw new TargetError(`${hex(value)} does not fit ${name}, which is ${entry.bits} bits wide`);
    }
    const source = await this.#source(vcpu, entry);
    const { remote } = source;
    const before = integerOf(await this.#fetch(vcpu, remote));
    const wanted = source.isLowPart ? ((before >> BigInt(source.bits)) << BigInt(source.bits)) | value : value;
    await this.threads.select(vcpu);
    await this.#put(vcpu, remote, wanted, name);
    // A register may belong with others.
    this.#known.delete(vcpu);
    const after = integerOf(await this.#fetch(vcpu, remote));
    if (after === before && after !== wanted) {
      throw new TargetError(`The remote stub does not change ${name}: it is ${hex(after)} still.`);
    }
  }

  async #put(vcpu: Vcpu, remote: RemoteRegister, value: bigint, name: string): Promise<void> {
    const digits = hexOf(littleEndian(value, remote.bytes));
    const answer = await this.connection.ask(`P${hexNumber(remote.number)}=${digits}`);
    if (answer === 'OK') return;
    if (answer !== '') throw refusal(`Cannot write ${name}`, answer);
    // A stub without `P` takes all of them at once.
    const all = await this.connection.ask('g');
    const position = this.#ordered
      .filter(({ number }) => number < remote.number)
      .reduce((sum, { bytes }) => sum + 2 * bytes, 0);
    const end = position + digits.length;
    if (all.length < end) throw refusal(`Cannot write ${name} of vCPU ${vcpu}`, answer);
    await this.connection.command(`G${all.slice(0, position)}${digits}${all.slice(end)}`, `Cannot write ${name}`);
  }
}
