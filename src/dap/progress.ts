import type { Client } from './context.ts';

/** Ids are of this process: sessions that follow one another may have one client. */
let reports = 0;

/** Something that takes its time, as the client shows it: from the first `update` to `end`. What needs no time is not shown,
 *  nor is anything to a client without progress reports. */
export class ProgressReport {
  #id: string | undefined;
  #percentage = -1;
  #ended = false;

  constructor(
    private readonly client: Client,
    private readonly title: string,
  ) {}

  update(done: number, total: number): void {
    if (this.#ended || !this.client.features.progressReporting) return;
    const percentage = total > 0 ? Math.floor((100 * done) / total) : 100;
    if (percentage <= this.#percentage) return;
    this.#percentage = percentage;
    if (this.#id !== undefined) {
      this.client.event('progressUpdate', { progressId: this.#id, percentage });
      return;
    }
    this.#id = `progress-${++reports}`;
    const { title } = this;
    this.client.event('progressStart', { progressId: this.#id, title, cancellable: false, percentage });
  }

  /** Idempotent; later updates are ignored. */
  end(): void {
    if (this.#id !== undefined && !this.#ended) this.client.event('progressEnd', { progressId: this.#id });
    this.#ended = true;
  }
}
