import type { Operation, Target } from '../table/reconciler.ts';
import type { BpfMap } from './map.ts';

export interface MapRow<K, V> {
  readonly key: K;
  readonly value: V;
}

export interface MapTargetOptions<Row, K, V> {
  /** The table row's key from a map key: the inverse of the table's `keyOf`, to find rows that are stale. */
  readonly nameOf: (key: K) => string;
  /** The map key from the table row's key, for deletion. */
  readonly keyOf: (name: string) => K;
  readonly toRow: (row: Row) => MapRow<K, V>;
}

/**
 * Lets a Reconciler write a map. Upserts go in one batch; where that fails (a full map, a row that
 * does not encode) they go one by one, so that only the rows at fault are reported. Order between
 * maps (slots before frontends) is the caller's: one reconciler after another.
 */
export function mapTarget<Row, K, V>(
  map: BpfMap<K, V>,
  { nameOf, keyOf, toRow }: MapTargetOptions<Row, K, V>,
): Target<Row> {
  const failures = new Map<string, Error>();
  const attempt = (key: string, work: () => void): void => {
    try {
      work();
    } catch (error) {
      failures.set(key, error instanceof Error ? error : new Error(String(error)));
    }
  };
  return {
    apply(batch: readonly Operation<Row>[]) {
      failures.clear();
      const upserts = batch.filter(each => each.row !== undefined);
      // Deletions first: they make room.
      for (const { key, row } of batch) if (row === undefined) attempt(key, () => map.delete(keyOf(key)));
      try {
        map.updateBatch(upserts.map(({ row }) => pairOf(toRow(row!))));
      } catch {
        for (const { key, row } of upserts) attempt(key, () => map.set(...pairOf(toRow(row!))));
      }
      return new Map(failures);
    },
    *existing() {
      for (const key of map.walkKeys()) yield nameOf(key);
    },
  };
}

const pairOf = <K, V>({ key, value }: MapRow<K, V>): [K, V] => [key, value];
