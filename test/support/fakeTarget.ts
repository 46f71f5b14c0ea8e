// A guest in memory: a few arm64 instructions are interpreted, so that breakpoints, steps and stacks are real.

import { aarch64 } from '../../src/arch/aarch64/aarch64.ts';
import { decodeWord } from '../../src/arch/aarch64/instructions.ts';
import type { RegisterDescription, RegisterValues } from '../../src/arch/architecture.ts';
import { Gpa, Gva } from '../../src/base/address.ts';
import { MemoryFault, TargetError } from '../../src/base/errors.ts';
import type { PhysicalMemory, VirtualMemory } from '../../src/base/memory.ts';
import type {
  Capabilities,
  ExitStatus,
  StopEvent,
  StopPoint,
  StopPointId,
  Target,
  Translation,
  TrapFilter,
  Vcpu,
} from '../../src/target/target.ts';

const page = 4096n;

const usualRegisters: readonly RegisterDescription[] = [
  ...aarch64.generalRegisters,
  ...aarch64.floatRegisters,
  { name: 'esr_el1', group: 'system', topic: 'exception', bits: 64, fields: [{ name: 'EC', high: 31, low: 26 }] },
  ...['vbar_el1', 'elr_el1', 'spsr_el1'].map(
    (name) => ({ name, group: 'system', topic: 'exception', bits: 64 }) as const,
  ),
  { name: 'ttbr0_el1', group: 'system', topic: 'translation', bits: 64 },
  { name: 'tcr_el1', group: 'system', topic: 'translation', bits: 64 },
];
/** What the interpreter does at `hvc #n`. */
export const hypercall = { powerOff: 0, mapKernel: 1, exitWith3: 2 } as const;

export class FakeTarget implements Target {
  readonly architecture = aarch64;
  capabilities: Capabilities = {
    softwareBreakpoints: true,
    hardwareBreakpoints: 2,
    hardwareWatchpoints: 1,
    stepWithoutInterrupts: true,
    guestTraps: true,
    facts: new Map([['vmm', 'fake']]),
  };
  readonly registers: readonly RegisterDescription[];
  readonly vcpus: readonly Vcpu[];
  readonly exited: Promise<ExitStatus>;
  #resolveExited: (status: ExitStatus) => void = () => undefined;
  readonly state: Map<string, bigint>[];
  readonly pages = new Map<bigint, Uint8Array>();
  /** Pages that fault until `hvc #1`; instructions are fetched from them all the same, as with the MMU off. */
  readonly hidden = new Set<bigint>();
  /** Pages that cannot be executed. */
  readonly unexecutable = new Set<bigint>();
  readonly points = new Map<StopPointId, StopPoint>();
  /** What was called, for tests that look at the order. */
  readonly calls: string[] = [];
  /** Events that the next `resume()` ends with, instead of running. */
  scripted: (readonly StopEvent[])[] = [];
  ended: 'detached' | 'killed' | 'exited' | undefined;
  resumes = 0;
  #nextId = 1;
  #interrupted = false;
  #moving = false;
  #exit: ExitStatus | undefined;

  /** `more`: registers beside the usual ones. */
  constructor(vcpuCount: number, more: readonly RegisterDescription[] = []) {
    this.registers = [...usualRegisters, ...more];
    this.exited = new Promise((resolve) => {
      this.#resolveExited = resolve;
    });
    this.vcpus = Array.from({ length: vcpuCount }, (_, n) => n);
    this.state = this.vcpus.map(
      () => new Map(this.registers.map(({ name }) => [name, name === 'pstate' ? 0x3c5n : 0n] as const)),
    );
  }

  /** Puts bytes into memory, mapping their pages. */
  load(address: bigint, bytes: Uint8Array): void {
    bytes.forEach((byte, n) => {
      const at = address + BigInt(n);
      const base = at - (at % page);
      let target = this.pages.get(base);
      if (!target) {
        target = new Uint8Array(Number(page));
        this.pages.set(base, target);
      }
      target[Number(at - base)] = byte;
    });
  }

  set(vcpu: Vcpu, name: string, value: bigint): void {
    this.state[vcpu]?.set(name, value);
  }

  get(vcpu: Vcpu, name: string): bigint {
    return this.state[vcpu]?.get(name) ?? 0n;
  }

  /** The VMM dies now; a pending run ends with it. */
  die(status: ExitStatus): void {
    this.#exit = status;
    this.ended = 'exited';
    this.#resolveExited(status);
  }

  async readRegisters(vcpu: Vcpu, names?: readonly string[]): Promise<RegisterValues> {
    this.#check('readRegisters');
    const wanted = names ?? aarch64.generalRegisters.map(({ name }) => name);
    for (const name of wanted) if (!this.state[vcpu]?.has(name)) throw new TargetError(`no register ${name}`);
    return new Map(wanted.map((name) => [name, this.get(vcpu, name)]));
  }

