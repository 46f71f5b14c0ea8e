// The stop points of one VM: which exist, how they get into guest memory and the debug registers for a run, and which of
// them explains a debug exit.
import {
  type DebugRegisterPair,
  encodeBreakpoint,
  encodeWatchpoints,
  nearestWatchpoints,
} from '../../arch/aarch64/debug.ts';
import { type Gpa, type Gva, hex } from '../../base/address.ts';
import { messageOf, SessionError, TargetError } from '../../base/errors.ts';
import { type StopPoint, type StopPointId, UnplantedBreakpoints, type WatchAccess } from '../target.ts';
import { type Journal, memoryKey } from './journal.ts';
import { guestDebug } from './kvmAbi.ts';
import type { SlotMemory } from './memorySlots.ts';

/** BRK #0, little endian (Arm ARM, C6.2 BRK; KVM takes any immediate). */
export const breakInstruction = new Uint8Array(new Uint32Array([0xd4200000]).buffer);

export interface Budget {
  readonly hardwareBreakpoints: number;
  readonly hardwareWatchpoints: number;
}

interface Software {
  readonly kind: 'software';
  readonly gva: Gva;
  readonly gpa: Gpa;
}
interface Hardware {
  readonly kind: 'hardware';
  readonly gva: Gva;
  readonly pair: DebugRegisterPair;
}
interface Watch {
  readonly kind: 'watch';
  readonly address: Gva;
  readonly length: number;
  readonly access: WatchAccess;
  readonly pairs: readonly DebugRegisterPair[];
}
type Entry = Software | Hardware | Watch;

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const planted = text(breakInstruction);

const sameBytes = (a: Uint8Array, b: Uint8Array): boolean => Buffer.from(a).equals(b);

export class StopPoints {
  readonly #entries = new Map<StopPointId, Entry>();
  /** What stands in guest memory now, by address: the guest's own bytes. */
  readonly #planted = new Map<Gpa, Uint8Array>();
  /** Where the guest has written over what was planted. */
  readonly #rewritten = new Set<Gpa>();
  #lastId = 0;

  constructor(
    private readonly memory: SlotMemory,
    private readonly budget: Budget,
    private readonly journal: Journal,
  ) {}

  get isEmpty(): boolean {
    return this.#entries.size === 0;
  }

