import type { Measure } from './load.ts';

/** What is compared: Linux routing, the floor (with a tunnel where ours has one), Isthmus, a peer. */
export type Column = 'plain' | 'floor' | 'isthmus' | 'peer';

/** One way through each thing that is compared. */
export interface Row {
  readonly name: string;
  /** By the measure's name, where the goal is another than usual. */
  readonly goals: Readonly<Record<string, string>>;
}

/** All values of a run, and the table made of them. */
export class Results {
  readonly #measures: readonly Measure[];
  readonly #values = new Map<string, number[]>();
  readonly #paths = new Map<string, Row>();

  constructor(measures: readonly Measure[]) {
    this.#measures = measures;
  }

  note(path: Row, measure: Measure, column: Column, value: number): void {
    this.#paths.set(path.name, path);
    const key = this.#key(path.name, measure, column);
    this.#values.set(key, [...(this.#values.get(key) ?? []), value]);
  }

  /**
   * A Markdown table; a cell is `median (lowest … highest)`. A ratio is the median over the rounds of what was
   * measured beside the floor's value of the same round, with the middle half of them: both ran within seconds,
   * so that a machine which is slow for a while is slow for both.
   */
  markdown(peer: string | undefined): string {
    const head = ['path', 'measure', 'cores', 'plain routing', 'floor', 'Isthmus', 'ratio', 'goal'];
    const rows = [...this.#paths.values()].flatMap(({ name, goals }) =>
      this.#measures.flatMap(measure => {
        const of = (column: Column) => this.#values.get(this.#key(name, measure, column)) ?? [];
        if (of('isthmus').length === 0) return [];
        const texts = (['plain', 'floor', 'isthmus'] as const).map(column => cell(of(column), measure.unit));
        const [ours, theirs] = (['isthmus', 'peer'] as const).map(column => ratios(of(column), of('floor')));
        const goal = goals[measure.name] ?? measure.goal;
        const row = [name, measure.name, measure.cores, ...texts, ours!, goal];
        return [peer === undefined ? row : [...row, cell(of('peer'), measure.unit), theirs!]];
      }),
    );
    if (peer !== undefined) head.push(peer, 'its ratio');
    return [head, head.map(() => '---'), ...rows].map(row => `| ${row.join(' | ')} |`).join('\n');
  }

  #key(path: string, { name, cores }: Measure, column: Column): string {
    return `${path}, ${name}, ${cores}: ${column}`;
  }
}

function cell(values: readonly number[], unit: string): string {
  if (values.length === 0) return '';
  const digits = unit === '/s' ? 0 : 1;
  const [low, middle, high] = [Math.min(...values), quantile(values, 0.5), Math.max(...values)].map(value =>
    value.toFixed(digits),
  );
  return `${middle} (${low} … ${high}) ${unit}`;
}

/** `**median** (lower quartile … upper quartile)` of the rounds' ratios. */
function ratios(values: readonly number[], floor: readonly number[]): string {
  const all = values.map((value, round) => value / floor[round]!);
  if (all.length === 0) return '';
  const [low, middle, high] = [0.25, 0.5, 0.75].map(share => quantile(all, share).toFixed(2));
  return `**${middle}** (${low} … ${high})`;
}

/** Between two values in proportion, as R's type 7. */
function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (sorted.length - 1) * share;
  const [below, above] = [sorted[Math.floor(at)]!, sorted[Math.ceil(at)]!];
  return below + (above - below) * (at % 1);
}
