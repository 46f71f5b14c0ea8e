// The registers of the vCPUs of one VM through KVM_GET_ONE_REG and KVM_SET_ONE_REG, many in one injection. Values are
// kept until the guest runs again.

import { translationRegisterNames } from '../../arch/aarch64/mmu.ts';
import {
  activeStackPointer,
  type CatalogueEntry,
  coreRegisterIds,
  registerCatalogue,
} from '../../arch/aarch64/registers.ts';
import { hex } from '../../base/address.ts';
import { TargetError } from '../../base/errors.ts';
import type { Batch } from './batch.ts';
import { Errno, Kvm } from './kvmAbi.ts';
import type { VcpuThread } from './vcpuThread.ts';

/** What a first stop is asked for. */
const usual = [
  ...Array.from({ length: 31 }, (_, n) => `x${n}`),
  'pc',
  'pstate',
  'sp_el0',
  'sp_el1',
  ...translationRegisterNames,
];

/** Registers that only identify the CPU: they never change while the VM runs. */
const isConstant = (name: string): boolean => /^(id_|midr|mpidr|revidr|ccsidr|clidr|ctr_)/.test(name);

function encode(value: bigint, bits: number): Uint8Array {
  const bytes = new Uint8Array(bits / 8);
  for (let index = 0, rest = value; index < bytes.length; index++, rest >>= 8n) bytes[index] = Number(rest & 0xffn);
  return bytes;
}

function decode(bytes: Uint8Array): bigint {
  if (bytes.length === 8) return new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
  let value = 0n;
  for (let index = bytes.length - 1; index >= 0; index--) value = (value << 8n) | BigInt(bytes[index] ?? 0);
  return value;
}

/** KVM_GET_REG_LIST: n = 0 answers E2BIG and the number; then the ids. Precondition: the thread is parked. */
function registerIds(thread: VcpuThread): readonly bigint[] {
  const ask = (count: number): { value: bigint; view: DataView } => {
    const batch = thread.batch();
    const list = new Uint8Array(8 * (count + 1));
    new DataView(list.buffer).setBigUint64(0, BigInt(count), true);
    const call = batch.ioctl('KVM_GET_REG_LIST', thread.fd ?? -1, Kvm.GET_REG_LIST, list);
    thread.run(batch);
    const { value, data } = batch.result(call);
    if (value < 0n && value !== -Errno.E2BIG) batch.checked(call);
    return { value, view: new DataView(data.buffer, data.byteOffset, data.byteLength) };
  };
  const count = Number(ask(0).view.getBigUint64(0, true));
  const { view } = ask(count);
  return Array.from({ length: count }, (_, index) => view.getBigUint64(8 * (index + 1), true));
}

/** What is known of one vCPU. */
interface Known {
  /** Registers that identify the CPU. */
  readonly constant: Map<string, bigint>;
  /** The others, until the vCPU runs. */
  readonly current: Map<string, bigint>;
  /** What was asked for since it was last to be moved, */
  asked: Set<string>;
  /** and before that: likely to be asked for again, so it is read along with whatever is read first. */
  expected: readonly string[];
}

export class VcpuRegisters {
  readonly catalogue: readonly CatalogueEntry[];
  readonly #byName: ReadonlyMap<string, CatalogueEntry>;
  readonly #constant: ReadonlySet<string>;
  readonly #usual: readonly string[];
  readonly #known = new Map<VcpuThread, Known>();

  /** Precondition: `thread`, any of the VM's, is parked. */
  constructor(thread: VcpuThread) {
    this.catalogue = registerCatalogue(registerIds(thread));
    this.#byName = new Map(this.catalogue.map((entry) => [entry.name, entry]));
    this.#constant = new Set([...this.#byName.keys()].filter(isConstant));
    this.#usual = usual.filter((name) => this.#byName.has(name));
  }