  async writeRegister(vcpu: Vcpu, name: string, value: bigint): Promise<void> {
    this.#check('writeRegister');
    if (!this.state[vcpu]?.has(name)) throw new TargetError(`no register ${name}`);
    this.set(vcpu, name, value);
  }

  memory(_vcpu: Vcpu): VirtualMemory {
    return {
      read: async (address, length) => {
        this.#check('read');
        return this.#bytes(address, length, true);
      },
      write: async (address, bytes) => {
        this.#check('write');
        this.#bytes(address, bytes.length, true);
        this.load(address, bytes);
      },
    };
  }

  readonly physicalMemory: PhysicalMemory = {
    read: async (address, length) => this.#bytes(address, length, false),
    write: async (address, bytes) => this.load(address, bytes),
  };

  async translate(_vcpu: Vcpu, address: Gva): Promise<Translation> {
    this.#bytes(address, 1, true);
    const offset = address % page;
    const executable = !this.unexecutable.has(address - offset);
    return { address: Gpa(address), remaining: Number(page - offset), writable: true, executable };
  }

  async insert(point: StopPoint): Promise<StopPointId> {
    this.#check('insert');
    this.calls.push(`insert ${point.kind} 0x${point.address.toString(16)}`);
    if (point.kind !== 'watch' && point.address % 4n !== 0n) throw new TargetError('The address is not aligned.');
    if (point.kind === 'software') this.#bytes(point.address, 4, true);
    else {
      const used = [...this.points.values()].filter(({ kind }) => kind === point.kind).length;
      const budget =
        point.kind === 'hardware' ? this.capabilities.hardwareBreakpoints : this.capabilities.hardwareWatchpoints;
      if (used >= budget) throw new TargetError(`all ${budget} are used`);
    }
    const id = this.#nextId++ as StopPointId;
    this.points.set(id, point);
    return id;
  }

  async remove(id: StopPointId): Promise<void> {
    this.#check('remove');
    const point = this.points.get(id);
    if (!point) throw new TargetError('no such stop point');
    this.calls.push(`remove ${point.kind} 0x${point.address.toString(16)}`);
    this.points.delete(id);
  }

  interrupt(): void {
    this.#interrupted = true;
  }

  /** What the guest has written over. */
  rewritten: StopPointId[] = [];
  takeRewritten(): readonly StopPointId[] {
    return this.rewritten.splice(0);
  }

  setKernelTables(): void {}

  trapFilter: TrapFilter | undefined;
  setTrapFilter(filter: TrapFilter | undefined): void {
    this.trapFilter = filter;
  }

  async resume(): Promise<readonly StopEvent[]> {
    this.#check('resume');
    this.resumes += 1;
    this.#moving = true;
    try {
      const script = this.scripted.shift();
      if (script) return script;
      return await this.#run();
    } finally {
      this.#moving = false;
      this.#interrupted = false;
    }
  }

