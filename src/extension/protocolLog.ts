// What a session and its adapter said to each other, kept to be sent along with a bug report.

export type Direction = 'to adapter' | 'from adapter';

const mostCharacters = 8 * 2 ** 20;

/** The last messages of one session, as lines of JSON. What is too much is dropped from the front. */
export class ProtocolLog {
  readonly #lines: string[] = [];
  #first = 0;
  #characters = 0;
  #dropped = 0;

  constructor(
    private readonly title: string,
    private readonly limit = mostCharacters,
  ) {}

  add(direction: Direction, message: unknown, time: Date): void {
    const line = JSON.stringify({ time: time.toISOString(), direction, message });
    this.#lines.push(line);
    this.#characters += line.length;
    while (this.#characters > this.limit && this.#first < this.#lines.length - 1) {
      this.#characters -= this.#lines[this.#first]?.length ?? 0;
      this.#lines[this.#first] = '';
      this.#first += 1;
    }
    // The dropped ones are cut off in large pieces: each cut moves all that stays.
    if (this.#first > this.#lines.length / 2) {
      this.#dropped += this.#first;
      this.#lines.splice(0, this.#first);
      this.#first = 0;
    }
  }

  text(): string {
    const dropped = this.#dropped + this.#first;
    const header = { title: this.title, ...(dropped > 0 ? { droppedMessages: dropped } : {}) };
    return `${[JSON.stringify(header), ...this.#lines.slice(this.#first)].join('\n')}\n`;
  }
}
