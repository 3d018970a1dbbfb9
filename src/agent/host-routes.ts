import type { Netlink } from '../datapath/netlink.ts';
import { deleteRoute, listRoutes, PROTOCOL_ISTHMUS, replaceRoute, TABLE_MAIN } from '../datapath/route.ts';
import { derive, input } from '../table/derive.ts';
import type { Operation, Target } from '../table/reconciler.ts';
import type { ReadonlyTable } from '../table/table.ts';
import { type ClusterNode, hostPrefix } from './cluster-nodes.ts';

/** A way of this node's own processes to pods. */
export interface HostRoute {
  readonly prefix: string;
  /** Address this node shows: its internal one, which other nodes can answer through the tunnel. */
  readonly source: string;
  /** In bytes: what fits into the tunnel for pods elsewhere. */
  readonly mtu: number;
}

export interface HostRoutesOptions {
  readonly nodes: ReadonlyTable<ClusterNode>;
  /** This node's internal address. */
  readonly source: string;
  readonly mtu: number;
}

/** Routes to the pod CIDRs and internal addresses of all nodes of all clusters. */
export function deriveHostRoutes(options: HostRoutesOptions): ReadonlyTable<HostRoute> {
  const { nodes, source, mtu } = options;
  const prefixes = (row: ClusterNode): readonly string[] => {
    const inCidr = row.podCidrs.length > 0;
    // The internal address is one of the pod CIDR, unless a peer does it otherwise.
    const internal =
      row.internalAddress === '' || row.local || inCidr ? [] : [hostPrefix(row.internalAddress)];
    return [...row.podCidrs, ...internal];
  };
  return derive<HostRoute>({
    name: 'host-routes',
    keyOf: row => row.prefix,
    equal: (a, b) => a.source === b.source && a.mtu === b.mtu,
    inputs: [input(nodes, row => prefixes(row))],
    compute(prefix) {
      for (const node of nodes.by('prefix', prefix))
        if (prefixes(node).includes(prefix)) return [{ prefix, source, mtu }];
      return [];
    },
  });
}

/** Writes them to the main table, over isthmus_host, with our protocol number; leaves everybody else's alone. */
export function hostRouteTarget(netlink: Netlink, ifindex: number): Target<HostRoute> {
  return {
    existing: () =>
      listRoutes(netlink, { table: TABLE_MAIN, protocol: PROTOCOL_ISTHMUS, family: 4 })
        .filter(route => route.ifindex === ifindex)
        .map(route => route.prefix),
    apply(batch: readonly Operation<HostRoute>[]) {
      const failed = new Map<string, Error>();
      for (const { key, row } of batch)
        try {
          if (row) replaceRoute(netlink, { prefix: key, ifindex, source: row.source, mtu: row.mtu });
          else deleteRoute(netlink, { prefix: key, ifindex });
        } catch (error) {
          failed.set(key, error instanceof Error ? error : new Error(String(error)));
        }
      return failed;
    },
  };
}
