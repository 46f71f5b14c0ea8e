// A list of system calls to be made by one VMM thread, laid out for the injected code (stub.ts).
import { Hva } from '../../base/address.ts';
import { TargetError } from '../../base/errors.ts';
import { errnoName } from './ffi.ts';
import { Syscall } from './kvmAbi.ts';
import { entry, syncInstructionCache } from './stub.ts';

/** The memory one thread's batches live in: saved state first, then entries, then what their arguments point at. */
export const block = { size: 0x10000, savedState: 0, signalMask: 272, entries: 512 } as const;
const maximumEntries = 128;
const payloadStart = block.entries + maximumEntries * entry.size;

export class BatchFull extends TargetError {
  override readonly name = 'BatchFull';
}

/** What one call of a batch gave, valid once the batch has run. */
export interface CallResult {
  /** The system call's return value: negative errno on failure. */
  readonly value: bigint;
  /** The argument structure as the call left it; empty when the argument was a number. */
  readonly data: Uint8Array;
}

interface Call {
  readonly label: string;
  readonly payload: number;
  readonly length: number;
}

export class Batch {
  readonly #bytes = new Uint8Array(block.size);
  readonly #view = new DataView(this.#bytes.buffer);
  readonly #calls: Call[] = [];
  #payload: number = payloadStart;
  #results: Uint8Array | undefined;

  /** `base` is the address of the block in the VMM. */
  constructor(readonly base: Hva) {}

  get length(): number {
    return this.#calls.length;
  }

  get isFull(): boolean {
    return this.#calls.length >= maximumEntries;
  }

  #reserve(bytes: Uint8Array): number {
    const at = this.#payload;
    if (at + bytes.length > block.size) throw new BatchFull('Too many arguments for one batch of system calls');
    this.#bytes.set(bytes, at);
    this.#payload = (at + bytes.length + 7) & ~7;
    return at;
  }

  #add(label: string, number: bigint, args: readonly bigint[], payload: number, length: number): number {
    if (this.isFull) throw new BatchFull(`More than ${maximumEntries} system calls in one batch`);
    const at = block.entries + this.#calls.length * entry.size;
    this.#view.setBigInt64(at + entry.number, number, true);
    for (const [index, argument] of args.entries()) {
      this.#view.setBigUint64(at + entry.argument + 8 * index, BigInt.asUintN(64, argument), true);
    }
    this.#calls.push({ label, payload, length });
    return this.#calls.length - 1;
  }

  call(label: string, number: bigint, ...args: readonly bigint[]): number {
    return this.#add(label, number, args, 0, 0);
  }

  /** A call one of whose arguments points at `data`; `args` gets that address. */
  callWith(label: string, number: bigint, data: Uint8Array, args: (address: bigint) => readonly bigint[]): number {
    const at = this.#reserve(data);
    return this.#add(label, number, args(this.base + BigInt(at)), at, data.length);
  }

  ioctl(label: string, fd: number, request: bigint, argument: bigint | Uint8Array): number {
    if (typeof argument === 'bigint') return this.call(label, Syscall.ioctl, BigInt(fd), request, argument);
    return this.callWith(label, Syscall.ioctl, argument, (address) => [BigInt(fd), request, address]);
  }

  /** struct kvm_one_reg { u64 id; u64 addr } and the value behind it; the result's data is the value. */
  oneRegister(label: string, fd: number, request: bigint, id: bigint, value: Uint8Array): number {
    const valueAt = this.#reserve(value);
    const register = new Uint8Array(16);
    const view = new DataView(register.buffer);
    view.setBigUint64(0, id, true);
    view.setBigUint64(8, this.base + BigInt(valueAt), true);
    const at = this.#reserve(register);
    return this.#add(label, Syscall.ioctl, [BigInt(fd), request, this.base + BigInt(at)], valueAt, value.length);
  }

  /** Makes instructions written to [start, start + length) visible to the instruction fetch of every CPU. */
  syncInstructions(start: Hva, length: number): number {
    return this.#add('cache maintenance', syncInstructionCache, [start, start + BigInt(length)], 0, 0);
  }

  /** The block's contents with the saved state in place, to be written at `base`. */
  image(savedState: Uint8Array, signalMask: bigint): Uint8Array {
    this.#bytes.set(savedState, block.savedState);
    this.#view.setBigUint64(block.signalMask, signalMask, true);
    return this.#bytes.subarray(0, this.#payload > payloadStart ? this.#payload : payloadStart);
  }

  /** Where results lie in the block: from the first entry to the last payload byte. */
  get resultRange(): { start: Hva; length: number } {
    const end = this.#payload > payloadStart ? this.#payload : block.entries + this.length * entry.size;
    return { start: Hva(this.base + BigInt(block.entries)), length: end - block.entries };
  }

  complete(results: Uint8Array): void {
    this.#results = results;
  }

  result(index: number): CallResult {
    const call = this.#calls[index];
    if (!this.#results || !call) throw new Error('The result of a batch was asked for before it ran');
    const view = new DataView(this.#results.buffer, this.#results.byteOffset);
    const value = view.getBigInt64(index * entry.size + entry.result, true);
    const start = call.payload - block.entries;
    return { value, data: call.length === 0 ? new Uint8Array() : this.#results.subarray(start, start + call.length) };
  }

  /** The result, or a TargetError that names the call and its errno. */
  checked(index: number): CallResult {
    const result = this.result(index);
    if (result.value < 0n) {
      throw new TargetError(`${this.#calls[index]?.label} failed in the VMM with ${errnoName(-Number(result.value))}`);
    }
    return result;
  }
}
