// A list of system calls to be made by one VMM thread, laid out for the injected code (stub.ts).
import { Hva } from '../../base/address.ts';
import { TargetError } from '../../base/errors.ts';
import { errnoName } from './ffi.ts';
import { guestDebug, Kvm, Syscall } from './kvmAbi.ts';
import { entry, mergeBits, syncInstructionCache } from './stub.ts';

/** The memory one thread's batches live in: saved state first, then entries, then what their arguments point at. */
export const block = { size: 0x10000, savedState: 0, signalMask: 272, entries: 512 } as const;
const maximumEntries = 512;

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

/** Gets the address in the VMM of a payload offset; the payload's place is known once all calls are. */
type Locate = (offset: number) => bigint;

interface Call {
  readonly label: string;
  readonly number: bigint;
  readonly args: (locate: Locate) => readonly bigint[];
  /** What `data` of the result is: a part of the payload. */
  readonly offset: number;
  readonly length: number;
}

/** Adds the calls that set the debug registers of vCPUs, or take everything out of them; returns their numbers. */
export function addGuestDebug(
  batch: Batch,
  vcpuFds: readonly number[],
  debug: Uint8Array = new Uint8Array(guestDebug.size),
): readonly number[] {
  return batch.ioctlOfEach('KVM_SET_GUEST_DEBUG', vcpuFds, Kvm.SET_GUEST_DEBUG, debug);
}

export class Batch {
  readonly #calls: Call[] = [];
  readonly #payload: { readonly offset: number; readonly bytes: Uint8Array }[] = [];
  #payloadLength = 0;
  #results: Uint8Array | undefined;

  /** `base` is the address of the block in the VMM. */
  constructor(readonly base: Hva) {}

  get length(): number {
    return this.#calls.length;
  }

  /** Calls that can be added yet. Their arguments may take more room than there is. */
  get room(): number {
    return maximumEntries - this.#calls.length;
  }

  #reserve(bytes: Uint8Array): number {
    const offset = this.#payloadLength;
    this.#payload.push({ offset, bytes });
    this.#payloadLength = (offset + bytes.length + 7) & ~7;
    return offset;
  }

  #add(call: Call): number {
    if (this.room === 0) throw new BatchFull(`More than ${maximumEntries} system calls in one batch`);
    if (block.entries + (this.#calls.length + 1) * entry.size + this.#payloadLength > block.size) {
      throw new BatchFull('Too many arguments for one batch of system calls');
    }
    this.#calls.push(call);
    return this.#calls.length - 1;
  }

  call(label: string, number: bigint, ...args: readonly bigint[]): number {
    return this.#add({ label, number, args: () => args, offset: 0, length: 0 });
  }

  /** A call one of whose arguments points at `data`; `args` gets that address. */
  callWith(label: string, number: bigint, data: Uint8Array, args: (address: bigint) => readonly bigint[]): number {
    const offset = this.#reserve(data);
    return this.#add({ label, number, args: (locate) => args(locate(offset)), offset, length: data.length });
  }

  ioctl(label: string, fd: number, request: bigint, argument: bigint | Uint8Array): number {
    if (typeof argument === 'bigint') return this.call(label, Syscall.ioctl, BigInt(fd), request, argument);
    return this.callWith(label, Syscall.ioctl, argument, (address) => [BigInt(fd), request, address]);
  }

  /** The same ioctl on several descriptors, which only reads its argument. */
  ioctlOfEach(label: string, fds: readonly number[], request: bigint, argument: Uint8Array): readonly number[] {
    const offset = this.#reserve(argument);
    const number = Syscall.ioctl;
    return fds.map((fd) =>
      this.#add({ label, number, args: (locate) => [BigInt(fd), request, locate(offset)], offset, length: 0 }),
    );
  }

  /** struct kvm_one_reg { u64 id; u64 addr } and the value behind it; the result's data is the value. */
  oneRegister(label: string, fd: number, request: bigint, id: bigint, value: Uint8Array): number {
    const bytes = new Uint8Array(16 + value.length);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(0, id, true);
    bytes.set(value, 16);
    const at = this.#reserve(bytes);
    const offset = at + 16;
    const args = (locate: Locate): readonly bigint[] => {
      const address = locate(at);
      view.setBigUint64(8, address + 16n, true);
      return [BigInt(fd), request, address];
    };
    return this.#add({ label, number: Syscall.ioctl, args, offset, length: value.length });
  }

  /** Replaces the bits of `mask` in a 64-bit register by those of `bits`. `value` stands for the register where it cannot
   *  be read. Data of the results: of `read` the old value, of `write` the new one. */
  modifyRegister(
    label: string,
    fd: number,
    id: bigint,
    { value, mask, bits }: { value: bigint; mask: bigint; bits: bigint },
  ): { read: number; write: number } {
    const initial = new Uint8Array(8);
    new DataView(initial.buffer).setBigUint64(0, value, true);
    const read = this.oneRegister(label, fd, Kvm.GET_ONE_REG, id, initial);
    const from = this.#calls[read]?.offset ?? 0;
    const to = from + 8 + 16; // where the next register's value will be
    const args = (locate: Locate): readonly bigint[] => [locate(from), locate(to), ~mask, bits & mask];
    this.#add({ label, number: mergeBits, args, offset: 0, length: 0 });
    const write = this.oneRegister(label, fd, Kvm.SET_ONE_REG, id, initial);
    return { read, write };
  }

  /** Makes instructions written to [start, start + length) visible to the instruction fetch of every CPU. */
  syncInstructions(start: Hva, length: number): number {
    return this.call('cache maintenance', syncInstructionCache, start, start + BigInt(length));
  }

  get #payloadStart(): number {
    return block.entries + this.#calls.length * entry.size;
  }

  /** The block's contents with the saved state in place, to be written at `base`. */
  image(savedState: Uint8Array, signalMask: bigint): Uint8Array {
    const start = this.#payloadStart;
    const bytes = new Uint8Array(start + this.#payloadLength);
    const view = new DataView(bytes.buffer);
    bytes.set(savedState, block.savedState);
    view.setBigUint64(block.signalMask, signalMask, true);
    const locate: Locate = (offset) => this.base + BigInt(start + offset);
    for (const [index, call] of this.#calls.entries()) {
      const at = block.entries + index * entry.size;
      view.setBigInt64(at + entry.number, call.number, true);
      for (const [position, argument] of call.args(locate).entries()) {
        view.setBigUint64(at + entry.argument + 8 * position, BigInt.asUintN(64, argument), true);
      }
    }
    for (const { offset, bytes: part } of this.#payload) bytes.set(part, start + offset);
    return bytes;
  }

  /** Where results lie in the block: from the first entry to the last payload byte. */
  get resultRange(): { start: Hva; length: number } {
    return {
      start: Hva(this.base + BigInt(block.entries)),
      length: this.#payloadStart + this.#payloadLength - block.entries,
    };
  }

  complete(results: Uint8Array): void {
    this.#results = results;
  }

  result(index: number): CallResult {
    const call = this.#calls[index];
    if (!this.#results || !call) throw new Error('The result of a batch was asked for before it ran');
    const view = new DataView(this.#results.buffer, this.#results.byteOffset);
    const value = view.getBigInt64(index * entry.size + entry.result, true);
    const start = this.#calls.length * entry.size + call.offset;
    return { value, data: this.#results.subarray(start, start + call.length) };
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
