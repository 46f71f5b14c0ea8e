// Guest memory through a stub: by physical address where it can do that, and then virtual addresses are translated here, so
// that what the vCPU itself may access makes no difference; else as the stub translates them.

import { type TranslationRegisters, translate, translationRegisterNames } from '../../arch/aarch64/mmu.ts';
import { translationRegime } from '../../arch/aarch64/regime.ts';
import { Gpa, Gva } from '../../base/address.ts';
import { MemoryFault, TargetError } from '../../base/errors.ts';
import type { PhysicalMemory, VirtualMemory } from '../../base/memory.ts';
import { Recent } from '../../base/recent.ts';
import type { KernelTables, Translation, Vcpu } from '../target.ts';
import { hexNumber, type RspConnection, refusal } from './connection.ts';
import { bytesOf, fromHex, hexOf } from './packet.ts';
import { memoryFrom } from './ram.ts';
import type { RemoteRegisters } from './remoteRegisters.ts';
import type { Stub } from './stub.ts';
import type { Threads } from './threads.ts';

/** Within one of these all bytes are mapped or none. */
const smallestPage = 4096;
/** Divides every page. Neighbours of a descriptor are likely to be read next. */
const tableBlock = 512;
const keptBlocks = 256;

/** `_el1` or `_el2`; the first of `translationRegisterNames`. */
const controls = ['sctlr', 'tcr', 'ttbr0', 'ttbr1'];

/** Of a request beside the data: `X`, an address, a length, punctuation. */
const requestOverhead = 32;

export class GuestMemory {
  readonly physical: PhysicalMemory;
  kernelTables: KernelTables | undefined;
  #tables = new Recent<bigint, Promise<Uint8Array>>(keptBlocks);
  /** What the stub takes addresses for; undefined when that is not known. */
  #isPhysical: boolean | undefined;
  readonly #readSize: number;
  readonly #writeSize: number;

  constructor(
    private readonly stub: Pick<Stub, 'memory' | 'packetSize' | 'hasBinaryWrite'>,
    private readonly connection: RspConnection,
    private readonly threads: Threads,
    private readonly registers: RemoteRegisters,
  ) {
    this.#readSize = Math.max(16, (stub.packetSize >> 1) - requestOverhead);
    this.#writeSize = Math.max(8, (stub.packetSize - requestOverhead) >> 1);
    this.physical = {
      read: (address, length) => this.#readPhysical(address, length),
      write: async (address, bytes) => {
        this.forget();
        await this.#writePhysical(address, bytes);
      },
    };
  }

