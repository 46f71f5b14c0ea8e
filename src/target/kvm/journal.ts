// What must be undone in the VMM and the guest when the adapter dies: written down before each change, crossed out after
// it was undone. The guardian (guardian.ts) holds the other end.
import type { Gpa } from '../../base/address.ts';
import type { MailboxRecord } from './mailbox.ts';

export type Undo =
  /** Guest debug is armed on this vCPU. */
  | { readonly undo: 'guestDebug'; readonly fd: number }
  /** `planted` (hexadecimal) stands at `hva` for `original`. */
  | { readonly undo: 'memory'; readonly hva: string; readonly original: string; readonly planted: string }
  /** Guest debug is armed on this vCPU for a step, and `mask` of its PSTATE is the debugger's: the guest's are `bits`. */
  | { readonly undo: 'step'; readonly fd: number; readonly bits: string; readonly mask: string }
  /** kvm_run.immediate_exit was `value`. */
  | { readonly undo: 'immediateExit'; readonly hva: string; readonly value: number }
  /** SIGTRAP was blocked in this thread. */
  | { readonly undo: 'blockSigtrap'; readonly tid: number }
  | { readonly undo: 'mailbox'; readonly address: string; readonly size: number; readonly sigaction: string };

/** One vCPU thread as the guardian must know it to take it over. */
export interface ThreadRecord {
  readonly tid: number;
  readonly fd: number;
  readonly index: number;
  readonly kvmRun: string;
}

export interface VmmRecord {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat: tells a process from a later one of the same pid. */
  readonly startTime: string;
  readonly threads: readonly ThreadRecord[];
}

export interface JournalEntry {
  /** Names what was changed. */
  readonly key: string;
  readonly undo: Undo;
}

export interface Journal {
  vmm(record: VmmRecord): void;
  /** Returns once the entries will outlive us. */
  enter(...entries: readonly JournalEntry[]): void;
  strike(...keys: readonly string[]): void;
  /** Everything is undone: the guardian goes. */
  close(): void;
}

/** For a VMM that dies with the adapter (PTRACE_O_EXITKILL). */
export const noJournal: Journal = { vmm() {}, enter() {}, strike() {}, close() {} };

export const mailboxUndo = ({ address, size, sigaction }: MailboxRecord): Undo => ({
  undo: 'mailbox',
  address: address.toString(),
  size,
  sigaction,
});

export const memoryKey = (gpa: Gpa): string => `memory ${gpa}`;
