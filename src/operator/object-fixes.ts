import type { KubeClient } from '../kube/client.ts';
import { isBeingTerminated, isConflict, isNotFound } from '../kube/status.ts';
import type { Target } from '../table/reconciler.ts';
import type { TableOptions } from '../table/table.ts';

/** What is to be changed about one object: the difference between what is wanted of it and what is there. */
export interface ObjectFix {
  /** Path of the object, or of its status. */
  readonly path: string;
  /** As it is to be, for server-side apply. Undefined: it is to go. */
  readonly apply?: object;
  /** Of the object that is to go; one that has come in its place stays. */
  readonly uid?: string;
}

/** Options of every table of fixes. */
export const objectFixTable = {
  keyOf: (row: ObjectFix): string => row.path,
  equal: (a: ObjectFix, b: ObjectFix): boolean => JSON.stringify(a) === JSON.stringify(b),
} as const satisfies Omit<TableOptions<ObjectFix>, 'name'>;

/**
 * Applies fixes. The watch then sees the object as it is wanted, and the fix is gone; a fix that is gone needs nothing.
 * In a namespace that is being deleted nothing new can be made, nor need be.
 */
export function objectFixTarget(
  client: KubeClient,
  onFixed: (fix: ObjectFix) => void = () => undefined,
): Target<ObjectFix> {
  return {
    async apply(batch) {
      const failed = new Map<string, Error>();
      await Promise.all(
        batch.map(async ({ key, row }) => {
          if (!row) return;
          try {
            if (row.apply) await client.apply(row.path, row.apply);
            else await client.delete(row.path, row.uid ? { preconditions: { uid: row.uid } } : {});
            onFixed(row);
          } catch (error) {
            const gone = isNotFound(error) || isBeingTerminated(error) || (!row.apply && isConflict(error));
            if (!gone) failed.set(key, error instanceof Error ? error : new Error(String(error)));
          }
        }),
      );
      return failed;
    },
  };
}
