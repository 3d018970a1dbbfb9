import { isIPv6 } from 'node:net';
import { hostPrefix } from '../api/prefix.ts';
import { Netlink } from '../datapath/netlink.ts';
import {
  deleteRoute,
  listRoutesLater,
  PROTOCOL_ISTHMUS,
  type Route,
  type RouteSpec,
  replaceRoute,
  TABLE_MAIN,
} from '../datapath/route.ts';
import { sharedText, text, uint32 } from '../table/columns.ts';
import { derive, input } from '../table/derive.ts';
import { packed } from '../table/packed-rows.ts';
import type { Operation, Target } from '../table/reconciler.ts';
import type { ReadonlyTable } from '../table/table.ts';
import { nextTurn, turnIsOver } from '../table/turn.ts';
import { type ClusterNode, clusterNodeKey } from './cluster-nodes.ts';
import type { Path } from './paths.ts';

/** A way of this node's own processes to pods. */
export interface HostRoute {
  readonly prefix: string;
  readonly ifindex: number;
  /** The other node, where its pods are reached without a tunnel; '' over isthmus_host. */
  readonly gateway: string;
  /** Address this node shows; '' the one of the device. */
  readonly source: string;
  /** In bytes; 0: the device's. */
  readonly mtu: number;
}

export interface HostRoutesOptions {
  readonly nodes: ReadonlyTable<ClusterNode>;
  readonly paths: ReadonlyTable<Path>;
  /** Of isthmus_host. */
  readonly ifindex: number;
  /**
   * This node's internal addresses, which other nodes can answer through the tunnel; a prefix of a family without
   * one has no route.
   */
  readonly sources: readonly string[];
  /** What fits into the tunnel, in bytes. */
  readonly mtu: number;
}

/**
 * Routes to the pod CIDRs and internal addresses of all nodes of all clusters: over isthmus_host, where the tunnel
 * begins, or to a neighbour. Pods that somebody else's routes lead to have none of ours.
 */
export function deriveHostRoutes(options: HostRoutesOptions): ReadonlyTable<HostRoute> {
  const { nodes, paths, ifindex, sources, mtu } = options;
  const prefixes = (row: ClusterNode): readonly string[] => {
    // An internal address is one of the pod CIDR of its family, unless a peer does it otherwise.
    const internal = row.local
      ? []
      : row.internalAddresses.filter(each => !row.podCidrs.some(cidr => isIPv6(each) === cidr.includes(':')));
    return [...row.podCidrs, ...internal.map(hostPrefix)];
  };
  return derive<HostRoute>({
    name: 'host-routes',
    keyOf: row => row.prefix,
    rowPerGroup: true,
    rows: packed<HostRoute>({
      prefix: text,
      ifindex: uint32,
      gateway: text,
      source: sharedText,
      mtu: uint32,
    }),
    equal: (a, b) =>
      a.ifindex === b.ifindex && a.gateway === b.gateway && a.source === b.source && a.mtu === b.mtu,
    inputs: [
      input(nodes, row => prefixes(row)),
      input(paths, ({ node }) => {
        const row = nodes.get(node);
        return row ? prefixes(row) : [];
      }),
    ],
    compute(prefix) {
      const source = sources.find(each => isIPv6(each) === prefix.includes(':'));
      if (source === undefined) return [];
      for (const node of nodes.by('prefix', prefix)) {
        if (!prefixes(node).includes(prefix)) continue;
        const path = paths.get(clusterNodeKey(node));
        if (!path?.direct) return [{ prefix, ifindex, gateway: '', source, mtu }];
        if (path.gateway === '') return [];
        const gateway = gatewayOf(node, path.gateway, prefix);
        // Without one the programs find the route into the tunnel, and take it.
        if (gateway === undefined) return [{ prefix, ifindex, gateway: '', source, mtu }];
        return [{ prefix, ifindex: path.ifindex, gateway, source: '', mtu: 0 }];
      }
      return [];
    },
  });
}

/** The node's address of a prefix's family: the path's own, or another. */
function gatewayOf(node: ClusterNode, preferred: string, prefix: string): string | undefined {
  const v6 = prefix.includes(':');
  return [preferred, ...node.addresses].find(each => each.includes(':') === v6);
}

/** Writes them to the main table with our protocol number; leaves everybody else's alone. */
export function hostRouteTarget(netlink: Netlink): Target<HostRoute> {
  return {
    async existing() {
      const prefixes: string[] = [];
      for await (const routes of ownRoutes()) prefixes.push(...routes.map(route => route.prefix));
      return prefixes;
    },
    async *differing(table) {
      const found = new Set<string>();
      for await (const routes of ownRoutes())
        for (const route of routes) {
          found.add(route.prefix);
          const row = table.get(route.prefix);
          if (!row || !isAs(route, routeSpec(row))) yield route.prefix;
        }
      for (const prefix of table.keys()) {
        if (!found.has(prefix)) yield prefix;
        if (turnIsOver()) await nextTurn();
      }
    },
    apply(batch: readonly Operation<HostRoute>[]) {
      const failed = new Map<string, Error>();
      for (const { key, row } of batch)
        try {
          if (row) replaceRoute(netlink, routeSpec(row));
          else deleteRoute(netlink, { prefix: key });
        } catch (error) {
          failed.set(key, error instanceof Error ? error : new Error(String(error)));
        }
      return failed;
    },
  };
}

/** Those that are in the kernel now, some at a time: in a large mesh there is one for each node of all clusters. */
async function* ownRoutes(): AsyncGenerator<readonly Route[]> {
  // Nobody else may use the socket meanwhile.
  using netlink = new Netlink();
  for (const routes of listRoutesLater(netlink, { table: TABLE_MAIN, protocol: PROTOCOL_ISTHMUS })) {
    yield routes;
    if (turnIsOver()) await nextTurn();
  }
}

const isAs = (route: Route, spec: RouteSpec): boolean =>
  route.ifindex === spec.ifindex &&
  route.via === spec.via &&
  route.source === spec.source &&
  route.mtu === spec.mtu;

const routeSpec = ({ prefix, ifindex, gateway, source, mtu }: HostRoute): RouteSpec => ({
  prefix,
  ifindex,
  ...(gateway !== '' && { via: gateway }),
  ...(source !== '' && { source }),
  ...(mtu !== 0 && { mtu }),
});