  #entry(name: string): CatalogueEntry {
    const entry = this.#byName.get(name);
    if (!entry) throw new TargetError(`This vCPU has no register named "${name}"`);
    return entry;
  }

  has(name: string): boolean {
    return this.#byName.has(name);
  }

  #of(thread: VcpuThread): Known {
    let known = this.#known.get(thread);
    if (!known) {
      known = { constant: new Map(), current: new Map(), asked: new Set(), expected: this.#usual };
      this.#known.set(thread, known);
    }
    return known;
  }

  #cached(thread: VcpuThread, name: string): bigint | undefined {
    const { constant, current } = this.#of(thread);
    return current.get(name) ?? constant.get(name);
  }

  #keep(thread: VcpuThread, name: string, data: Uint8Array): void {
    const { constant, current } = this.#of(thread);
    const { source, bits } = this.#entry(name);
    const value = decode(data);
    (this.#constant.has(name) ? constant : current).set(
      name,
      source.kind === 'lowBits' ? BigInt.asUintN(bits, value) : value,
    );
  }

  /** Forgets what changes when the vCPU runs. To be called for each run. */
  invalidate(thread: VcpuThread): void {
    this.#of(thread).current.clear();
  }

  /** The vCPU is to be moved from a place to another, by as many runs as that takes: there, what was asked for here is
   *  likely to be asked for again. */
  depart(thread: VcpuThread): void {
    const known = this.#of(thread);
    known.expected = [...known.asked];
    known.asked = new Set();
  }

  /** Adds reads of `names` and, where the vCPU stays for a while, of what is likely to be asked for, to a batch that is
   *  about to run anyway; call the result once it ran. */
  addReads(batch: Batch, thread: VcpuThread, names: readonly string[], stays: boolean): () => void {
    const needed = new Set(names);
    const calls = [...new Set([...names, ...(stays ? this.#of(thread).expected : [])])]
      .filter((name) => this.#cached(thread, name) === undefined)
      .map((name) => ({ name, call: this.#addRead(batch, thread, name) }));
    return () => {
      for (const { name, call } of calls) {
        const result = needed.has(name) ? batch.checked(call) : batch.result(call);
        if (result.value >= 0n) this.#keep(thread, name, result.data);
      }
    };
  }

  /** Adds a change of some bits of a plain 64-bit register to a batch that is about to run; the result, called once it
   *  ran, gives the value before. `value` stands for the register where it cannot be read. */
  addModify(
    batch: Batch,
    thread: VcpuThread,
    name: string,
    change: { value: bigint; mask: bigint; bits: bigint },
  ): () => bigint {
    const { source } = this.#entry(name);
    if (source.kind !== 'register') throw new Error(`${name} is computed`);
    const calls = batch.modifyRegister(name, thread.fd ?? -1, source.id, change);
    return () => {
      const { data } = batch.checked(calls.read);
      this.#keep(thread, name, batch.checked(calls.write).data);
      return decode(data);
    };
  }

  /** Adds the read of a plain 64-bit register that changes also while no vCPU runs; call the result once the batch ran. */
  addFreshRead(batch: Batch, thread: VcpuThread, name: string): () => bigint {
    const call = this.#addRead(batch, thread, name);
    return () => decode(batch.checked(call).data);
  }

  #addRead(batch: Batch, thread: VcpuThread, name: string): number {
    const { source } = this.#entry(name);
    if (source.kind === 'stackPointer') throw new Error('sp is computed, not read');
    const bits = this.#transferBits(source.id);
    return batch.oneRegister(name, thread.fd ?? -1, Kvm.GET_ONE_REG, source.id, new Uint8Array(bits / 8));
  }

  /** Bits 55:52 of the id: log2 of the bytes transferred. */
  #transferBits(id: bigint): number {
    return 8 << Number((id >> 52n) & 0xfn);
  }

  /** Values of `names`, with no more injections than needed. Precondition: the thread is parked. */
  read(thread: VcpuThread, names: readonly string[]): Map<string, bigint> {
    const { asked } = this.#of(thread);
    const wanted = names.map((name) => (this.#entry(name).source.kind === 'stackPointer' ? 'pstate' : name));
    for (const name of wanted) asked.add(name);
    this.#fetch(thread, wanted);
    return new Map(names.map((name) => [name, this.#value(thread, name)]));
  }

  #fetch(thread: VcpuThread, names: readonly string[]): void {
    if (names.every((name) => this.#cached(thread, name) !== undefined)) return;
    const batch = thread.batch();
    const keep = this.addReads(batch, thread, names, true);
    thread.run(batch);
    keep();
  }

  #value(thread: VcpuThread, name: string): bigint {
    const known = this.#cached(thread, name);
    if (known !== undefined) return known;
    if (this.#entry(name).source.kind !== 'stackPointer') throw new Error(`${name} was not read`);
    return this.one(thread, activeStackPointer(this.one(thread, 'pstate')));
  }

  one(thread: VcpuThread, name: string): bigint {
    this.#of(thread).asked.add(name);
    this.#fetch(thread, [name]);
    return this.#value(thread, name);
  }

  /** Adds the write of a plain register to a batch that is about to run; the caller checks the result and then calls
   *  `invalidate`. */
  addWrite(batch: Batch, thread: VcpuThread, name: string, value: bigint): number {
    const { source, bits } = this.#entry(name);
    if (source.kind !== 'register') throw new Error(`${name} is computed`);
    return batch.oneRegister(name, thread.fd ?? -1, Kvm.SET_ONE_REG, source.id, encode(value, bits));
  }

  /** Writes registers, in one injection. TargetError, before anything is written, for a value that does not fit. */
  write(thread: VcpuThread, values: Readonly<Record<string, bigint>>): void {
    const entries = Object.entries(values).map(([name, value]) => {
      const entry = this.#entry(name);
      if (value < 0n || value >= 1n << BigInt(entry.bits)) {
        throw new TargetError(`${hex(value)} does not fit ${name}, which is ${entry.bits} bits wide`);
      }
      return { entry, value };
    });
    const batch = thread.batch();
    for (const { entry, value } of entries) {
      const { name, source } = entry;
      if (source.kind === 'stackPointer') {
        const active = activeStackPointer(this.one(thread, 'pstate'));
        const id = coreRegisterIds.get(active);
        if (id === undefined) throw new TargetError(`sp is ${active} now, which cannot be written`);
        batch.oneRegister(active, thread.fd ?? -1, Kvm.SET_ONE_REG, id, encode(value, 64));
      } else if (source.kind === 'lowBits') {
        const bits = this.#transferBits(source.id);
        const whole = this.#readWhole(thread, name, source.id, bits);
        const merged = ((whole >> BigInt(entry.bits)) << BigInt(entry.bits)) | value;
        batch.oneRegister(name, thread.fd ?? -1, Kvm.SET_ONE_REG, source.id, encode(merged, bits));
      } else {
        batch.oneRegister(name, thread.fd ?? -1, Kvm.SET_ONE_REG, source.id, encode(value, entry.bits));
      }
    }
    thread.run(batch);
    // KVM may keep another value than the one written, or change a register that belongs with it.
    this.#of(thread).current.clear();
    for (let index = 0; index < batch.length; index++) {
      const { value } = batch.result(index);
      if (value < 0n) {
        const { entry, value: wanted } = entries[index] ?? {};
        throw new TargetError(`The vCPU refuses ${entry?.name} = ${hex(wanted ?? 0n)} (errno ${-value})`);
      }
    }
  }

  #readWhole(thread: VcpuThread, name: string, id: bigint, bits: number): bigint {
    const batch = thread.batch();
    const call = batch.oneRegister(name, thread.fd ?? -1, Kvm.GET_ONE_REG, id, new Uint8Array(bits / 8));
    thread.run(batch);
    return decode(batch.checked(call).data);
  }
}
