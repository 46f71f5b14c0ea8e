import type { Architecture, RegisterDescription, RegisterValues } from '../arch/architecture.ts';
import type { Gva } from '../base/address.ts';
import { UserError } from '../base/errors.ts';
import type { PhysicalMemory, VirtualMemory } from '../base/memory.ts';
import type {
  Capabilities,
  KernelTables,
  StopEvent,
  StopPoint,
  StopPointId,
  Target,
  Translation,
  TrapFilter,
  Vcpu,
} from '../target/target.ts';

/** A target whose calls wait for one another, as `Target` demands of its owner. `interrupt` passes at once; `detach`
 *  and `kill` overtake a pending run and end everything that comes after them. */
export class SerialTarget {
  #last: Promise<unknown> = Promise.resolve();
  #moving = false;
  #ended = false;

  constructor(readonly target: Target) {}

  get architecture(): Architecture {
    return this.target.architecture;
  }

  get capabilities(): Capabilities {
    return this.target.capabilities;
  }

  get vcpus(): readonly Vcpu[] {
    return this.target.vcpus;
  }

  get registers(): readonly RegisterDescription[] {
    return this.target.registers;
  }

  readRegisters(vcpu: Vcpu, names?: readonly string[]): Promise<RegisterValues> {
    return this.#inTurn(() => this.target.readRegisters(vcpu, names));
  }

  writeRegister(vcpu: Vcpu, name: string, value: bigint): Promise<void> {
    return this.#inTurn(() => this.target.writeRegister(vcpu, name, value));
  }

  memory(vcpu: Vcpu): VirtualMemory {
    return {
      read: (address, length) => this.#inTurn(() => this.target.memory(vcpu).read(address, length)),
      write: (address, bytes) => this.#inTurn(() => this.target.memory(vcpu).write(address, bytes)),
    };
  }

  get physicalMemory(): PhysicalMemory {
    return {
      read: (address, length) => this.#inTurn(() => this.target.physicalMemory.read(address, length)),
      write: (address, bytes) => this.#inTurn(() => this.target.physicalMemory.write(address, bytes)),
    };
  }

  translate(vcpu: Vcpu, address: Gva): Promise<Translation> {
    return this.#inTurn(() => this.target.translate(vcpu, address));
  }

  insert(point: StopPoint, vcpu: Vcpu): Promise<StopPointId> {
    return this.#inTurn(() => this.target.insert(point, vcpu));
  }

  remove(id: StopPointId): Promise<void> {
    return this.#inTurn(() => this.target.remove(id));
  }

  resume(): Promise<readonly StopEvent[]> {
    return this.#inTurn(() => this.#move(() => this.target.resume()));
  }

  step(vcpu: Vcpu, end?: Gva): Promise<readonly StopEvent[]> {
    return this.#inTurn(() => this.#move(() => this.target.step(vcpu, end)));
  }

  interrupt(): void {
    if (!this.#ended) this.target.interrupt();
  }

  takeRewritten(): readonly StopPointId[] {
    return this.target.takeRewritten();
  }

  setKernelTables(tables: KernelTables): void {
    this.target.setKernelTables(tables);
  }

  setTrapFilter(filter: TrapFilter | undefined): void {
    this.target.setTrapFilter(filter);
  }

  detach(): Promise<void> {
    return this.#leave(() => this.target.detach());
  }

  kill(): Promise<void> {
    return this.#leave(() => this.target.kill());
  }

  async #move(run: () => Promise<readonly StopEvent[]>): Promise<readonly StopEvent[]> {
    this.#moving = true;
    try {
      return await run();
    } finally {
      this.#moving = false;
    }
  }

  async #leave(action: () => Promise<void>): Promise<void> {
    this.#ended = true;
    // A run has no end of its own; anything else that is under way is short and finishes first.
    if (!this.#moving) await this.#last.catch(() => undefined);
    await action();
  }

  #inTurn<T>(call: () => Promise<T>): Promise<T> {
    const result = this.#last.then(() => {
      if (this.#ended) throw new UserError('The debug session has ended.');
      return call();
    });
    this.#last = result.catch(() => undefined);
    return result;
  }
}
