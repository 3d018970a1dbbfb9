import { logOf } from '../log.ts';
import { derive, input } from '../table/derive.ts';
import type { ReadonlyTable } from '../table/table.ts';
import { REMOTE_NODES_BY_CLUSTER, type RemoteHealth, type RemoteNode } from './rows.ts';
import type { RemoteNodeVerdict } from './verdicts.ts';

/** A node of another cluster that is dead, as far as can be told without that cluster. */
export interface DeadRemoteNode {
  readonly cluster: string;
  readonly node: string;
  /** Its own addresses. */
  readonly addresses: readonly string[];
  /** Ranges of its pods. */
  readonly podCidrs: readonly string[];
}

/** Index of the table of dead remote nodes that finds a cluster's. */
export const DEAD_NODES_BY_CLUSTER = 'cluster';

/**
 * Dead nodes of other clusters, by `cluster/node`. A cluster withdraws the backends of its dead nodes itself, and knows
 * better; what our probes find counts only while it is silent. If more than half of its nodes look dead, something else
 * is wrong than these nodes: then none is added to those that were dead before.
 */
export function deriveDeadNodes(sources: {
  readonly clusters: ReadonlyTable<RemoteHealth>;
  /** With the index {@link REMOTE_NODES_BY_CLUSTER}. */
  readonly nodes: ReadonlyTable<RemoteNode>;
  readonly verdicts: ReadonlyTable<RemoteNodeVerdict>;
}): ReadonlyTable<DeadRemoteNode> {
  const { clusters, nodes, verdicts } = sources;
  const keyOf = (row: { readonly cluster: string; readonly node: string }): string =>
    `${row.cluster}/${row.node}`;
  const found: ReadonlyTable<DeadRemoteNode> = derive<DeadRemoteNode>({
    name: 'dead-remote-nodes',
    keyOf,
    indexes: { [DEAD_NODES_BY_CLUSTER]: row => [row.cluster] },
    equal: (a, b) => a.addresses.join() === b.addresses.join() && a.podCidrs.join() === b.podCidrs.join(),
    inputs: [
      input(clusters, row => [row.cluster]),
      input(verdicts, row => [row.cluster]),
      // Nodes of a silent cluster do not change; those of the others come and go without being looked at.
      input(nodes, row => (clusters.get(row.cluster)?.silent ? [row.cluster] : [])),
    ],
    compute(cluster) {
      if (!clusters.get(cluster)?.silent) return [];
      const accused = [...verdicts.values()].flatMap(each => {
        const row = each.cluster === cluster && each.agreed ? nodes.get(keyOf(each)) : undefined;
        if (!row) return [];
        const addresses = row.addresses.map(({ ip }) => ip);
        return [{ cluster, node: row.name, addresses, podCidrs: row.podCidrs }];
      });
      const size = [...nodes.by(REMOTE_NODES_BY_CLUSTER, cluster)].length;
      return accused.length * 2 > size ? accused.filter(each => found.get(keyOf(each))) : accused;
    },
  });
  return found;
}

const log = logOf('clustermesh');

/** Logs which nodes of other clusters are dead, and which are not any more. */
export function tellDeadNodes(dead: ReadonlyTable<DeadRemoteNode>): void {
  dead.subscribe(({ before, after }) => {
    if (before && after) return;
    const { cluster, node } = (after ?? before)!;
    log.warn(
      { cluster, node },
      after
        ? 'node of a remote cluster that is silent does not answer: its pods get no new connections'
        : 'node of a remote cluster is used as that cluster says',
    );
  });
}
