import type { EtcdRow } from '../kvstore/target.ts';
import { type ReadonlyTable, Table } from '../table/table.ts';

/**
 * Bytes of the largest value that is exported: etcd takes requests of 1.5 MiB (`--max-request-bytes`), which hold the
 * key, the lease and the frame of the transaction, too. About 29,000 backends of one port.
 */
export const VALUE_LIMIT = 1536 * 1024 - 16 * 1024;

/** A value that is too large to be exported; in force as long as it is. */
export interface RefusedValue {
  readonly key: string;
  readonly bytes: number;
  /** An earlier value of the key is still exported. */
  readonly kept: boolean;
}

/** What is exported of a table, and what is not because its value is too large: there the last good one stays. */
export function limitValues(
  rows: ReadonlyTable<EtcdRow>,
  limit = VALUE_LIMIT,
): { readonly rows: ReadonlyTable<EtcdRow>; readonly refused: ReadonlyTable<RefusedValue> } {
  const exported = new Table<EtcdRow>({
    name: rows.name,
    keyOf: row => row.key,
    equal: (a, b) => a.value === b.value,
  });
  const refused = new Table<RefusedValue>({ name: `${rows.name}-refused`, keyOf: row => row.key });
  const take = (key: string, row: EtcdRow | undefined): void => {
    // A character is three bytes at most: few values have to be measured.
    const bytes = row && row.value.length * 3 > limit ? Buffer.byteLength(row.value) : 0;
    if (bytes > limit) {
      refused.upsert({ key, bytes, kept: exported.has(key) });
      return;
    }
    refused.delete(key);
    if (row) exported.upsert(row);
    else exported.delete(key);
  };
  rows.subscribe(({ key, after }) => take(key, after));
  for (const row of rows.values()) take(row.key, row);
  void rows.whenSynced().then(() => {
    exported.markSynced();
    refused.markSynced();
  });
  return { rows: exported, refused };
}
