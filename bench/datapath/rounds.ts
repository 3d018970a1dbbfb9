/** Ways through what is compared, measured in turn. */
import { loadavg } from 'node:os';
import { awaitServer, type Measure, type Place, type Target } from './load.ts';
import type { Column, Results, Row } from './results.ts';

/** Where a client is, and where it asks a server. */
export interface Way {
  readonly client: Place;
  readonly to: Target;
}

export interface Path extends Row {
  readonly ways: ReadonlyMap<Column, Way>;
  readonly measures: readonly Measure[];
}

export interface Rounds {
  readonly rounds: number;
  /** Of a measurement. */
  readonly seconds: number;
  /** Only paths with that in their name. */
  readonly path: string;
  /** Takes a line about what is measured next. */
  readonly report: (line: string) => void;
}

/** Measures ways through what is compared, from now on. */
export class Measurement {
  readonly #results: Results;
  readonly #options: Rounds;
  readonly #load = load();

  constructor(results: Results, options: Rounds) {
    this.#results = results;
    this.#options = options;
  }

  /** Every way of every path, round by round; whoever comes first in a round comes last in the next. */
  async take(all: readonly Path[]): Promise<void> {
    const { rounds, seconds, path: wanted, report } = this.#options;
    const paths = all.filter(({ name }) => name.includes(wanted));
    for (const { ways } of paths) for (const { client, to } of ways.values()) await awaitServer(client, to);
    for (let round = 0; round < rounds; round++)
      for (const path of paths) {
        const { ways, measures } = path;
        report(`${path.name}: round ${round + 1} of ${rounds}, load ${load()}`);
        const inTurn = round % 2 === 0 ? [...ways] : [...ways].reverse();
        for (const measure of measures)
          for (const [column, { client, to }] of inTurn)
            this.#results.note(path, measure, column, await measure.measure(client, to, seconds));
      }
  }

  /** What the values of the results are, and the load that they were taken at. */
  legend(): string {
    const { rounds, seconds } = this.#options;
    return `Median (lowest to highest) of ${rounds} rounds of ${seconds} s, load ${this.#load} at the start and ${load()} at the end`;
  }
}

const load = (): string => loadavg()[0]!.toFixed(1);
