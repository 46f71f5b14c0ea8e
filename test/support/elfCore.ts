// A core file of an arm64 machine, as Linux writes them (fs/binfmt_elf.c): threads, each with its registers, and memory.

import { Bytes } from './elfBuilder.ts';

export interface CoreThread {
  /** x0 to x30. */
  readonly x: readonly bigint[];
  readonly sp: bigint;
  readonly pc: bigint;
}

const ET_CORE = 4;
const EM_AARCH64 = 183;
const PT_LOAD = 1;
const PT_NOTE = 4;
const NT_PRSTATUS = 1;
/** EL1h, nothing masked. */
const pstate = 5n;

// struct elf_prstatus (include/linux/elfcore.h): pr_pid at 32, pr_reg at 112, which is struct user_pt_regs (arch/arm64/
// include/uapi/asm/ptrace.h): regs[31], sp, pc, pstate; then pr_fpvalid and padding.
const status = ({ x, sp, pc }: CoreThread, pid: number): Uint8Array => {
  const bytes = new Bytes()
    .bytes(new Uint8Array(32))
    .u32(pid)
    .bytes(new Uint8Array(112 - 36));
  for (const register of [...x, sp, pc, pstate]) bytes.u64(register);
  return bytes.u64(0).done();
};

/** Threads are numbered from 1 in the order given. */
export const coreFile = (threads: readonly CoreThread[], memory: Uint8Array, address: bigint): Uint8Array => {
  const notes = new Bytes();
  threads.forEach((thread, index) => {
    const descriptor = status(thread, index + 1);
    notes.u32(5).u32(descriptor.length).u32(NT_PRSTATUS).string('CORE').align(4).bytes(descriptor).align(4);
  });
  const notesAt = 64 + 2 * 56;
  const file = new Bytes().bytes([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0]).u64(0);
  file.u16(ET_CORE).u16(EM_AARCH64).u32(1).u64(0).u64(64).u64(0).u32(0).u16(64).u16(56).u16(2).u16(0).u16(0).u16(0);
  file.u32(PT_NOTE).u32(4).u64(notesAt).u64(0).u64(0).u64(notes.length).u64(0).u64(4);
  const size = memory.length;
  file
    .u32(PT_LOAD)
    .u32(6)
    .u64(notesAt + notes.length);
  file.u64(address).u64(0).u64(size).u64(size).u64(8);
  return file.bytes(notes.done()).bytes(memory).done();
};