  get #hasPhysical(): boolean {
    return this.stub.memory.length > 0;
  }

  /** To be called when anything may have been written. */
  forget(): void {
    this.#tables = new Recent(keptBlocks);
  }

  virtual(vcpu: Vcpu): VirtualMemory {
    const accessed = this.asAccessed(vcpu);
    return {
      read: async (address, length) => {
        if (!(await this.#isWalkable(vcpu))) return accessed.read(address, length);
        const result = new Uint8Array(length);
        for (const { gpa, offset, size } of await this.#spans(vcpu, address, length)) {
          result.set(await this.#readPhysical(gpa, size), offset);
        }
        return result;
      },
      write: async (address, bytes) => {
        if (!(await this.#isWalkable(vcpu))) return accessed.write(address, bytes);
        const spans = await this.#spans(vcpu, address, bytes.length);
        this.forget();
        for (const { gpa, offset, size } of spans) {
          await this.#writePhysical(gpa, bytes.subarray(offset, offset + size));
        }
      },
    };
  }

  /** What the vCPU itself can access now, as the stub translates it. */
  asAccessed(vcpu: Vcpu): VirtualMemory {
    return {
      read: async (address, length) => {
        const result = new Uint8Array(length);
        await this.#eachPage(vcpu, address, length, (at, offset, size) => this.#readAt(at, size, result, offset));
        return result;
      },
      write: async (address, bytes) => {
        this.forget();
        await this.#eachPage(vcpu, address, bytes.length, (at, offset, size) =>
          this.#writeAt(at, bytes.subarray(offset, offset + size)),
        );
      },
    };
  }

  /** TargetError where the stub gives no physical memory to read translation tables in. */
  async translate(vcpu: Vcpu, address: Gva): Promise<Translation> {
    if (!(await this.#isWalkable(vcpu))) {
      throw new TargetError('The remote stub does not give what it takes to translate an address.');
    }
    const found = await translate(await this.#translation(vcpu), this.#readTable, address);
    return { ...found, executable: found.executable || found.userExecutable };
  }

  /** Has the stub take addresses for virtual again, as its other clients expect. */
  async leavePhysical(): Promise<void> {
    if (this.#isPhysical) await this.#setPhysical(false);
  }

  async #isWalkable(vcpu: Vcpu): Promise<boolean> {
    return this.#hasPhysical && (await this.#regime(vcpu)) !== undefined;
  }

  /** Whose registers translate for a vCPU; undefined for regimes that are not known here. */
  async #regime(vcpu: Vcpu): Promise<'el1' | 'el2' | undefined> {
    const { registers } = this;
    const hcr = registers.has('hcr_el2') ? await registers.one(vcpu, 'hcr_el2') : 0n;
    const regime = translationRegime(await registers.one(vcpu, 'pstate'), hcr);
    return controls.every((name) => registers.has(`${name}_${regime}`)) ? regime : undefined;
  }

  async #translation(vcpu: Vcpu): Promise<TranslationRegisters> {
    const regime = await this.#regime(vcpu);
    const others = regime === 'el2' ? ['id_aa64mmfr0_el1'] : translationRegisterNames.slice(controls.length);
    const names = [...controls.map((name) => `${name}_${regime}`), ...others].filter((name) =>
      this.registers.has(name),
    );
    const values = Object.fromEntries(
      [...(await this.registers.read(vcpu, names))].map(([name, value]) => [name.replace(/_el2$/, '_el1'), value]),
    ) as unknown as TranslationRegisters;
    // TTBR1_EL1 (Arm ARM, D24.2): 63:48 ASID, 47:1 BADDR, 0 CnP. Tables are whole pages.
    const { from, to } = this.kernelTables ?? {};
    if (from === undefined || to === undefined || (values.ttbr1_el1 & 0xffff_ffff_f000n) !== from) return values;
    return { ...values, ttbr1_el1: to };
  }

  readonly #readTable = async (address: Gpa, length: number): Promise<Uint8Array> => {
    const block = address - (address % BigInt(tableBlock));
    const offset = Number(address - block);
    if (offset + length > tableBlock) return this.#readPhysical(address, length);
    const tables = this.#tables;
    const bytes = await tables.of(block, () => this.#readPhysical(Gpa(block), tableBlock));
    return bytes.subarray(offset, offset + length);
  };

  /** Where [address, address + length) lies, in pieces that are contiguous in guest physical memory. */
  async #spans(vcpu: Vcpu, address: Gva, length: number): Promise<readonly Span[]> {
    const registers = await this.#translation(vcpu);
    const spans: Span[] = [];
    for (let offset = 0; offset < length; ) {
      const found = await translate(registers, this.#readTable, Gva(address + BigInt(offset)));
      const size = Math.min(length - offset, found.remaining);
      const last = spans.at(-1);
      if (last && last.gpa + BigInt(last.size) === found.address) last.size += size;
      else spans.push({ gpa: found.address, offset, size });
      offset += size;
    }
    return spans;
  }

  async #readPhysical(address: Gpa, length: number): Promise<Uint8Array> {
    await this.#enterPhysical(address, length, false);
    const result = new Uint8Array(length);
    await this.#readAt(address, length, result, 0);
    return result;
  }

  async #writePhysical(address: Gpa, bytes: Uint8Array): Promise<void> {
    await this.#enterPhysical(address, bytes.length, true);
    await this.#writeAt(address, bytes);
  }

  async #enterPhysical(address: Gpa, length: number, needsWriting: boolean): Promise<void> {
    if (!this.#hasPhysical) {
      throw new MemoryFault('physical', address, 'the remote stub cannot access memory by physical address');
    }
    const count = memoryFrom(this.stub.memory, address, length, needsWriting);
    if (count < length) throw new MemoryFault('physical', address + BigInt(count), 'no RAM is there');
    if (!this.#isPhysical) await this.#setPhysical(true);
  }

  async #setPhysical(isPhysical: boolean): Promise<void> {
    this.#isPhysical = undefined;
    const mode = isPhysical ? '1' : '0';
    await this.connection.command(`Qqemu.PhyMemMode:${mode}`, 'Cannot choose between physical and virtual addresses');
    this.#isPhysical = isPhysical;
  }

  /** In pieces that lie in one page: the stub only says whether all of them is there. */
  async #eachPage(
    vcpu: Vcpu,
    address: Gva,
    length: number,
    access: (at: bigint, offset: number, size: number) => Promise<void>,
  ): Promise<void> {
    if (this.#isPhysical === undefined && this.#hasPhysical) await this.#setPhysical(false);
    await this.leavePhysical();
    await this.threads.select(vcpu);
    for (let offset = 0; offset < length; ) {
      const at = BigInt.asUintN(64, address + BigInt(offset));
      const size = Math.min(length - offset, smallestPage - Number(at % BigInt(smallestPage)));
      await access(at, offset, size);
      offset += size;
    }
  }

  #fault(address: bigint, answer: string): MemoryFault {
    return new MemoryFault(
      this.#isPhysical ? 'physical' : 'virtual',
      address,
      refusal('memory', answer).message.replace(/^memory: |\.$/g, ''),
    );
  }

  /** `m`: the bytes, or fewer of them; E when there is none. */
  async #readAt(address: bigint, length: number, into: Uint8Array, offset: number): Promise<void> {
    for (let done = 0; done < length; ) {
      const size = Math.min(length - done, this.#readSize);
      const at = address + BigInt(done);
      const answer = await this.connection.ask(`m${hexNumber(at)},${hexNumber(size)}`);
      const bytes = fromHex(answer);
      if (!bytes?.length || bytes.length > size) throw this.#fault(at, answer);
      into.set(bytes, offset + done);
      done += bytes.length;
    }
  }

  /** `X` with binary data, where the stub has it, or `M` with digits. */
  async #writeAt(address: bigint, bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const part = bytes.subarray(done, done + this.#writeSize);
      const at = address + BigInt(done);
      const place = `${hexNumber(at)},${hexNumber(part.length)}:`;
      const request = this.stub.hasBinaryWrite
        ? Buffer.concat([bytesOf(`X${place}`), part])
        : bytesOf(`M${place}${hexOf(part)}`);
      const answer = await this.connection.ask(request);
      if (answer !== 'OK') throw this.#fault(at, answer);
      done += part.length;
    }
  }
}

/** A part of guest memory, `offset` bytes into what it is a part of. */
interface Span {
  readonly gpa: Gpa;
  readonly offset: number;
  size: number;
}
