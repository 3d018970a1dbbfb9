import type { NodeRow } from '../api/crds/cilium-node.ts';
import { formatUnreachable, parseUnreachable, unreachableAnnotation } from '../api/unreachable.ts';
import { derive, input } from '../table/derive.ts';
import { type ReadonlyTable, Table } from '../table/table.ts';
import {
  type Accusation,
  ALONE,
  type ClusterVerdict,
  judgeClusters,
  judgeNodes,
  judgeRemoteNodes,
  type NodeVerdict,
  QUORUM,
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

/**
 * What this node itself finds, in at most one row, and only while the API server does not answer it: what others say cannot
 * be read then, and what they said before is old.
 */
export type LoneWord = ReadonlyTable<Accusation>;

/** Empty: the API server answers. */
export function loneWordTable(): Table<Accusation> {
  const table = new Table<Accusation>({
    name: 'lone-word',
    keyOf: row => row.by,
    equal: (a, b) => formatUnreachable(a) === formatUnreachable(b),
  });
  table.markSynced();
  return table;
}

/**
 * What the nodes of a cluster, taken together, say of nodes and of other clusters; or what this one says, as long as
 * `alone` has a row.
 */
export function deriveVerdicts(own: ReadonlyTable<NodeRow>, alone: LoneWord = loneWordTable()): Verdicts {
  const touched = [
    input(own, (_, { before, after }) =>
      before && after && accusationText(before) === accusationText(after) ? [] : ['all'],
    ),
    input(alone, () => ['all']),
  ];
  const words = (): Iterable<Accusation> => (alone.size ? alone.values() : accusations(own));
  const enough = (): number => (alone.size ? ALONE : QUORUM);
  const nodes: ReadonlyTable<NodeVerdict> = derive<NodeVerdict>({
    name: 'node-verdicts',
    keyOf: row => row.node,
    equal: (a, b) => a.dead === b.dead && a.by.join() === b.by.join(),
    inputs: touched,
    compute: () => judgeNodes(words(), own, node => nodes.get(node)?.dead === true, enough()),
  });
  const clusters = derive<ClusterVerdict>({
    name: 'cluster-verdicts',
    keyOf: row => row.cluster,
    equal: (a, b) => a.agreed === b.agreed && a.by.join() === b.by.join(),
    inputs: [...touched, input(nodes, () => ['all'])],
    compute: () => judgeClusters(words(), own, deadNames(nodes), enough()),
  });
  const remoteNodes = derive<RemoteNodeVerdict>({
    name: 'remote-node-verdicts',
    keyOf: row => `${row.cluster}/${row.node}`,
    equal: (a, b) => a.agreed === b.agreed && a.by.join() === b.by.join(),
    inputs: [...touched, input(nodes, () => ['all'])],
    compute: () => judgeRemoteNodes(words(), own, deadNames(nodes), enough()),
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
