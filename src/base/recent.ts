/** Answers that took work, kept for whoever asks again: of the `limit` that are kept, the one that was asked for longest
 *  ago makes room for the next. */
export class Recent<Key, Value> {
  readonly #kept = new Map<Key, Value>();

  constructor(private readonly limit: number) {}

  of(key: Key, answer: () => Value): Value {
    const known = this.#kept.get(key);
    const value = known === undefined && !this.#kept.has(key) ? answer() : (known as Value);
    this.#kept.delete(key);
    this.#kept.set(key, value);
    const oldest = this.#kept.keys().next();
    if (this.#kept.size > this.limit && !oldest.done) this.#kept.delete(oldest.value);
    return value;
  }
}
