// The guardian: a second process that undoes, when the adapter died, what the adapter had done to an attached VMM and its
// guest. It learns of each change before it is made (journal.ts) and knows nothing of symbols or DAP.
import { read } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { promisify } from 'node:util';
import { coreRegisterIds } from '../../arch/aarch64/registers.ts';
import { Hva } from '../../base/address.ts';
import { addGuestDebug } from './batch.ts';
import type { ExitTrap } from './exitTrap.ts';
import { PtraceOption, ptrace, rawSyscall, readProcess, SystemError, waitReadable, writeProcess } from './ffi.ts';
import { guardianInput, type JournalLine } from './guardianJournal.ts';
import { noJournal, type Undo, type VmmRecord } from './journal.ts';
import { Kvm } from './kvmAbi.ts';
import { isMailbox, type MailboxRecord, mailboxFor, removeMailbox } from './mailbox.ts';
import { isEnding, startTime, threads } from './procfs.ts';
import { VcpuGroup } from './vcpuGroup.ts';
import { VcpuThread } from './vcpuThread.ts';

const readDescriptor = promisify(read);

/** The guest must not stop any more, so nothing need be trapped. */
const noTrap: ExitTrap = {
  tier: 'syscall',
  request: 'CONT',
  reason: 'guardian',
  arm() {},
  disarm() {},
  beforeResume() {},
};

type Of<Kind extends Undo['undo']> = Extract<Undo, { undo: Kind }>;

class Recovery {
  readonly #undos: readonly Undo[];
  readonly #pid: number;
  readonly #group: VcpuGroup;

  constructor(
    private readonly vmm: VmmRecord,
    undos: Iterable<Undo>,
  ) {
    this.#undos = [...undos];
    this.#pid = vmm.pid;
    this.#group = new VcpuGroup(vmm.pid, noTrap, false, noJournal);
  }

