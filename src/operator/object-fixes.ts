import type { KubeClient } from '../kube/client.ts';
import type { EventSubject } from '../kube/events.ts';
import { isBeingTerminated, isConflict } from '../kube/status.ts';
import type { Target } from '../table/reconciler.ts';
import type { TableOptions } from '../table/table.ts';
import { type WantedCondition, withTime } from './condition.ts';
import { eachObject } from './each-object.ts';

/** What is to be changed about one object: the difference between what is wanted of it and what is there. */
export interface ObjectFix {
  /** Path of the object, or of its status. */
  readonly path: string;
  /** As it is to be, for server-side apply. Undefined: it is to go. */
  readonly apply?: object & { readonly metadata: object; readonly status?: object };
  /** Conditions of its status; they get the time when they are written. */
  readonly conditions?: readonly WantedCondition[];
  /** Told to whoever looks at the object, once it is written. */
  readonly event?: { readonly subject: EventSubject; readonly reason: string; readonly message: string };
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
  return eachObject(async fix => {
    try {
      await write(client, fix);
    } catch (error) {
      if (isBeingTerminated(error) || (!fix.apply && isConflict(error))) return;
      throw error;
    }
    onFixed(fix);
  });
}

async function write(client: KubeClient, { path, apply, conditions, uid }: ObjectFix): Promise<void> {
  if (!apply) await client.delete(path, uid ? { preconditions: { uid } } : {});
  else if (!conditions) await client.apply(path, apply);
  else
    await client.apply(path, {
      ...apply,
      status: { ...apply.status, conditions: conditions.map(withTime) },
    });
}
