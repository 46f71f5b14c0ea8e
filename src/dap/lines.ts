/** Gathers the pieces a serial line delivers into whole lines. A line that is not ended, a prompt, is let through when
 *  nothing follows it for `patienceMs`. */
export class LineGatherer {
  #pending = '';
  #timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly emit: (text: string) => void,
    private readonly patienceMs = 50,
  ) {}

  push(text: string): void {
    clearTimeout(this.#timer);
    const whole = this.#pending + text;
    const end = whole.lastIndexOf('\n') + 1;
    this.#pending = whole.slice(end);
    if (end > 0) this.emit(whole.slice(0, end));
    if (this.#pending !== '') this.#timer = setTimeout(() => this.flush(), this.patienceMs);
  }

  flush(): void {
    clearTimeout(this.#timer);
    const text = this.#pending;
    this.#pending = '';
    if (text !== '') this.emit(text);
  }
}
