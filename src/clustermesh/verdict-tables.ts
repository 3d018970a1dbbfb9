import type { NodeRow } from '../api/crds/cilium-node.ts';
import { parseUnreachable, unreachableAnnotation } from '../api/unreachable.ts';
import { derive, input } from '../table/derive.ts';
import type { ReadonlyTable } from '../table/table.ts';
import {
  type Accusation,
  type ClusterVerdict,
  judgeClusters,
  judgeNodes,
  judgeRemoteNodes,
  type NodeVerdict,
  type RemoteNodeVerdict,
} from './verdicts.ts';

export interface Verdicts {
  /** By name: nodes of the own cluster that look dead. */
  readonly nodes: ReadonlyTable<NodeVerdict>;
  /** By name: clusters of which no node answers at least one of ours. */
  readonly clusters: ReadonlyTable<ClusterVerdict>;
  /** By `cluster/node`: nodes of other clusters that at least one of ours probes and does not hear. */
  readonly remoteNodes: ReadonlyTable<RemoteNodeVerdict>;
}

/** What the nodes of a cluster, taken together, say of nodes and of other clusters. */
export function deriveVerdicts(own: ReadonlyTable<NodeRow>): Verdicts {
  const touched = input(own, (_, { before, after }) =>
    before && after && accusationText(before) === accusationText(after) ? [] : ['all'],
  );
  const nodes: ReadonlyTable<NodeVerdict> = derive<NodeVerdict>({
    name: 'node-verdicts',
    keyOf: row => row.node,
    equal: (a, b) => a.dead === b.dead && a.by.join() === b.by.join(),
    inputs: [touched],
    compute: () => judgeNodes(accusations(own), own, node => nodes.get(node)?.dead === true),
  });
  const clusters = derive<ClusterVerdict>({
    name: 'cluster-verdicts',
    keyOf: row => row.cluster,
    equal: (a, b) => a.agreed === b.agreed && a.by.join() === b.by.join(),
    inputs: [touched, input(nodes, () => ['all'])],
    compute: () => judgeClusters(accusations(own), own, deadNames(nodes)),
  });
  const remoteNodes = derive<RemoteNodeVerdict>({
    name: 'remote-node-verdicts',
    keyOf: row => `${row.cluster}/${row.node}`,
    equal: (a, b) => a.agreed === b.agreed && a.by.join() === b.by.join(),
    inputs: [touched, input(nodes, () => ['all'])],
    compute: () => judgeRemoteNodes(accusations(own), own, deadNames(nodes)),
  });
  return { nodes, clusters, remoteNodes };
}

const deadNames = (nodes: ReadonlyTable<NodeVerdict>): Set<string> =>
  new Set(Array.from(nodes.values()).flatMap(({ node, dead }) => (dead ? [node] : [])));

const accusationText = (row: NodeRow): string | undefined => row.annotations[unreachableAnnotation];

function* accusations(own: ReadonlyTable<NodeRow>): Generator<Accusation> {
  for (const row of own.values()) {
    const text = accusationText(row);
    if (text !== undefined) yield { by: row.name, ...parseUnreachable(text) };
  }
}
