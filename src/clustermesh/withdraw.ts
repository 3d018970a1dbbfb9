import type { EtcdConnection } from '../kvstore/connection.ts';
import { encodeKey, prefixEnd } from '../kvstore/range.ts';
import { clusterConfigKey, mirroredKinds, objectPrefix, reportKey, syncedPrefix } from './layout.ts';

/**
 * Takes back everything a cluster exports, before its etcd goes for good: a reader that loses the etcd alone keeps
 * what it knew, and would go on sending to pods that no longer know its nodes. Canaries and heartbeat stay, so that
 * what is left (nothing) counts as complete. Resolves to the number of keys.
 */
export function withdrawExport(connection: EtcdConnection, cluster: string): Promise<number> {
  return withdraw(connection, cluster, false);
}

/** Stops new readers of a mirror's copy of a cluster: those that read it go on. */
export async function closeCopy(connection: EtcdConnection, cluster: string): Promise<void> {
  await connection.kv.deleteRange({ key: encodeKey(clusterConfigKey(cluster)) });
}

/** Takes back a mirror's copy of a cluster, whole. The canaries go last: while there is one, something may be left. */
export async function withdrawCopy(connection: EtcdConnection, cluster: string): Promise<void> {
  await closeCopy(connection, cluster);
  await withdraw(connection, cluster, true);
  await connection.kv.deleteRange({ key: encodeKey(reportKey(cluster)) });
  const synced = syncedPrefix(cluster);
  await connection.kv.deleteRange({ key: encodeKey(synced), rangeEnd: prefixEnd(synced) });
}

/**
 * Deletes objects, services first, so that nobody chooses a backend whose address is gone already. Repeats until there
 * is nothing more: a write that was on its way may come after.
 */
async function withdraw(connection: EtcdConnection, cluster: string, cached: boolean): Promise<number> {
  let total = 0;
  for (;;) {
    let deleted = 0;
    for (const kind of [...mirroredKinds].reverse()) {
      const prefix = objectPrefix(kind, cluster, cached);
      const answer = await connection.kv.deleteRange({ key: encodeKey(prefix), rangeEnd: prefixEnd(prefix) });
      deleted += Number(answer.deleted);
    }
    if (deleted === 0) return total;
    total += deleted;
  }
}
