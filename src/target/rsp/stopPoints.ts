// The stop points of a guest behind a stub: which exist, how they get into the stub for a run, and which of them explains a
// stop.
//
// GDB manual, E.2 "Packets", `Z type,addr,kind` and `z`: type 0 software breakpoint, 1 hardware breakpoint, 2 write, 3 read,
// 4 access watchpoint. Kind is the length: of the instruction, or of what is watched. An empty answer: the stub does not
// have that type.

import { encodeBreakpoint, encodeWatchpoints, nearestWatchpoints, watchedBytes } from '../../arch/aarch64/debug.ts';
import { type Gva, hex } from '../../base/address.ts';
import { messageOf, SessionError, TargetError } from '../../base/errors.ts';
import { type StopPoint, type StopPointId, UnplantedBreakpoints, type WatchAccess } from '../target.ts';
import { hexNumber, type RspConnection, refusal } from './connection.ts';

const instructionLength = 4;
const watchTypes: Readonly<Record<WatchAccess, string>> = { write: '2', read: '3', readWrite: '4' };

interface Entry {
  readonly point: StopPoint;
  /** `type,addr,kind`, for each that it takes. */
  readonly places: readonly string[];
}

export interface Budget {
  readonly hardwareBreakpoints: number;
  readonly hardwareWatchpoints: number;
}

export class RspStopPoints {
  readonly #entries = new Map<StopPointId, Entry>();
  readonly #planted = new Set<string>();
  readonly #rewritten = new Set<string>();
  /** Addresses of the breakpoints in this run or the last one, and in the one before. */
  #lately: readonly [now: ReadonlySet<bigint>, before: ReadonlySet<bigint>] = [new Set(), new Set()];
  #lastId = 0;

  constructor(
    private readonly connection: RspConnection,
    private readonly budget: Budget,
  ) {}

