/** What the benchmark measures, and how it is shown. */

/** One row, as it crosses from the benchmarked machine to the one that prints. */
export interface Row {
  readonly name: string;
  readonly unit: string;
  readonly samples: readonly number[];
  /** Name of the row that this one is measured against, in the same rounds. */
  readonly peer?: string;
  /** Ratios to samples of the peer taken just before and after; without them the ratio is of the medians. */
  readonly ratios?: readonly number[];
  readonly note?: string;
}

/** Begins a line of the program's output that holds a row; all other lines are progress. */
export const rowMark = '@row ';

/** The value that `part` (0 to 1) of the samples do not exceed, interpolated. */
function quantile(sorted: readonly number[], part: number): number {
  const place = part * (sorted.length - 1);
  const below = sorted[Math.floor(place)] ?? Number.NaN;
  const above = sorted[Math.ceil(place)] ?? Number.NaN;
  return below + (above - below) * (place - Math.floor(place));
}

export function summary(samples: readonly number[]): { median: number; p10: number; p90: number } {
  const sorted = [...samples].sort((a, b) => a - b);
  return { median: quantile(sorted, 0.5), p10: quantile(sorted, 0.1), p90: quantile(sorted, 0.9) };
}

const number = (value: number): string => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));

const columns = ['', 'unit', 'median', 'p10 – p90', 'n', 'ratio'] as const;

/** Rows as lines of text. */
export function table(rows: readonly Row[]): string {
  const medians = new Map(rows.map(({ name, samples }) => [name, summary(samples).median]));
  const ratioOf = (median: number, { peer, ratios }: Row): string => {
    const other = peer === undefined ? undefined : medians.get(peer);
    if (other === undefined) return '';
    if (!ratios) return `${(median / other).toFixed(3)} × ${peer}`;
    const paired = summary(ratios);
    return `${paired.median.toFixed(3)} (${paired.p10.toFixed(3)} – ${paired.p90.toFixed(3)}) × ${peer}`;
  };
  const cells = rows.map((row) => {
    const { name, unit, samples, note } = row;
    const { median, p10, p90 } = summary(samples);
    const last = [ratioOf(median, row), note].filter((text) => text).join('; ');
    return [name, unit, number(median), `${number(p10)} – ${number(p90)}`, `${samples.length}`, last];
  });
  const lines = [columns, ...cells];
  const widths = columns.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  const isNumeric = (column: number): boolean => column === 2 || column === 4;
  const show = (line: readonly string[]): string =>
    line
      .map((text, column) =>
        isNumeric(column) ? text.padStart(widths[column] ?? 0) : text.padEnd(widths[column] ?? 0),
      )
      .join('  ')
      .trimEnd();
  return lines.map(show).join('\n');
}
