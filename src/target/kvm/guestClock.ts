// The guest's time stands still while the guest is held: its virtual counter goes on from where it was. Otherwise whoever looks
// around for a minute is told of soft lockups, stalls and timeouts by the guest. QEMU's own stub does the same
// (target/arm/kvm.c, kvm_arm_vm_state_change). The physical counter, which a guest at EL1 need not use, cannot be held.
import type { Batch } from './batch.ts';
import type { Journal, JournalEntry } from './journal.ts';
import type { VcpuRegisters } from './vcpuRegisters.ts';
import type { VcpuThread } from './vcpuThread.ts';

/** One for all vCPUs: KVM sets the offset of each with that of any (arch/arm64/kvm/arch_timer.c, update_vtimer_cntvoff). */
const counter = 'cntvct_el0';
const key = 'clock';

export class GuestClock {
  #held: { readonly fd: number; readonly value: bigint } | undefined;

  constructor(
    private readonly registers: VcpuRegisters,
    private readonly journal: Journal,
  ) {}

  /** For the journal, while the guest is held. */
  get entries(): readonly JournalEntry[] {
    if (this.#held === undefined) return [];
    const { fd, value } = this.#held;
    return [{ key, undo: { undo: 'clock', fd, value: `${value}` } }];
  }

  /** The same, to be struck once the guest is to run. */
  readonly keys: readonly string[] = [key];

  /** Adds what holds the clock, unless it is held already, to a batch that is about to run; call the result once it ran.
   *  Precondition: no vCPU runs. */
  addHold(batch: Batch, thread: VcpuThread): () => void {
    if (this.#held !== undefined || !this.registers.has(counter)) return () => {};
    const read = this.registers.addFreshRead(batch, thread, counter);
    return () => {
      this.#held = { fd: thread.fd ?? -1, value: read() };
    };
  }

  /** Adds what lets it go on to a batch that is about to run; call the result once it ran. */
  addRelease(batch: Batch, thread: VcpuThread): () => void {
    if (this.#held === undefined) return () => {};
    const call = this.registers.addWrite(batch, thread, counter, this.#held.value);
    return () => {
      batch.checked(call);
      this.#held = undefined;
    };
  }

  hold(thread: VcpuThread): void {
    const batch = thread.batch();
    const held = this.addHold(batch, thread);
    thread.run(batch);
    held();
    this.journal.strike([], this.entries);
  }

  release(thread: VcpuThread): void {
    const batch = thread.batch();
    const released = this.addRelease(batch, thread);
    this.journal.strike(this.keys);
    thread.run(batch);
    released();
  }

  /** Values that were read from a vCPU, as the guest will find them. */
  held(values: ReadonlyMap<string, bigint>): ReadonlyMap<string, bigint> {
    if (this.#held === undefined || !values.has(counter)) return values;
    return new Map(values).set(counter, this.#held.value);
  }

  /** A register was written: the counter goes on from there. */
  written(name: string, value: bigint): void {
    if (name === counter && this.#held !== undefined) this.#held = { ...this.#held, value };
  }
}