  #add(entry: Entry): StopPointId {
    const id = ++this.#lastId as StopPointId;
    this.#entries.set(id, entry);
    return id;
  }

  remove(id: StopPointId): void {
    if (!this.#entries.delete(id)) throw new TargetError(`There is no stop point ${id}`);
  }

  /** Precondition: none is planted. Adds a software breakpoint after it was written, read back and taken out again. */
  addSoftware(gva: Gva, gpa: Gpa): StopPointId {
    if (gva & 3n) throw new TargetError(`No instruction can be at ${hex(gva)}: it is not aligned to 4 bytes`);
    if (!this.memory.slots.find(gpa)) {
      throw new TargetError(`No RAM at guest physical ${hex(gpa)}: a software breakpoint cannot be there`);
    }
    try {
      this.#plant([gpa]);
    } finally {
      this.lift();
    }
    return this.#add({ kind: 'software', gva, gpa });
  }

  addHardware(gva: Gva): StopPointId {
    const pair = encodeBreakpoint(gva);
    const used = new Set(this.#hardware().map((entry) => entry.gva));
    const limit = this.budget.hardwareBreakpoints;
    if (!used.has(gva) && used.size >= limit) {
      throw new TargetError(`All ${limit} hardware breakpoints of the vCPU are in use`);
    }
    return this.#add({ kind: 'hardware', gva, pair });
  }

  addWatch({ address, length, access }: StopPoint & { kind: 'watch' }): StopPointId {
    const limit = this.budget.hardwareWatchpoints;
    const used = this.#watches().reduce((sum, watch) => sum + watch.pairs.length, 0);
    const pairs = encodeWatchpoints(address, length, access, limit);
    if (used + pairs.length > limit) {
      throw new TargetError(
        `Watching ${length} bytes at ${hex(address)} needs ${pairs.length} of the vCPU's ${limit} hardware watchpoints; ${used} are in use`,
      );
    }
    return this.#add({ kind: 'watch', address, length, access, pairs });
  }

  #hardware(): readonly Hardware[] {
    return [...this.#entries.values()].filter((entry) => entry.kind === 'hardware');
  }

  #watches(): readonly Watch[] {
    return [...this.#entries.values()].filter((entry) => entry.kind === 'watch');
  }

  /** Ids of the stop points that the execution of the instruction at `pc` triggers. */
  executionAt(pc: Gva): readonly StopPointId[] {
    return [...this.#entries].filter(([, entry]) => entry.kind !== 'watch' && entry.gva === pc).map(([id]) => id);
  }

  /** Ids of the software breakpoints planted at a physical address. */
  softwareAt(gpa: Gpa): readonly StopPointId[] {
    return [...this.#entries].filter(([, entry]) => entry.kind === 'software' && entry.gpa === gpa).map(([id]) => id);
  }

  takeRewritten(): readonly StopPointId[] {
    const ids = [...this.#rewritten].flatMap((gpa) => this.softwareAt(gpa));
    this.#rewritten.clear();
    return ids;
  }

  hardwareAt(pc: Gva): readonly StopPointId[] {
    return [...this.#entries].filter(([, entry]) => entry.kind === 'hardware' && entry.gva === pc).map(([id]) => id);
  }

  /** Ids of the watchpoints for accesses of that kind that the reported address is nearest to. */
  watchNear(far: Gva, isWrite: boolean): readonly StopPointId[] {
    const other = isWrite ? 'read' : 'write';
    const watched = [...this.#entries].flatMap(([id, entry]) =>
      entry.kind === 'watch' && entry.access !== other ? [{ id, address: entry.address, length: entry.length }] : [],
    );
    return nearestWatchpoints(far, watched).map(({ id }) => id);
  }

  /** Writes every software breakpoint into guest memory and returns what was patched. All are entered in the journal before
   *  they are written, and read back after. UnplantedBreakpoints when some cannot be; the others stay to be lifted. */
  plant(): readonly Gpa[] {
    const software = [...this.#entries.values()].filter((entry) => entry.kind === 'software');
    this.#plant(new Set(software.map(({ gpa }) => gpa)));
    return [...this.#planted.keys()];
  }

  #plant(wanted: Iterable<Gpa>): void {
    const places = [...wanted].filter((gpa) => !this.#planted.has(gpa));
    const found = this.memory.readEach(places, breakInstruction.length);
    const originals = new Map(places.map((gpa, index) => [gpa, found[index] ?? breakInstruction]));
    const entries = [...originals].map(([gpa, original]) => {
      const hva = `${this.memory.hva(gpa)}`;
      return { key: memoryKey(gpa), undo: { undo: 'memory', hva, original: text(original), planted } as const };
    });
    this.journal.enter(...entries);
    for (const [gpa, original] of originals) this.#planted.set(gpa, original);
    let cause: unknown;
    try {
      this.memory.writeEach(new Map(places.map((gpa) => [gpa, breakInstruction])));
    } catch (thrown) {
      cause = thrown; // which of them it is shows when they are read back
    }
    const failed = this.#withoutBreakpoint(places);
    this.#settle(failed);
    if (failed.length === 0 && cause === undefined) return;
    const where = hex(failed[0] ?? places[0] ?? 0n);
    const why = cause === undefined ? 'it does not read back' : messageOf(cause);
    const ids = (failed.length > 0 ? failed : places).flatMap((gpa) => this.softwareAt(gpa));
    const what = `A software breakpoint cannot be written at guest physical ${where}: ${why}`;
    throw new UnplantedBreakpoints(what, ids, { cause });
  }

  #withoutBreakpoint(places: readonly Gpa[]): readonly Gpa[] {
    const found = this.memory.readEach(places, breakInstruction.length);
    return places.filter((_, index) => !sameBytes(found[index] ?? breakInstruction, breakInstruction));
  }

  /** No breakpoint of ours stands there any more. */
  #settle(places: readonly Gpa[]): void {
    for (const gpa of places) this.#planted.delete(gpa);
    this.journal.strike(...places.map(memoryKey));
  }

  /** Takes every software breakpoint out of guest memory. What the guest wrote over one in the meantime stays. SessionError
   *  when one cannot be taken out; the others are all the same. */
  lift(): readonly Gpa[] {
    const patched = [...this.#planted.keys()];
    try {
      const rewritten = new Set(this.#withoutBreakpoint(patched));
      this.memory.writeEach(new Map([...this.#planted].filter(([gpa]) => !rewritten.has(gpa))));
      for (const gpa of rewritten) this.#rewritten.add(gpa);
      this.#settle(patched);
    } catch {
      this.#liftOneByOne(); // finds the failure again, and tells of it
    }
    return patched;
  }

  /** After a failure among many, of which some may be lifted already. */
  #liftOneByOne(): void {
    let failure: SessionError | undefined;
    for (const [gpa, original] of [...this.#planted]) {
      try {
        const bytes = this.memory.readNow(gpa, breakInstruction.length);
        if (sameBytes(bytes, breakInstruction)) this.memory.writeNow(gpa, original);
        else if (!sameBytes(bytes, original)) this.#rewritten.add(gpa);
        this.#settle([gpa]);
      } catch (cause) {
        const what = `The breakpoint at guest physical ${hex(gpa)} cannot be taken out: ${messageOf(cause)}`;
        failure ??= new SessionError(what, { cause });
      }
    }
    if (failure) throw failure;
  }

  /** The argument of KVM_SET_GUEST_DEBUG for a run, or for a step of one vCPU, in which only watchpoints are armed. A
   *  step that has `ends` runs to the first of them instead of executing one instruction. */
  guestDebug(mode: 'run' | 'step' | 'stepUnwatched', ends: readonly Gva[] = []): Uint8Array {
    const bytes = new Uint8Array(guestDebug.size);
    const view = new DataView(bytes.buffer);
    const watch = mode === 'stepUnwatched' ? [] : this.#watches().flatMap((entry) => entry.pairs);
    const execute =
      mode === 'run'
        ? [...new Map(this.#hardware().map((entry) => [entry.gva, entry.pair])).values()]
        : ends.map((end) => encodeBreakpoint(end));
    // With USE_HW in any case: without, the guest's own breakpoints and watchpoints come here as debug exits where KVM leaves
    // the registers to it (kvm_arm_setup_debug in Linux arch/arm64/kvm/debug.c). Kernels that have kvm_vcpu_load_debug
    // there take them from the guest whenever ENABLE is set.
    let control: number = guestDebug.ENABLE | guestDebug.USE_HW;
    if (mode === 'run') control |= guestDebug.USE_SW_BP;
    else if (ends.length === 0) control |= guestDebug.SINGLESTEP;
    view.setUint32(0, control, true);
    for (const [index, pair] of execute.entries()) {
      view.setBigUint64(guestDebug.bcr + 8 * index, pair.control, true);
      view.setBigUint64(guestDebug.bvr + 8 * index, pair.value, true);
    }
    for (const [index, pair] of watch.entries()) {
      view.setBigUint64(guestDebug.wcr + 8 * index, pair.control, true);
      view.setBigUint64(guestDebug.wvr + 8 * index, pair.value, true);
    }
    return bytes;
  }
}
