import type { Client, RequestContext } from './context.ts';

/** Ids are of this process: sessions that follow one another may have one client. */
let reports = 0;

/** What takes less is not worth a report. */
const worthReportingMs = 500;

const shown = new WeakMap<Client, Map<string, ProgressReport>>();

/** Something that takes its time, as the client shows it: from the first `update` to `end`. What needs no time is not shown,
 *  nor is anything to a client without progress reports. The user may end it by `cancel`. */
export class ProgressReport {
  #id: string | undefined;
  #percentage = -1;
  #ended = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly client: Client,
    private readonly title: string,
    private readonly cancel: () => void,
  ) {}

  /** For what does not know how far it is: shown when it has not ended after half a second. */
  showIfSlow(): void {
    this.#timer = setTimeout(() => this.#start({}), worthReportingMs);
    this.#timer.unref();
  }

  update(done: number, total: number): void {
    const percentage = total > 0 ? Math.floor((100 * done) / total) : 100;
    if (percentage <= this.#percentage) return;
    this.#percentage = percentage;
    if (this.#id === undefined) this.#start({ percentage });
    else if (!this.#ended) this.client.event('progressUpdate', { progressId: this.#id, percentage });
  }

  /** Idempotent; later updates are ignored. */
  end(): void {
    clearTimeout(this.#timer);
    if (this.#id !== undefined && !this.#ended) {
      shown.get(this.client)?.delete(this.#id);
      this.client.event('progressEnd', { progressId: this.#id });
    }
    this.#ended = true;
  }

  #start(how: { readonly percentage?: number }): void {
    if (this.#ended || !this.client.features.progressReporting) return;
    this.#id = `progress-${++reports}`;
    const reportsOfClient = shown.get(this.client) ?? new Map<string, ProgressReport>();
    shown.set(this.client, reportsOfClient.set(this.#id, this));
    this.client.event('progressStart', { progressId: this.#id, title: this.title, cancellable: true, ...how });
  }

  /** What the client shows by that id is to end; one that is over is none. */
  static cancel(client: Client, id: string): void {
    shown.get(client)?.get(id)?.cancel();
  }
}

/** Has the client show what this request does, if it takes its time; the user may cancel it. */
export async function whileShown<T>(context: RequestContext, title: string, action: () => Promise<T>): Promise<T> {
  const report = new ProgressReport(context.client, title, () => context.abandon());
  report.showIfSlow();
  try {
    return await action();
  } finally {
    report.end();
  }
}
