// Finds the memory slots of a VM that was not started by us. KVM has no call that lists them, but the answers of
// KVM_SET_USER_MEMORY_REGION (virt/kvm/kvm_main.c, kvm_set_memory_region) tell:
//
//   slot exists, other address or size in the VMM, or other READONLY flag  EINVAL, nothing changes
//   slot exists, all fields equal                                          0, nothing changes
//   slot exists, right address and size, gpa overlaps *another* slot       EEXIST, nothing changes
//   slot exists, right address and size, another and free gpa              the slot moves: must never be asked
//   slot is free, gpa overlaps a slot                                      EEXIST, nothing changes
//   slot is free, gpa is free                                              a slot is made: deleted at once
//
// So: a page-sized slot of ours at the top of the address space (the wall) is asked against for existence, address and
// size; pages made and deleted at once tell which gpas are taken; and the exact call is made only at the first taken page
// after a free one, where a slot must begin: it then answers 0 for that slot and EEXIST for all others.
//
// Every vCPU is parked meanwhile. The wall goes up and down within one injected batch, so that it cannot outlive us.
import { Gpa } from '../../base/address.ts';
import { TargetError } from '../../base/errors.ts';
import { hostPageSize } from './ffi.ts';
import { Errno, encodeMemoryRegion, Kvm, type MemoryRegion } from './kvmAbi.ts';
import { MemorySlots } from './memorySlots.ts';
import { type Mapping, mappings } from './procfs.ts';
import type { VcpuThread } from './vcpuThread.ts';

/** Slots are aligned to the host's pages (kvm_set_memory_region). */
const PAGE = hostPageSize();
/** The guest never runs while a slot of ours stands, so nothing need be mapped there; low, to leave room for any size. */
const anyAddress = 0x10000n;
const MIB = 1n << 20n;
const READONLY = 2;
/** Slot ids are tried up to here; KVM gives 32,767, and VMMs count from 0. */
const highestId = 63;
/** Ours, for the wall and the pages that are made and deleted. */
const wallId = 508;
const pageId = 507;
/** Where VMMs put things: QEMU `virt` RAM, kvmtool, crosvm and Firecracker RAM, QEMU flash, steal-time pages (hw/arm/virt.c,
 *  kvmtool arm/aarch64/include/kvm/kvm-arch.h). Tried before any search: these are never the interrupt controller's
 *  pages, which KVM maps for a GICv2 guest without a slot and would unmap with one. */
const usualBases = [0x4000_0000n, 0x8000_0000n, 0n, 0x400_0000n, 0x102_0000n, 0x90a_0000n];
/** Below lie devices in every known layout; the search stays above. */
const searchStart = 0x4000_0000n;

interface Candidate {
  readonly id: number;
  readonly flags: number;
  readonly hva: bigint;
  readonly size: bigint;
}

export class SlotOracle {
  readonly #thread: VcpuThread;
  readonly #vm: number;
  #wall = 0n;
  #limit = 0n;

  /** Preconditions: every vCPU thread is parked, `thread` has its mailbox, `vm` is the VM's descriptor in the VMM. */
  constructor(thread: VcpuThread, vm: number) {
    this.#thread = thread;
    this.#vm = vm;
  }

  /** Makes the calls in order, in one injection, and returns their results. */
  #ask(regions: readonly MemoryRegion[]): readonly bigint[] {
    const batch = this.#thread.batch();
    const calls = regions.map((region) =>
      batch.ioctl('KVM_SET_USER_MEMORY_REGION', this.#vm, Kvm.SET_USER_MEMORY_REGION, encodeMemoryRegion(region)),
    );
    this.#thread.run(batch);
    return calls.map((call) => batch.result(call).value);
  }

