import type { Gpa, Gva } from './address.ts';

/** Memory of one address space. Precondition for guest memory: the target is stopped.
 *  Both calls transfer all bytes or throw a MemoryFault that names the first failing address; a failed write may have
 *  written the bytes before it. */
export interface Memory<Address extends bigint> {
  read(address: Address, length: number): Promise<Uint8Array>;
  write(address: Address, bytes: Uint8Array): Promise<void>;
}

/** Virtual memory as one vCPU sees it through its translation regime. */
export type VirtualMemory = Memory<Gva>;
export type PhysicalMemory = Memory<Gpa>;
