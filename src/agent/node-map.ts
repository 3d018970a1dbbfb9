import { format, parse } from '../datapath/address.ts';
import { derive, input } from '../table/derive.ts';
import type { ReadonlyTable } from '../table/table.ts';
import { type ClusterNode, clusterNodeKey } from './cluster-nodes.ts';
import type { Path } from './paths.ts';

/** An address that is a node's: it may send tunnel packets, and NodePorts may be asked for at it. */
export interface NodeAddress {
  readonly address: string;
  readonly clusterId: number;
  readonly local: boolean;
  readonly own: boolean;
  /** Packets for the node's pods need no tunnel. */
  readonly direct: boolean;
  /** The node works in a mode in which it may send packets of its pods without a tunnel. */
  readonly routes: boolean;
}

/** Every address of every node. Should two nodes claim one, this node's cluster wins. */
export function deriveNodeAddresses(
  nodes: ReadonlyTable<ClusterNode>,
  paths: ReadonlyTable<Path>,
): ReadonlyTable<NodeAddress> {
  const addressesOf = (row: ClusterNode): readonly string[] => [...row.addresses, ...row.internalAddresses];
  const claims = derive<NodeAddress & { readonly node: string }>({
    name: 'node-address-claims',
    keyOf: row => `${row.node} ${row.address}`,
    indexes: { address: row => [row.address] },
    equal: same,
    inputs: [input(nodes, row => [clusterNodeKey(row)]), input(paths, row => [row.node])],
    compute(key) {
      const node = nodes.get(key);
      if (!node) return [];
      const { clusterId, local, own } = node;
      const direct = paths.get(key)?.direct ?? false;
      const routes = node.routing === 'native' || node.routing === 'hybrid';
      return addressesOf(node).map(address => ({
        node: key,
        address,
        clusterId,
        local,
        own,
        direct,
        routes,
      }));
    },
  });
  return derive<NodeAddress>({
    name: 'node-addresses',
    keyOf: row => row.address,
    rowPerGroup: true,
    equal: same,
    inputs: [input(claims, row => [row.address])],
    compute(address) {
      const all = [...claims.by('address', address)];
      const found = all.find(each => each.local) ?? all.find(each => each.own) ?? all[0];
      if (!found) return [];
      const { clusterId, local, own, direct, routes } = found;
      return [{ address, clusterId, local, own, direct, routes }];
    },
  });
}

const same = (a: NodeAddress, b: NodeAddress): boolean =>
  a.clusterId === b.clusterId &&
  a.local === b.local &&
  a.own === b.own &&
  a.direct === b.direct &&
  a.routes === b.routes;

/** The row of bpf/types.h. */
export interface NodeMapRow {
  readonly key: { readonly addr: Uint8Array };
  readonly value: { readonly cluster_id: number; readonly flags: number };
}

const NODE_LOCAL = 1;
const NODE_OWN_CLUSTER = 2;
const NODE_DIRECT = 4;
const NODE_ROUTES = 8;

export function nodeMapKey(address: string): NodeMapRow['key'] {
  return { addr: parse(address) };
}

export function nodeMapRow(row: NodeAddress): NodeMapRow {
  return {
    key: nodeMapKey(row.address),
    value: {
      cluster_id: row.clusterId,
      flags:
        (row.local ? NODE_LOCAL : 0) |
        (row.own ? NODE_OWN_CLUSTER : 0) |
        (row.direct ? NODE_DIRECT : 0) |
        (row.routes ? NODE_ROUTES : 0),
    },
  };
}

/** The address of a key found in the map. */
export function addressOfNodeKey(key: NodeMapRow['key']): string {
  return format(key.addr);
}