  /** Precondition of both: none is planted. The point is tried: put in and taken out again. Of hardware points the stub may
   *  have less than the vCPU: the others of the kind are in meanwhile. */
  async insert(point: StopPoint): Promise<StopPointId> {
    const entry = { point, places: this.#placesOf(point) };
    this.#checkBudget(entry);
    try {
      const others = [...this.#entries.values()].filter(
        (other) => point.kind !== 'software' && other.point.kind === point.kind,
      );
      for (const place of new Set([...others, entry].flatMap(({ places }) => places))) await this.#put(place);
    } finally {
      await this.#liftAll();
    }
    const id = ++this.#lastId as StopPointId;
    this.#entries.set(id, entry);
    return id;
  }

  remove(id: StopPointId): void {
    if (!this.#entries.delete(id)) throw new TargetError(`There is no stop point ${id}`);
  }

  #placesOf(point: StopPoint): readonly string[] {
    if (point.kind !== 'watch') {
      const { value } = encodeBreakpoint(point.address);
      return [`${point.kind === 'software' ? '0' : '1'},${hexNumber(value)},${instructionLength}`];
    }
    const { address, length, access } = point;
    const pairs = encodeWatchpoints(address, length, access, this.budget.hardwareWatchpoints);
    return pairs
      .map(watchedBytes)
      .map((part) => `${watchTypes[access]},${hexNumber(part.address)},${hexNumber(part.length)}`);
  }

  #checkBudget({ point, places }: Entry): void {
    const { hardwareBreakpoints, hardwareWatchpoints } = this.budget;
    const used = new Set(
      [...this.#entries.values()].flatMap((entry) => (entry.point.kind === point.kind ? entry.places : [])),
    );
    const needed = places.filter((place) => !used.has(place)).length;
    if (point.kind === 'hardware' && used.size + needed > hardwareBreakpoints) {
      throw new TargetError(`All ${hardwareBreakpoints} hardware breakpoints of the vCPU are in use`);
    }
    if (point.kind === 'watch' && used.size + needed > hardwareWatchpoints) {
      throw new TargetError(
        `Watching ${point.length} bytes at ${hex(point.address)} needs ${places.length} of the vCPU's ${hardwareWatchpoints} hardware watchpoints; ${used.size} are in use`,
      );
    }
  }

  /** Ids of the stop points that the execution of the instruction at `pc` triggers. */
  executionAt(pc: Gva): readonly StopPointId[] {
    return this.#idsOf(({ point }) => point.kind !== 'watch' && point.address === pc);
  }

  /** Whether a breakpoint was at `pc` in the run before. Of several vCPUs that arrive at once the stub reports one; what it
   *  still has of another may come after the breakpoint has gone. */
  wasLately(pc: Gva): boolean {
    return this.#lately[1].has(pc);
  }

  /** Ids of the watchpoints for accesses of that kind that the reported address is nearest to. */
  watchNear(address: Gva, access: 'read' | 'write' | 'either'): readonly StopPointId[] {
    const other = access === 'either' ? undefined : access === 'write' ? 'read' : 'write';
    const watched = [...this.#entries].flatMap(([id, { point }]) =>
      point.kind === 'watch' && point.access !== other ? [{ id, address: point.address, length: point.length }] : [],
    );
    return nearestWatchpoints(address, watched).map(({ id }) => id);
  }

  takeRewritten(): readonly StopPointId[] {
    const ids = this.#idsOf(({ places }) => places.some((place) => this.#rewritten.has(place)));
    this.#rewritten.clear();
    return ids;
  }

  #idsOf(belongs: (entry: Entry) => boolean): readonly StopPointId[] {
    return [...this.#entries].filter(([, entry]) => belongs(entry)).map(([id]) => id);
  }

  /** Puts stop points into the stub: all, or only the watchpoints. UnplantedBreakpoints when some cannot be; none is in then. */
  async plant(which: 'all' | 'watches'): Promise<void> {
    const wanted = [...this.#entries.values()].filter(({ point }) => which === 'all' || point.kind === 'watch');
    const code = wanted.flatMap(({ point }) => (point.kind === 'watch' ? [] : [point.address]));
    if (which === 'all') this.#lately = [new Set(code), this.#lately[0]];
    for (const place of new Set(wanted.flatMap(({ places }) => places))) {
      try {
        await this.#put(place);
      } catch (cause) {
        if (!(cause instanceof TargetError)) throw cause;
        await this.#liftAll();
        throw new UnplantedBreakpoints(
          messageOf(cause),
          this.#idsOf(({ places }) => places.includes(place)),
          { cause },
        );
      }
    }
  }

  /** Puts hardware breakpoints of a step's own into the stub. TargetError when one cannot be; none is in then. */
  async plantEnds(ends: readonly Gva[]): Promise<void> {
    try {
      for (const end of ends) await this.#put(`1,${hexNumber(end)},${instructionLength}`);
    } catch (error) {
      if (error instanceof TargetError) await this.#liftAll();
      throw error;
    }
  }

  async #put(place: string): Promise<void> {
    await this.connection.command(`Z${place}`, `Cannot place ${describe(place)}`);
    this.#planted.add(place);
  }

  async #liftAll(): Promise<void> {
    await this.lift(async () => true);
  }

  /** Takes every stop point out of the stub. `isBreakpoint` tells whether a breakpoint instruction is in memory at an
   *  address: a stub that patches memory does not take out one that the guest has written over. SessionError when one stays;
   *  the others are out all the same. */
  async lift(isBreakpoint: (address: bigint) => Promise<boolean>): Promise<void> {
    let failure: SessionError | undefined;
    for (const place of [...this.#planted]) {
      const answer = await this.connection.ask(`z${place}`);
      this.#planted.delete(place);
      if (answer === 'OK') continue;
      const [type, address] = place.split(',');
      if (type === '0' && !(await isBreakpoint(BigInt(`0x${address}`)))) this.#rewritten.add(place);
      else failure ??= new SessionError(refusal(`Cannot take out ${describe(place)}`, answer).message);
    }
    if (failure) throw failure;
  }
}

function describe(place: string): string {
  const [type = '', address] = place.split(',');
  const kind = type === '0' ? 'a software breakpoint' : type === '1' ? 'a hardware breakpoint' : 'a watchpoint';
  return `${kind} at 0x${address}`;
}

/** Which types of stop points a stub has. `pc` is an address of code. */
export async function offeredStopPoints(
  connection: RspConnection,
  pc: bigint,
): Promise<{ readonly software: boolean; readonly hardware: boolean; readonly watch: boolean }> {
  const has = async (type: string): Promise<boolean> => {
    const place = `${type},${hexNumber(pc)},${instructionLength}`;
    const answer = await connection.ask(`Z${place}`);
    if (answer === 'OK') await connection.command(`z${place}`, `Cannot take out ${describe(place)}`);
    return answer !== '';
  };
  return { software: await has('0'), hardware: await has('1'), watch: await has('2') };
}
