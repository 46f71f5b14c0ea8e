// The memory that is mapped into the VMM for injected code and its arguments, and the SIGTRAP handler that saves a thread
// caught in that code when the tracer dies.
import { Hva } from '../../base/address.ts';
import { SessionError } from '../../base/errors.ts';
import { block } from './batch.ts';
import { errnoName, readProcess, writeProcess } from './ffi.ts';
import { Syscall } from './kvmAbi.ts';
import { orphanHandler, stubCode } from './stub.ts';
import type { Mailbox, VcpuThread } from './vcpuThread.ts';

const SIGTRAP = 5n;
/** One unit for every page size arm64 has. */
const codeSize = 0x10000;
// include/uapi/asm-generic/mman-common.h
const PROT = { READ: 1n, WRITE: 2n, EXEC: 4n } as const;
const MAP_PRIVATE_ANONYMOUS = 0x22n;

/** What must be undone when the mailbox goes; enough for another process to do it. */
export interface MailboxRecord {
  readonly address: Hva;
  readonly size: number;
  /** struct sigaction as the kernel has it, hexadecimal: the VMM's own for SIGTRAP. */
  readonly sigaction: string;
}

export const mailboxFor = (record: MailboxRecord, index: number): Mailbox => ({
  code: record.address,
  codeSize,
  block: Hva(record.address + BigInt(codeSize + index * block.size)),
});

function checkedCall(thread: VcpuThread, label: string, number: bigint, ...args: readonly bigint[]): bigint {
  const result = thread.rawCall(number, ...args);
  // mmap returns addresses; errors are the last page of the address space.
  if (result < 0n && result >= -4095n) {
    throw new SessionError(`${label} in the VMM failed with ${errnoName(-Number(result))}`);
  }
  return result;
}

/** struct kernel_sigaction (arch/arm64: no legacy fields): handler, flags, restorer, mask; 8 bytes each. */
function encodeSigaction(handler: bigint): Uint8Array {
  const SA_SIGINFO = 4n;
  const bytes = new Uint8Array(32);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, handler, true);
  view.setBigUint64(8, SA_SIGINFO, true);
  return bytes;
}

/** rt_sigaction by the injected code; returns the old action. */
function exchangeSigaction(thread: VcpuThread, action: Uint8Array): Uint8Array {
  const batch = thread.batch();
  const both = new Uint8Array(2 * action.length);
  both.set(action);
  const call = batch.callWith('rt_sigaction', Syscall.rt_sigaction, both, (address) => [
    SIGTRAP,
    address,
    address + BigInt(action.length),
    8n,
  ]);
  thread.run(batch);
  return batch.checked(call).data.slice(action.length);
}

/** Maps the mailbox with room for all of `threads` and gives each its own. Precondition: the first is parked. `announce`
 *  hears of each step before what follows it. */
export function installMailbox(
  threads: readonly VcpuThread[],
  announce: (record: MailboxRecord) => void,
): MailboxRecord {
  const [first] = threads;
  if (!first) throw new SessionError('The VMM has no vCPU thread');
  const size = codeSize + threads.length * block.size;
  const address = Hva(
    checkedCall(first, 'mmap', Syscall.mmap, 0n, BigInt(size), PROT.READ | PROT.WRITE, MAP_PRIVATE_ANONYMOUS, -1n, 0n),
  );
  announce({ address, size, sigaction: '' });
  for (const [index, thread] of threads.entries()) thread.mailbox = mailboxFor({ address, size, sigaction: '' }, index);
  // Written first, made executable after: the kernel then cleans the page for instruction fetch.
  writeProcess(first.pid, address, stubCode);
  checkedCall(first, 'mprotect', Syscall.mprotect, address, BigInt(codeSize), PROT.READ | PROT.EXEC);
  const old = exchangeSigaction(first, encodeSigaction(address + orphanHandler));
  const record = { address, size, sigaction: Buffer.from(old).toString('hex') };
  announce(record);
  return record;
}

/** Puts the VMM's SIGTRAP action back and unmaps the mailbox. Precondition: `thread` is parked, no thread is in it. */
export function removeMailbox(thread: VcpuThread, record: MailboxRecord): void {
  if (record.sigaction !== '') exchangeSigaction(thread, Buffer.from(record.sigaction, 'hex'));
  checkedCall(thread, 'munmap', Syscall.munmap, record.address, BigInt(record.size));
}

/** Whether the injected code is where a record says: a guardian checks before it relies on it. */
export const isMailbox = (pid: number, record: MailboxRecord): boolean =>
  Buffer.from(readProcess(pid, record.address, stubCode.length)).equals(Buffer.from(stubCode));
