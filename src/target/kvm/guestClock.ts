// The guest's time stands still while the guest is held: its virtual counter goes on from where it was. Otherwise whoever looks
// around for a minute is told of soft lockups, stalls and timeouts by the guest. QEMU's own stub does the same
// (target/arm/kvm.c, kvm_arm_vm_state_change). The physical counter, which Linux at EL1 does not use, runs on.
//
// Should the debugger die, it is left as it is: by the time somebody could turn it back, the guest has seen it.
import type { RegisterValues } from '../../arch/architecture.ts';
import type { Batch } from './batch.ts';
import type { VcpuRegisters } from './vcpuRegisters.ts';
import type { VcpuThread } from './vcpuThread.ts';

// One for all vCPUs: Linux 6.4 and later have one offset for a VM (arch/arm64/kvm/arch_timer.c, timer_set_offset), before, that of
// each was set with that of any (update_vtimer_cntvoff).
const counter = 'cntvct_el0';
// CNTV_CTL_EL0 (Arm ARM, D24.10): 2 ISTATUS.
const timer = { control: 'cntv_ctl_el0', compare: 'cntv_cval_el0', ISTATUS: 4n };

export class GuestClock {
  /** Whether it can be: KVM ignores what is written where the VMM has set the offset itself (KVM_ARM_SET_COUNTER_OFFSET). */
  readonly isHeld: boolean;
  #value: bigint | undefined;

  /** Holds the clock, and finds out whether that works. Precondition: all vCPUs are parked. */
  constructor(
    private readonly registers: VcpuRegisters,
    thread: VcpuThread,
  ) {
    this.isHeld = registers.has(counter) && this.#tryOut(thread);
  }

  #tryOut(thread: VcpuThread): boolean {
    const { registers } = this;
    const first = thread.batch();
    const now = registers.addFreshRead(first, thread, counter);
    thread.run(first);
    const value = now();
    const second = thread.batch();
    const before = registers.addFreshRead(second, thread, counter);
    registers.addWrite(second, thread, counter, value);
    const after = registers.addFreshRead(second, thread, counter);
    thread.run(second);
    // Refused or ignored, it is all the same: the counter has run on.
    if (after() >= before()) return false;
    this.#value = value;
    return true;
  }

  /** Adds what holds the clock, unless it is held already, to a batch that is about to run; call the result once it ran.
   *  Precondition: no vCPU runs. */
  addHold(batch: Batch, thread: VcpuThread): () => void {
    if (!this.isHeld || this.#value !== undefined) return () => {};
    const read = this.registers.addFreshRead(batch, thread, counter);
    return () => {
      this.#value = read();
    };
  }

  /** Adds what lets it go on to a batch that is about to run; call the result once it ran. */
  addRelease(batch: Batch, thread: VcpuThread): () => void {
    if (this.#value === undefined) return () => {};
    const call = this.registers.addWrite(batch, thread, counter, this.#value);
    return () => {
      batch.checked(call);
      this.#value = undefined;
    };
  }

  release(thread: VcpuThread): void {
    const batch = thread.batch();
    const released = this.addRelease(batch, thread);
    thread.run(batch);
    released();
  }

  /** What was read from a vCPU, as the guest will find it. */
  held(values: RegisterValues, thread: VcpuThread): RegisterValues {
    const now = this.#value;
    const control = values.get(timer.control);
    if (now === undefined || (control === undefined && !values.has(counter))) return values;
    const held = new Map(values);
    if (values.has(counter)) held.set(counter, now);
    if (control !== undefined) {
      // KVM computes it as it is read (arch_timer.c, read_timer_ctl), by the counter that runs on.
      const isDue = now >= this.registers.one(thread, timer.compare);
      held.set(timer.control, isDue ? control | timer.ISTATUS : control & ~timer.ISTATUS);
    }
    return held;
  }

  /** A register was written: the counter goes on from there. */
  written(name: string, value: bigint): void {
    if (name === counter && this.#value !== undefined) this.#value = value;
  }
}
