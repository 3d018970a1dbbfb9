import type { EtcdConnection } from '../kvstore/connection.ts';
import { encodeKey, prefixEnd } from '../kvstore/range.ts';
import { kinds, objectPrefix } from './layout.ts';

/**
 * Takes back everything a cluster exports, before its etcd goes for good: a reader that loses the etcd alone keeps
 * what it knew, and would go on sending to pods that no longer know its nodes. Services go first, so that nobody
 * chooses a backend whose address is gone already; canaries and heartbeat stay, so that what is left (nothing) counts
 * as complete. Repeats until there is nothing more: a write that was on its way may come after.
 * Resolves to the number of keys.
 */
export async function withdrawExport(connection: EtcdConnection, cluster: string): Promise<number> {
  let total = 0;
  for (;;) {
    let deleted = 0;
    for (const kind of [...kinds].reverse()) {
      const prefix = objectPrefix(kind, cluster);
      const answer = await connection.kv.deleteRange({ key: encodeKey(prefix), rangeEnd: prefixEnd(prefix) });
      deleted += Number(answer.deleted);
    }
    if (deleted === 0) return total;
    total += deleted;
  }
}
