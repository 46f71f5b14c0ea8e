// The user registers of a stopped arm64 thread: NT_PRSTATUS, struct user_pt_regs (arch/arm64/include/uapi/asm/ptrace.h):
// x0-x30 at 0, sp at 248, pc at 256, pstate at 264; 272 bytes.
import { NativeBuffer, ptraceRegset } from './ffi.ts';

const NT_PRSTATUS = 1;
const offset = { sp: 248, pc: 256, pstate: 264 } as const;

export class ThreadRegisters {
  static readonly size = 272;
  readonly #buffer = new NativeBuffer(ThreadRegisters.size);

  read(tid: number): void {
    ptraceRegset('GETREGSET', tid, NT_PRSTATUS, this.#buffer);
  }

  write(tid: number): void {
    ptraceRegset('SETREGSET', tid, NT_PRSTATUS, this.#buffer);
  }

  copyFrom(other: ThreadRegisters): void {
    this.#buffer.bytes.set(other.#buffer.bytes);
  }

  get bytes(): Uint8Array {
    return this.#buffer.bytes;
  }

  x(index: number): bigint {
    return this.#buffer.view.getBigUint64(8 * index, true);
  }

  setX(index: number, value: bigint): void {
    this.#buffer.view.setBigUint64(8 * index, BigInt.asUintN(64, value), true);
  }

  get sp(): bigint {
    return this.#buffer.view.getBigUint64(offset.sp, true);
  }

  get pc(): bigint {
    return this.#buffer.view.getBigUint64(offset.pc, true);
  }

  set pc(value: bigint) {
    this.#buffer.view.setBigUint64(offset.pc, value, true);
  }

  /** x0 as a system call's result: negative errno on failure. */
  get result(): bigint {
    return BigInt.asIntN(64, this.x(0));
  }
}
