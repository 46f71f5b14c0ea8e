/** No line is gathered beyond this many characters. */
const longestLine = 4096;

/** Gathers the pieces a serial line delivers into whole lines. A line that is not ended, a prompt, is let through after
 *  `patienceMs`, and one that is too long at once. */
export class LineGatherer {
  #pending = '';
  #timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly emit: (text: string) => void,
    private readonly patienceMs = 50,
  ) {}

  push(text: string): void {
    const whole = this.#pending + text;
    const end = whole.lastIndexOf('\n') + 1;
    this.#pending = whole.slice(end);
    if (end > 0) this.emit(whole.slice(0, end));
    if (this.#pending === '') this.#stop();
    else if (this.#pending.length > longestLine) this.flush();
    else this.#timer ??= setTimeout(() => this.flush(), this.patienceMs);
  }

  flush(): void {
    this.#stop();
    const text = this.#pending;
    this.#pending = '';
    if (text !== '') this.emit(text);
  }

  #stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