  #own(slot: number, gpa: bigint, size: bigint): readonly [make: MemoryRegion, remove: MemoryRegion] {
    const region = { slot, flags: 0, gpa, size, hva: anyAddress };
    return [region, { ...region, size: 0n }];
  }

  /** Asks `questions` while the wall stands. */
  #askAgainstWall(questions: readonly MemoryRegion[]): readonly bigint[] {
    const results: bigint[] = [];
    const most = 100;
    for (let from = 0; from < questions.length; from += most) {
      const [make, remove] = this.#own(wallId, this.#wall, PAGE);
      const [made, ...rest] = this.#ask([make, ...questions.slice(from, from + most), remove]);
      if (made !== 0n || rest.pop() !== 0n) {
        throw new TargetError('The memory slots of the VM could not be found: KVM refuses a slot of the debugger');
      }
      results.push(...rest);
    }
    return results;
  }

  #isTaken(gpa: bigint, size = PAGE): boolean {
    const [made] = this.#ask(this.#own(pageId, gpa, size));
    if (made !== 0n && made !== -Errno.EEXIST) {
      throw new TargetError(`The memory slots of the VM could not be found: KVM answers ${made} for a probe`);
    }
    return made !== 0n;
  }

  /** The top page of the guest physical address space, by trial: KVM answers EFAULT beyond it. */
  #findTop(): void {
    for (const bits of [52n, 48n, 44n, 42n, 40n, 39n, 36n, 33n, 32n]) {
      const gpa = (1n << bits) - PAGE;
      const [made] = this.#ask(this.#own(wallId, gpa, PAGE));
      if (made === 0n) {
        this.#limit = 1n << bits;
        this.#wall = gpa;
        return;
      }
    }
    throw new TargetError('The memory slots of the VM could not be found: KVM accepts no slot of the debugger');
  }

  find(): MemorySlots {
    this.#findTop();
    const slots = new MemorySlots();
    const unplaced = this.#identify(this.#existing());
    const place = (gpa: bigint): boolean => {
      const index = unplaced.findIndex(({ id, flags, hva, size }) => {
        const [answer] = this.#ask([{ slot: id, flags, gpa, size, hva }]);
        if (answer === 0n) slots.set({ slot: id, flags, gpa, size, hva });
        return answer === 0n;
      });
      if (index >= 0) unplaced.splice(index, 1);
      return index >= 0;
    };
    for (const base of usualBases) {
      const startsHere = base === 0n || !this.#isTaken(base - PAGE) || this.#endsAt(slots, base);
      if (startsHere && this.#isTaken(base)) place(base);
    }
    let from = searchStart;
    while (unplaced.some(({ size }) => size >= MIB) && from < this.#limit) {
      const known = slots.find(Gpa(from));
      if (known) {
        from += known.remaining;
        continue;
      }
      const next = this.#firstTaken(from);
      if (next === undefined) break;
      // A slot that could not be told from VMM memory begins here: what follows it cannot be told either.
      if (!slots.find(Gpa(next)) && !place(next)) break;
      from = next;
    }
    return slots;
  }

  #endsAt(slots: MemorySlots, gpa: bigint): boolean {
    return slots.regions.some((region) => region.gpa + region.size === gpa);
  }

  /** The first taken page at or after `from`, which is free or begins a slot. */
  #firstTaken(from: bigint): bigint | undefined {
    if (!this.#isTaken(from, this.#limit - from)) return undefined;
    let free = 0n; // bytes from `from` known to be free
    let taken = this.#limit - from; // a length known not to be
    while (taken - free > PAGE) {
      const middle = free + (((taken - free) / 2n + PAGE - 1n) & -PAGE);
      if (middle >= taken) break;
      if (this.#isTaken(from, middle)) taken = middle;
      else free = middle;
    }
    return from + free;
  }

  #existing(): readonly number[] {
    const ids = Array.from({ length: highestId + 1 }, (_, id) => id);
    const answers = this.#askAgainstWall(ids.map((slot) => this.#own(slot, this.#wall, PAGE)[0]));
    return ids.filter((id) => answers[id] === -Errno.EINVAL);
  }

  /** Where in the VMM each slot lies: the ranges of its writable mappings are asked, as they are and trimmed as VMMs do to
   *  align RAM to huge pages. */
  #identify(ids: readonly number[]): Candidate[] {
    const ranges = mappings(this.#thread.pid).flatMap(slotRanges);
    const candidates = ids.flatMap((id) =>
      ranges.flatMap((range) => [0, READONLY].map((flags): Candidate => ({ id, flags, ...range }))),
    );
    const answers = this.#askAgainstWall(
      candidates.map(({ id, flags, hva, size }) => ({ slot: id, flags, gpa: this.#wall, size, hva })),
    );
    return candidates.filter((_, index) => answers[index] === -Errno.EEXIST).sort((a, b) => Number(b.size - a.size));
  }
}

function slotRanges({ start, end, permissions, name }: Mapping): readonly { hva: bigint; size: bigint }[] {
  const isOwn = name === '' || /^\/(memfd:|dev\/(shm|zero|hugepages)|anon_hugepage)|^\[anon/.test(name);
  if (!isOwn || !permissions.startsWith('r')) return [];
  const size = end - start;
  const aligned = (start + 2n * MIB - 1n) & -(2n * MIB);
  return [
    { hva: start, size },
    { hva: aligned, size: size - 2n * MIB },
    { hva: aligned, size: end - aligned },
  ].filter(
    (range, index, all) =>
      range.size > 0n && all.findIndex((r) => r.hva === range.hva && r.size === range.size) === index,
  );
}
