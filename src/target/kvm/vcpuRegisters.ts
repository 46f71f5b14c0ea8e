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

/** What nearly every stop is asked for: read together, in one injection. */
const core = [
  ...Array.from({ length: 31 }, (_, n) => `x${n}`),
  'pc',
  'pstate',
  'sp_el0',
  'sp_el1',
  'elr_el1',
  'spsr_el1',
  'esr_el1',
  'vbar_el1',
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

export class VcpuRegisters {
  readonly catalogue: readonly CatalogueEntry[];
  readonly #byName: ReadonlyMap<string, CatalogueEntry>;
  readonly #core: readonly string[];
  readonly #cache = new Map<VcpuThread, Map<string, bigint>>();

  /** Precondition: `thread`, any of the VM's, is parked. */
  constructor(thread: VcpuThread) {
    this.catalogue = registerCatalogue(registerIds(thread));
    this.#byName = new Map(this.catalogue.map((entry) => [entry.name, entry]));
    this.#core = core.filter((name) => this.#byName.has(name));
  }

  #entry(name: string): CatalogueEntry {
    const entry = this.#byName.get(name);
    if (!entry) throw new TargetError(`This vCPU has no register named "${name}"`);
    return entry;
  }

  has(name: string): boolean {
    return this.#byName.has(name);
  }

  #cached(thread: VcpuThread): Map<string, bigint> {
    let cached = this.#cache.get(thread);
    if (!cached) {
      cached = new Map();
      this.#cache.set(thread, cached);
    }
    return cached;
  }

  /** Forgets what may change while the vCPU runs. */
  invalidate(thread: VcpuThread): void {
    const cached = this.#cache.get(thread);
    if (!cached) return;
    for (const name of cached.keys()) if (!isConstant(name)) cached.delete(name);
  }

  /** Adds the reads of the core set to a batch that is about to run anyway; call the result once it ran. */
  addCore(batch: Batch, thread: VcpuThread): () => void {
    const cached = this.#cached(thread);
    const calls = this.#core
      .filter((name) => !cached.has(name))
      .map((name) => ({ name, call: this.#addRead(batch, thread, name) }));
    return () => {
      for (const { name, call } of calls) cached.set(name, decode(batch.checked(call).data));
    };
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
    const cached = this.#cached(thread);
    const wanted = new Set(names.map((name) => (this.#entry(name).source.kind === 'stackPointer' ? 'pstate' : name)));
    let missing = [...wanted].filter((name) => !cached.has(name));
    if (missing.some((name) => this.#core.includes(name))) {
      missing = [...new Set([...missing, ...this.#core.filter((name) => !cached.has(name))])];
    }
    while (missing.length > 0) {
      const batch = thread.batch();
      const calls: { name: string; call: number }[] = [];
      while (missing.length > 0 && !batch.isFull) {
        const name = missing.shift() ?? '';
        calls.push({ name, call: this.#addRead(batch, thread, name) });
      }
      thread.run(batch);
      for (const { name, call } of calls) {
        const entry = this.#entry(name);
        const value = decode(batch.checked(call).data);
        cached.set(name, entry.source.kind === 'lowBits' ? BigInt.asUintN(entry.bits, value) : value);
      }
    }
    return new Map(names.map((name) => [name, this.#value(thread, name)]));
  }

  #value(thread: VcpuThread, name: string): bigint {
    const cached = this.#cached(thread);
    if (this.#entry(name).source.kind === 'stackPointer') {
      const active = activeStackPointer(cached.get('pstate') ?? 0n);
      return cached.get(active) ?? this.read(thread, [active]).get(active) ?? 0n;
    }
    const value = cached.get(name);
    if (value === undefined) throw new Error(`${name} was not read`);
    return value;
  }

  one(thread: VcpuThread, name: string): bigint {
    return this.read(thread, [name]).get(name) ?? 0n;
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
    this.#cache.delete(thread);
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
