import { internalAddresses, type NodeRow, nodeAddress } from '../api/crds/cilium-node.ts';
import { routingAnnotation } from '../api/node-traits.ts';
import { canonicalPrefix, hostPrefix } from '../api/prefix.ts';
import { boolean, type ColumnKind, sharedText, text, texts, uint32 } from '../table/columns.ts';
import { derive, input } from '../table/derive.ts';
import { packed } from '../table/packed-rows.ts';
import type { ReadonlyTable } from '../table/table.ts';
import { parseRoutingMode, type RoutingMode } from './paths.ts';
import { type PodRange, PodRangeLookup } from './pod-ranges.ts';

/** A node of another cluster, as that cluster exports it. */
export interface RemoteNode extends Pick<NodeRow, 'name' | 'addresses' | 'podCidrs'> {
  readonly cluster: string;
  readonly clusterId: number;
  /** Its {@link routingAnnotation}; '' without. */
  readonly routing: string;
}

/** A node of any cluster of the mesh, as the datapath of this node needs it. */
export interface ClusterNode {
  readonly cluster: string;
  readonly clusterId: number;
  readonly name: string;
  /** This node itself. */
  readonly local: boolean;
  /** A node of this node's cluster. */
  readonly own: boolean;
  /** Where its tunnel ends. */
  readonly address: string;
  /** Every address it is reached at outside the pod network, `address` first. */
  readonly addresses: readonly string[];
  /** Addresses of its isthmus_host, one a family; none where unknown. */
  readonly internalAddresses: readonly string[];
  readonly podCidrs: readonly string[];
  /** The routing mode its agent says it works in; undefined where it says nothing. */
  readonly routing: RoutingMode | undefined;
}

/** Index of the nodes, and its one value: the node that this is. */
export const LOCAL_NODE = 'local';

/** Every table of nodes has them. `prefix`: every prefix it answers for; `address`: its node addresses. */
export const nodeIndexes = {
  prefix: prefixesOf,
  address: (row: ClusterNode): readonly string[] => row.addresses,
  [LOCAL_NODE]: (row: ClusterNode): readonly string[] => (row.local ? [LOCAL_NODE] : []),
};

const routingColumn: ColumnKind<RoutingMode | undefined> = () => {
  const modes = sharedText();
  return {
    ...modes,
    read: slot => parseRoutingMode(modes.read(slot)),
    write: (slot, value) => modes.write(slot, value ?? ''),
  };
};

/** Key of a node over all clusters. */
export function clusterNodeKey(row: { readonly cluster: string; readonly name: string }): string {
  return `${row.cluster}/${row.name}`;
}

export interface ClusterNodesOptions {
  readonly own: ReadonlyTable<NodeRow>;
  /** Keyed `cluster/name`. */
  readonly remote: ReadonlyTable<RemoteNode>;
  readonly cluster: string;
  readonly clusterId: number;
  /** This node, as it is by itself: whatever becomes of its CiliumNode, its own pods are here. */
  readonly node: Pick<NodeRow, 'name' | 'addresses' | 'podCidrs'>;
  /** Pod ranges of the own cluster. */
  readonly ownRanges: ReadonlyTable<PodRange>;
}

/**
 * The nodes of all clusters. A node without a usable address has no row. Pod ranges that the own cluster has too are
 * taken off other clusters' nodes: `isthmus clustermesh status` tells of them. Index `prefix`: every prefix it
 * answers for; index `address`: its node addresses.
 */
export function deriveClusterNodes(options: ClusterNodesOptions): ReadonlyTable<ClusterNode> {
  const { own, remote, cluster, clusterId, node, ownRanges } = options;
  const ranges = new PodRangeLookup(ownRanges);
  return derive<ClusterNode>({
    name: 'cluster-nodes',
    keyOf: clusterNodeKey,
    rowPerGroup: true,
    equal: sameNode,
    indexes: nodeIndexes,
    rows: packed<ClusterNode>({
      cluster: sharedText,
      clusterId: uint32,
      name: text,
      local: boolean,
      own: boolean,
      address: text,
      addresses: texts,
      internalAddresses: texts,
      podCidrs: texts,
      routing: routingColumn,
    }),
    inputs: [
      input(own, row => [clusterNodeKey({ cluster, name: row.name })]),
      input(remote, row => [clusterNodeKey(row)]),
      input(ownRanges, () => remote.keys()),
    ],
    compute(key) {
      const name = key.startsWith(`${cluster}/`) ? key.slice(cluster.length + 1) : undefined;
      const known = name === undefined ? undefined : own.get(name);
      const mine = known ?? (name === node.name ? node : undefined);
      const routing = known?.annotations[routingAnnotation] ?? '';
      if (mine) return toClusterNode({ ...mine, cluster, clusterId, routing }, true, mine.name === node.name);
      const other = remote.get(key);
      if (!other) return [];
      const podCidrs = other.podCidrs.filter(each => {
        const range = canonicalPrefix(each);
        return range !== undefined && ranges.around(range).length === 0 && !ranges.isInside(range);
      });
      return toClusterNode({ ...other, podCidrs }, false, false);
    },
  });
}

/** What a node's rows in the ipcache are about. */
export function prefixesOf(row: ClusterNode): string[] {
  return [...[...row.addresses, ...row.internalAddresses].map(hostPrefix), ...row.podCidrs];
}

function toClusterNode(row: RemoteNode, own: boolean, local: boolean): ClusterNode[] {
  const address = nodeAddress(row);
  if (address === undefined) return [];
  const others = row.addresses.flatMap(each =>
    (each.type === 'InternalIP' || each.type === 'ExternalIP') && each.ip !== address ? [each.ip] : [],
  );
  return [
    {
      cluster: row.cluster,
      clusterId: row.clusterId,
      name: row.name,
      local,
      own,
      address,
      addresses: [address, ...new Set(others)],
      internalAddresses: internalAddresses(row),
      podCidrs: row.podCidrs,
      routing: parseRoutingMode(row.routing),
    },
  ];
}

function sameNode(a: ClusterNode, b: ClusterNode): boolean {
  return (
    a.clusterId === b.clusterId &&
    a.internalAddresses.join() === b.internalAddresses.join() &&
    a.addresses.join() === b.addresses.join() &&
    a.podCidrs.join() === b.podCidrs.join() &&
    a.routing === b.routing
  );
}
