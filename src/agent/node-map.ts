import { hostPrefix } from '../api/prefix.ts';
import { format, parse } from '../datapath/address.ts';
import { boolean, text, uint32 } from '../table/columns.ts';
import { derive, input } from '../table/derive.ts';
import { packed } from '../table/packed-rows.ts';
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

const addressesOf = (row: ClusterNode): readonly string[] => [...row.addresses, ...row.internalAddresses];

/** Every address of every node (`nodes` with the index `prefix`). Should two nodes claim one, this node's cluster wins. */
export function deriveNodeAddresses(
  nodes: ReadonlyTable<ClusterNode>,
  paths: ReadonlyTable<Path>,
): ReadonlyTable<NodeAddress> {
  return derive<NodeAddress>({
    name: 'node-addresses',
    keyOf: row => row.address,
    rowPerGroup: true,
    equal: same,
    rows: packed<NodeAddress>({
      address: text,
      clusterId: uint32,
      local: boolean,
      own: boolean,
      direct: boolean,
      routes: boolean,
    }),
    inputs: [
      input(nodes, addressesOf),
      input(paths, row => {
        const node = nodes.get(row.node);
        return node ? addressesOf(node) : [];
      }),
    ],
    compute(address) {
      const all = [...nodes.by('prefix', hostPrefix(address))].filter(each =>
        addressesOf(each).includes(address),
      );
      const node = all.find(each => each.local) ?? all.find(each => each.own) ?? all[0];
      if (!node) return [];
      const { clusterId, local, own, routing } = node;
      const direct = paths.get(clusterNodeKey(node))?.direct ?? false;
      const routes = routing === 'native' || routing === 'hybrid';
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
