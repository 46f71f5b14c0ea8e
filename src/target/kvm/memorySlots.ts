// The memory slots of a VM: which guest physical addresses lie where in the VMM's memory.
import { type Gpa, Hva } from '../../base/address.ts';
import { MemoryFault } from '../../base/errors.ts';
import type { PhysicalMemory } from '../../base/memory.ts';
import { readProcess, readProcessAt, writeProcess, writeProcessAt } from './ffi.ts';
import type { MemoryRegion } from './kvmAbi.ts';

const KVM_MEM_READONLY = 2; // include/uapi/linux/kvm.h

export class MemorySlots {
  /** By slot number (bits 31:16 are the address space, 0 on arm64). */
  readonly #regions = new Map<number, MemoryRegion>();

  /** What KVM_SET_USER_MEMORY_REGION does: size 0 deletes. */
  set(region: MemoryRegion): void {
    if (region.size === 0n) this.#regions.delete(region.slot);
    else this.#regions.set(region.slot, region);
  }

  get regions(): readonly MemoryRegion[] {
    return [...this.#regions.values()];
  }

  /** Where `address` lies, and how many bytes follow it in the slot. */
  find(address: Gpa): { hva: Hva; remaining: bigint; writable: boolean } | undefined {
    for (const { gpa, size, hva, flags } of this.#regions.values()) {
      if (address >= gpa && address < gpa + size) {
        const offset = address - gpa;
        return { hva: Hva(hva + offset), remaining: size - offset, writable: (flags & KVM_MEM_READONLY) === 0 };
      }
    }
    return undefined;
  }
}

/** Guest physical memory of a VMM process. Synchronous inside: `readNow` and `writeNow` serve the target itself. */
export class SlotMemory implements PhysicalMemory {
  constructor(
    private readonly pid: number,
    readonly slots: MemorySlots,
  ) {}

  /** Calls `part` for each piece of [address, address + length) that is contiguous in the VMM. MemoryFault at the first
   *  byte that is not RAM. */
  pieces(address: Gpa, length: number, part: (hva: Hva, offset: number, length: number) => void): void {
    for (let done = 0; done < length; ) {
      const at = (address + BigInt(done)) as Gpa;
      const found = this.slots.find(at);
      if (!found) throw new MemoryFault('physical', at, 'no RAM is there');
      const rest = BigInt(length - done);
      const size = Number(rest < found.remaining ? rest : found.remaining);
      part(found.hva, done, size);
      done += size;
    }
  }

  readNow(address: Gpa, length: number): Uint8Array {
    const found = this.slots.find(address);
    if (found && found.remaining >= BigInt(length)) return readProcess(this.pid, found.hva, length);
    const result = new Uint8Array(length);
    this.pieces(address, length, (hva, offset, size) => result.set(readProcess(this.pid, hva, size), offset));
    return result;
  }

  writeNow(address: Gpa, bytes: Uint8Array): void {
    this.pieces(address, bytes.length, (hva, offset, size) =>
      writeProcess(this.pid, hva, bytes.subarray(offset, offset + size)),
    );
  }

  /** Where an address that is RAM lies in the VMM. */
  hva(address: Gpa): Hva {
    const found = this.slots.find(address);
    if (!found) throw new MemoryFault('physical', address, 'no RAM is there');
    return found.hva;
  }

  /** Reads an aligned word or instruction of `length` bytes at each of some addresses, at once. */
  readEach(addresses: readonly Gpa[], length: number): readonly Uint8Array[] {
    return readProcessAt(
      this.pid,
      addresses.map((address) => this.hva(address)),
      length,
    );
  }

  /** The same for writing. Where that fails, what comes before has been written. */
  writeEach(pieces: ReadonlyMap<Gpa, Uint8Array>): void {
    writeProcessAt(this.pid, new Map([...pieces].map(([address, bytes]) => [this.hva(address), bytes])));
  }

  async read(address: Gpa, length: number): Promise<Uint8Array> {
    return this.readNow(address, length);
  }

  async write(address: Gpa, bytes: Uint8Array): Promise<void> {
    this.writeNow(address, bytes);
  }
}
