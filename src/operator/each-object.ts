import { isNotFound } from '../kube/status.ts';
import type { Target } from '../table/reconciler.ts';

/** A target that changes an object a row, several at a time; an object that is gone meanwhile needs nothing. */
export function eachObject<Row>(write: (row: Row) => Promise<void>): Target<Row> {
  return {
    async apply(batch) {
      const failed = new Map<string, Error>();
      await Promise.all(
        batch.map(async ({ key, row }) => {
          if (!row) return;
          await write(row).catch((error: unknown) => {
            if (!isNotFound(error))
              failed.set(key, error instanceof Error ? error : new Error(String(error)));
          });
        }),
      );
      return failed;
    },
  };
}
