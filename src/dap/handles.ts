import { UserError } from '../base/errors.ts';
import type { StopContext } from '../debugger/stopContext.ts';

interface Entry<T> {
  readonly context: StopContext;
  readonly value: T;
}

/** Ids of things that live as long as one stop. Ids are never reused, so a stale one is told from a live one. */
export class Handles<T> {
  readonly #entries = new Map<number, Entry<T>>();
  #last = 0;
  #newest: StopContext | undefined;

  /** `what` names the things in messages. */
  constructor(private readonly what: string) {}

  create(context: StopContext, value: T): number {
    if (this.#newest !== context) {
      this.#newest = context;
      for (const [id, entry] of this.#entries) if (entry.context.signal.aborted) this.#entries.delete(id);
    }
    this.#last += 1;
    this.#entries.set(this.#last, { context, value });
    return this.#last;
  }

  /** UserError when the id is of an earlier stop, or of none. */
  get(id: number): Entry<T> {
    const entry = this.#entries.get(id);
    if (entry && !entry.context.signal.aborted) return entry;
    if (id >= 1 && id <= this.#last) {
      throw new UserError(`The ${this.what} ${id} belongs to an earlier stop; the guest has run since.`);
    }
    throw new UserError(`There is no ${this.what} ${id}.`);
  }
}
