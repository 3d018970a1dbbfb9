/** A map as lines of JSON: what `isthmus agent map` prints on a node and `isthmus bpf` reads from it. Pure. */
import * as z from 'zod';

/** The first line. */
export const MapHeader = z.object({
  map: z.string(),
  /** Rows there is room for. */
  maxEntries: z.number(),
  /** CLOCK_MONOTONIC of the node in seconds: what `expires` of its rows is to be compared with. */
  monotonic: z.number(),
  /** Names of reasons by number, for the map of counters. */
  reasons: z.record(z.string(), z.string()).optional(),
});
export type MapHeader = z.infer<typeof MapHeader>;

/** Every other line; fields are named as in bpf/types.h. */
export interface MapRow {
  readonly key: Readonly<Record<string, unknown>> | number;
  readonly value: Readonly<Record<string, unknown>> | number;
}

/** By hand: a schema would take seconds for a hundred thousand rows. */
function rowOf(line: string): MapRow {
  const row: unknown = JSON.parse(line);
  const isPart = (part: unknown): boolean =>
    typeof part === 'number' || (typeof part === 'object' && part !== null);
  if (typeof row === 'object' && row !== null && 'key' in row && 'value' in row)
    if (isPart(row.key) && isPart(row.value)) return row as MapRow;
  throw new Error(`not a row of a map: ${line.slice(0, 200)}`);
}

/** What the lines say. */
export function parseMapLines(text: string): {
  readonly header: MapHeader;
  readonly rows: readonly MapRow[];
} {
  const [head = '', ...rest] = text.split('\n');
  return {
    header: MapHeader.parse(JSON.parse(head)),
    rows: rest.flatMap(line => (line === '' ? [] : [rowOf(line)])),
  };
}
