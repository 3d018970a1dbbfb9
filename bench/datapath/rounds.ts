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
  /** Takes a line about what is measured next. */
  readonly report: (line: string) => void;
}

/** Measures every way of every path, round by round; whoever comes first in a round comes last in the next. */
export async function measureRounds(
  paths: readonly Path[],
  results: Results,
  { rounds, seconds, report }: Rounds,
): Promise<void> {
  for (const { ways } of paths) for (const { client, to } of ways.values()) await awaitServer(client, to);
  for (let round = 0; round < rounds; round++)
    for (const path of paths) {
      const { ways, measures } = path;
      report(`${path.name}: round ${round + 1} of ${rounds}, load ${loadavg()[0]!.toFixed(1)}`);
      const inTurn = round % 2 === 0 ? [...ways] : [...ways].reverse();
      for (const measure of measures)
        for (const [column, { client, to }] of inTurn)
          results.note(path, measure, column, await measure.measure(client, to, seconds));
    }
}