  #of<Kind extends Undo['undo']>(kind: Kind): readonly Of<Kind>[] {
    return this.#undos.filter((undo): undo is Of<Kind> => undo.undo === kind);
  }

  async run(): Promise<void> {
    // Guest memory and kvm_run can be written with no thread held: the sooner the guest meets no breakpoint, the better.
    for (const { hva, value } of this.#of('immediateExit'))
      writeProcess(this.#pid, Hva(BigInt(hva)), Uint8Array.of(value));
    const restored = this.#of('memory').filter((undo) => this.#restore(undo));
    const living = new Set(threads(this.#pid));
    const records = this.vmm.threads.filter(({ tid }) => living.has(tid));
    const mailbox = this.#mailbox();
    for (const { tid, fd, index, kvmRun } of records) {
      ptrace('SEIZE', tid, 0, PtraceOption.TRACESYSGOOD);
      const thread = new VcpuThread(this.#pid, tid, this.#group.tracer, noJournal);
      thread.identify(fd, index, Hva(BigInt(kvmRun)));
      if (mailbox)
        thread.mailbox = mailboxFor(
          mailbox,
          this.vmm.threads.findIndex((record) => record.tid === tid),
        );
      this.#group.add(thread);
    }
    await this.#group.holdAnywhere();
    for (const thread of this.#group.threads) thread.restoreMask();
    const first = this.#group.threads.find((thread) => thread.isAtRun) ?? this.#group.threads[0];
    if (first && mailbox) {
      this.#disarm(first, restored);
      for (const undo of this.#of('step')) this.#unmask(first, undo);
      removeMailbox(first, mailbox);
    }
    for (const thread of this.#group.threads) {
      if (this.#of('blockSigtrap').some(({ tid }) => tid === thread.tid)) thread.signalMask |= 1n << 4n;
    }
    this.#group.detach();
  }

  #mailbox(): MailboxRecord | undefined {
    const [undo] = this.#of('mailbox');
    if (!undo) return undefined;
    const record = { address: Hva(BigInt(undo.address)), size: undo.size, sigaction: undo.sigaction };
    return isMailbox(this.#pid, record) ? record : undefined;
  }

  /** True when the breakpoint still stood there; what the guest wrote over it stays. */
  #restore({ hva, original, planted }: Of<'memory'>): boolean {
    const address = Hva(BigInt(hva));
    const bytes = Buffer.from(original, 'hex');
    if (!Buffer.from(readProcess(this.#pid, address, bytes.length)).equals(Buffer.from(planted, 'hex'))) return false;
    writeProcess(this.#pid, address, bytes);
    return true;
  }

  #disarm(thread: VcpuThread, restored: readonly Of<'memory'>[]): void {
    for (let from = 0; from < restored.length; from += 100) {
      const sync = thread.batch();
      for (const { hva } of restored.slice(from, from + 100)) sync.syncInstructions(Hva(BigInt(hva)), 4);
      thread.run(sync);
    }
    const batch = thread.batch();
    const armed = new Set([...this.#of('guestDebug'), ...this.#of('step')].map(({ fd }) => fd));
    const calls = addGuestDebug(batch, [...armed]);
    thread.run(batch);
    for (const call of calls) batch.checked(call);
  }

  /** Gives a vCPU that was being stepped its own interrupt masks back. */
  #unmask(thread: VcpuThread, { fd, bits, mask }: Of<'step'>): void {
    const id = coreRegisterIds.get('pstate') ?? 0n;
    const read = thread.batch();
    const got = read.oneRegister('pstate', fd, Kvm.GET_ONE_REG, id, new Uint8Array(8));
    thread.run(read);
    const { data } = read.checked(got);
    const value = new DataView(data.buffer, data.byteOffset).getBigUint64(0, true);
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, (value & ~BigInt(mask)) | BigInt(bits), true);
    const write = thread.batch();
    const put = write.oneRegister('pstate', fd, Kvm.SET_ONE_REG, id, bytes);
    thread.run(write);
    write.checked(put);
  }
}

/** A descriptor of the process that started us, by which its end can be awaited; undefined when it is gone already, which
 *  happens: it is at work while we load. Once the parent is another process, the first one's tracees are free (Linux
 *  kernel/exit.c, forget_original_parent). */
function openParent(pid: number): number | undefined {
  if (process.ppid !== pid) return undefined;
  try {
    const descriptor = rawSyscall('pidfd_open', pid, 0);
    return process.ppid === pid ? descriptor : undefined;
  } catch (thrown) {
    if (thrown instanceof SystemError && thrown.code === 'ESRCH') return undefined;
    throw thrown;
  }
}

/** The lines of the journal, until its end. Not read as they come but many at a time: a step writes two, and being woken
 *  for each would take a CPU from the VMM. Once the adapter is gone there is nothing to wait for. */
async function* journalLines(): AsyncGenerator<string> {
  const pauseMs = 10;
  const buffer = Buffer.alloc(0x10000); // what a pipe holds
  let rest = '';
  for (;;) {
    const { bytesRead } = await readDescriptor(guardianInput, buffer, 0, buffer.length, null);
    if (bytesRead === 0) return;
    const lines = (rest + buffer.toString('utf8', 0, bytesRead)).split('\n');
    rest = lines.pop() ?? '';
    yield* lines;
    await setTimeout(pauseMs);
  }
}

/** Runs until the adapter says that all is undone, or is gone and all was undone here. */
export async function guard(adapterPid: number): Promise<void> {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const) process.on(signal, () => {});
  const adapter = openParent(adapterPid);
  const undos = new Map<string, Undo>();
  let vmm: VmmRecord | undefined;
  let adapterLives = false;
  for await (const text of journalLines()) {
    const line = JSON.parse(text) as JournalLine;
    if (line.do === 'close') return;
    if (line.do === 'recover') adapterLives = true;
    else if (line.do === 'vmm') vmm = line.record;
    else if (line.do === 'enter') for (const { key, undo } of line.entries) undos.set(key, undo);
    else for (const key of line.keys) undos.delete(key);
  }
  if (!vmm || undos.size === 0) return;
  // The pipe closes a moment before the adapter's tracees are free: its end is what frees them.
  if (adapter !== undefined && !adapterLives) waitReadable(adapter);
  if (startTime(vmm.pid) !== vmm.startTime) return;
  try {
    await new Recovery(vmm, undos.values()).run();
  } catch (thrown) {
    // Nothing is left to restore in a VMM that ends.
    if (!isEnding(vmm.pid)) throw thrown;
  }
}
