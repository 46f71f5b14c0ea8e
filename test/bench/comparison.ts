/** What two debuggers were asked in turns, and how much faster one of them was. */
import type { Debugger } from './debuggers.ts';
import { type Row, summary } from './samples.ts';

export type Unit = 'ms' | '1/s';

/** What one debugger measured of one question, by round. */
interface Measured {
  readonly byRound: number[][];
  note: string;
}

export class Comparison {
  readonly #questions = new Map<string, { readonly unit: Unit; readonly by: Map<Debugger, Measured> }>();

  constructor(
    private readonly ours: Debugger,
    private readonly peer: Debugger,
  ) {}

  /** Adds what one debugger measured in one round; the last note stays. */
  add(question: string, unit: Unit, debugger_: Debugger, samples: readonly number[], note = ''): void {
    const { by } = this.#questions.get(question) ?? { unit, by: new Map<Debugger, Measured>() };
    this.#questions.set(question, { unit, by });
    const measured = by.get(debugger_) ?? { byRound: [], note };
    measured.byRound.push([...samples]);
    measured.note = note;
    by.set(debugger_, measured);
  }

  /** Two rows for each question, the peer's first. */
  rows(): readonly Row[] {
    return [...this.#questions].flatMap(([question, { unit, by }]) => {
      const row = (who: Debugger, more: string): Row => {
        const { byRound = [], note = '' } = by.get(who) ?? {};
        const text = [more, note].filter((part) => part !== '').join('; ');
        return { name: `${question}, ${who.name}`, unit, samples: byRound.flat(), ...(text !== '' && { note: text }) };
      };
      return [row(this.peer, ''), row(this.ours, this.#factor(unit, by))];
    });
  }

  /** Of the medians of each round: both were measured one after the other there. */
  #factor(unit: Unit, by: ReadonlyMap<Debugger, Measured>): string {
    const medians = (who: Debugger): number[] => by.get(who)?.byRound.map((samples) => summary(samples).median) ?? [];
    const theirs = medians(this.peer);
    const factors = medians(this.ours).map((median, round) => {
      const other = theirs[round] ?? Number.NaN;
      return unit === 'ms' ? other / median : median / other;
    });
    const { median, p10, p90 } = summary(factors);
    return `${median.toFixed(1)} (${p10.toFixed(1)} – ${p90.toFixed(1)}) times as fast as ${this.peer.name}`;
  }
}