  /** Steps that were asked for. */
  steps = 0;
  async step(vcpu: Vcpu, end: Gva = Gva(0n)): Promise<readonly StopEvent[]> {
    this.#check('step');
    this.steps += 1;
    for (;;) {
      const before = this.#pc(vcpu);
      const event = this.#execute(vcpu);
      const pc = this.#pc(vcpu);
      const goesStraight = decodeWord(Number(this.#word(pc, 4))).kind === 'other';
      const goesOn = pc === before + 4n && pc < end && this.#at(vcpu).length === 0 && goesStraight;
      if (event || !goesOn) return [event ?? { kind: 'step', vcpu, pc }];
    }
  }

  async detach(): Promise<void> {
    this.ended ??= 'detached';
    this.points.clear();
  }

  async kill(): Promise<void> {
    this.ended ??= 'killed';
  }

  async #run(): Promise<readonly StopEvent[]> {
    for (let round = 0; ; round++) {
      // A vCPU that stands at a stop point executes that instruction first.
      const events: StopEvent[] = [];
      for (const vcpu of this.vcpus) {
        if (round > 0) {
          const ids = this.#at(vcpu);
          if (ids.length > 0) {
            events.push({ kind: 'breakpoint', vcpu, pc: this.#pc(vcpu), ids });
            continue;
          }
        }
        const event = this.#execute(vcpu);
        if (event) events.push(event);
      }
      if (this.#exit) {
        this.die(this.#exit);
        return [{ kind: 'exited', status: this.#exit }];
      }
      if (this.#interrupted) events.push({ kind: 'interrupted', vcpu: 0 });
      if (events.length > 0) return events;
      if (this.ended) return [{ kind: 'interrupted', vcpu: 0 }];
      if (round % 16 === 15) await new Promise((resolve) => setImmediate(resolve));
    }
  }

  #at(vcpu: Vcpu): StopPointId[] {
    const pc = this.#pc(vcpu);
    return [...this.points].flatMap(([id, point]) => (point.kind !== 'watch' && point.address === pc ? [id] : []));
  }

  #pc(vcpu: Vcpu): Gva {
    return Gva(this.get(vcpu, 'pc'));
  }

  #execute(vcpu: Vcpu): StopEvent | undefined {
    const pc = this.#pc(vcpu);
    const word = Number(this.#word(pc, 4));
    const signed = (bits: number, from: number): bigint =>
      BigInt.asIntN(bits, BigInt((word >>> from) % 2 ** bits)) * 4n;
    const register = (n: number, stack: boolean): string => (n === 31 && stack ? 'sp' : `x${n}`);
    const [d, n] = [word & 31, (word >>> 5) & 31];
    const immediate = BigInt((word >>> 10) & 0xfff);
    let next = pc + 4n;
    if (word >>> 26 === 0x25 || word >>> 26 === 0x05) {
      if (word >>> 26 === 0x25) this.set(vcpu, 'x30', next);
      next = pc + signed(26, 0);
    } else if (word === 0xd65f03c0) next = this.get(vcpu, 'x30');
    else if (word >>> 23 === 0x1a5) this.set(vcpu, `x${d}`, BigInt((word >>> 5) & 0xffff));
    else if (word >>> 22 === 0x244 || word >>> 22 === 0x344) {
      const sign = word >>> 22 === 0x244 ? 1n : -1n;
      this.set(vcpu, register(d, true), BigInt.asUintN(64, this.get(vcpu, register(n, true)) + sign * immediate));
    } else if (word >>> 24 === 0xb5) next = this.get(vcpu, `x${d}`) === 0n ? next : pc + signed(19, 5);
    else if (word === 0xa9bf7bfd) {
      const sp = this.get(vcpu, 'sp') - 16n;
      this.set(vcpu, 'sp', sp);
      this.#store(sp, this.get(vcpu, 'x29'));
      this.#store(sp + 8n, this.get(vcpu, 'x30'));
    } else if (word === 0xa8c17bfd) {
      const sp = this.get(vcpu, 'sp');
      this.set(vcpu, 'x29', this.#word(sp, 8));
      this.set(vcpu, 'x30', this.#word(sp + 8n, 8));
      this.set(vcpu, 'sp', sp + 16n);
    } else if (word >>> 22 === 0x3e4) {
      const address = this.get(vcpu, register(n, true)) + immediate * 8n;
      const watched = [...this.points].flatMap(([id, point]) =>
        point.kind === 'watch' && address >= point.address && address < point.address + BigInt(point.length)
          ? [id]
          : [],
      );
      // The access has not executed yet; the next run starts with it.
      if (watched.length > 0 && this.#moving && !this.#watchedAlready.has(pc)) {
        this.#watchedAlready.add(pc);
        return { kind: 'watchpoint', vcpu, pc, accessed: Gva(address), ids: watched };
      }
      this.#watchedAlready.delete(pc);
      this.#store(address, this.get(vcpu, `x${d}`));
    } else if ((word & 0xffe0001f) >>> 0 === 0xd4000002) this.#hypercall((word >>> 5) & 0xffff);
    else if (word !== 0xd503201f) {
      return { kind: 'unknown', vcpu, detail: `instruction 0x${word.toString(16)} at 0x${pc.toString(16)}` };
    }
    this.set(vcpu, 'pc', BigInt.asUintN(64, next));
    return undefined;
  }
  readonly #watchedAlready = new Set<bigint>();

  #hypercall(number: number): void {
    if (number === hypercall.powerOff) this.#exit = { code: 0, signal: undefined };
    if (number === hypercall.mapKernel) this.hidden.clear();
    if (number === hypercall.exitWith3) this.#exit = { code: 3, signal: undefined };
  }

  #word(address: bigint, length: number): bigint {
    const bytes = this.#bytes(address, length, false);
    return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
  }

  #store(address: bigint, value: bigint): void {
    this.load(
      address,
      Uint8Array.from({ length: 8 }, (_, n) => Number((value >> BigInt(8 * n)) & 0xffn)),
    );
  }

  #bytes(address: bigint, length: number, walk: boolean): Uint8Array {
    return Uint8Array.from({ length }, (_, n) => {
      const at = address + BigInt(n);
      const base = at - (at % page);
      const found = this.pages.get(base);
      if (!found || (walk && this.hidden.has(base))) throw new MemoryFault('virtual', at, 'not mapped');
      return found[Number(at - base)] ?? 0;
    });
  }

  #check(call: string): void {
    if (this.#moving) throw new Error(`${call} while the target runs: calls must be serialised`);
    if (this.ended === 'exited') throw new TargetError('the VMM is gone');
  }
}
