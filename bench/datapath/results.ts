import type { Measure } from './load.ts';

/** What is compared: Linux routing, the floor (with a tunnel where ours has one), Isthmus, a peer. */
export type Column = 'plain' | 'floor' | 'isthmus' | 'peer';

/** All values of a run, and the table made of them. */
export class Results {
  readonly #measures: readonly Measure[];
  readonly #values = new Map<string, number[]>();
  readonly #paths = new Set<string>();

  constructor(measures: readonly Measure[]) {
    this.#measures = measures;
  }

  note(path: string, measure: Measure, column: Column, value: number): void {
    this.#paths.add(path);
    const key = this.#key(path, measure, column);
    this.#values.set(key, [...(this.#values.get(key) ?? []), value]);
  }

  /** A Markdown table; a cell is `median (lowest … highest)`, a ratio is of medians, to the floor. */
  markdown(peer: string | undefined): string {
    const head = ['path', 'measure', 'cores', 'plain routing', 'floor', 'Isthmus', 'ratio', 'goal'];
    const rows = [...this.#paths].flatMap(path =>
      this.#measures.flatMap(measure => {
        const of = (column: Column) => this.#values.get(this.#key(path, measure, column)) ?? [];
        if (of('isthmus').length === 0) return [];
        const ratio = (column: Column) => (median(of(column)) / median(of('floor'))).toFixed(2);
        const texts = (['plain', 'floor', 'isthmus'] as const).map(column => cell(of(column), measure.unit));
        const row = [path, measure.name, measure.cores, ...texts, `**${ratio('isthmus')}**`, measure.goal];
        return [peer === undefined ? row : [...row, cell(of('peer'), measure.unit), ratio('peer')]];
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
  const [low, middle, high] = [Math.min(...values), median(values), Math.max(...values)].map(value =>
    value.toFixed(digits),
  );
  return `${middle} (${low} … ${high}) ${unit}`;
}

/** Of an even number of values the mean of the two in the middle. */
function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}
