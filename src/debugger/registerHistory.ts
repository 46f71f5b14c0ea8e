// What has changed in the system registers from one stop to the next.
import type { RegisterDescription } from '../arch/architecture.ts';
import type { TargetError } from '../base/errors.ts';
import type { Vcpu } from '../target/target.ts';
import { readEach } from './registerReading.ts';
import type { StopContext } from './stopContext.ts';

export interface RegisterChange {
  readonly register: RegisterDescription;
  readonly before: bigint;
  readonly now: bigint;
}

type Values = ReadonlyMap<string, bigint | TargetError>;

/** The registers of one vCPU at a stop. */
interface Reading {
  readonly context: StopContext;
  readonly values: Values;
  /** At the stop before; undefined when nobody wanted them there. */
  readonly before: Values | undefined;
}

/** Remembers the system registers of those vCPUs only that somebody has asked about: a stop that nobody looks at so
 *  closely must not cost the reading of some hundred registers. */
export class RegisterHistory {
  readonly #watched = new Set<Vcpu>();
  readonly #readings = new Map<Vcpu, Reading>();

  /** Has the vCPU's registers read now, and at each stop from now on. */
  watch(context: StopContext, vcpu: Vcpu): void {
    this.#watched.add(vcpu);
    // What cannot be read now is nothing to compare with later; whoever looks is told why.
    this.#read(context, vcpu).catch(() => this.#readings.delete(vcpu));
  }

  /** To be called at each stop that the user sees. Returns at once. */
  stopped(context: StopContext): void {
    for (const vcpu of this.#watched) this.watch(context, vcpu);
  }

  /** What differs from the stop before; undefined when there is nothing to compare with. */
  async changes(context: StopContext, vcpu: Vcpu): Promise<readonly RegisterChange[] | undefined> {
    this.#watched.add(vcpu);
    const { values, before } = await this.#read(context, vcpu);
    context.check();
    return before && comparable(context).flatMap((register) => changeOf(register, before, values));
  }

  /** Again at each call: the user may have written a register since. */
  async #read(context: StopContext, vcpu: Vcpu): Promise<Reading> {
    const names = comparable(context).map(({ name }) => name);
    // Past the context, which refuses what it reads once the user has gone on: the target has read a batch before it resumed.
    const values = await readEach(
      (some) => context.target.readRegisters(vcpu, some),
      names,
      () => context.check(),
    );
    const last = this.#readings.get(vcpu);
    const reading = { context, values, before: last?.context === context ? last.before : last?.values };
    this.#readings.set(vcpu, reading);
    return reading;
  }
}

const comparable = ({ target }: StopContext): readonly RegisterDescription[] =>
  target.registers.filter(({ group, counts }) => group === 'system' && counts !== true);

function changeOf(register: RegisterDescription, earlier: Values, later: Values): readonly RegisterChange[] {
  const [before, now] = [earlier.get(register.name), later.get(register.name)];
  return typeof before === 'bigint' && typeof now === 'bigint' && before !== now ? [{ register, before, now }] : [];
}
