/** Milliseconds for which all else may have to wait. */
const longestTurn = 10;

/** For a loop whose promises may all be settled when they are awaited: it would run for ever in one turn of the event loop,
 *  and requests, timers and signals would never be heard. */
export class EventLoopTurns {
  #began = performance.now();

  /** To be called where the loop waited for something that came in a turn of its own. */
  began(): void {
    this.#began = performance.now();
  }

  /** Whether the others are to have their turn now. */
  get isOver(): boolean {
    return performance.now() - this.#began > longestTurn;
  }

  /** Lets them. */
  async next(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    this.began();
  }
}
