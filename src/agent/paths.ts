import { contains, formatPrefix, parse, parsePrefix } from '../datapath/address.ts';
import { boolean, sharedText, text, uint32 } from '../table/columns.ts';
import { derive, input } from '../table/derive.ts';
import { packed } from '../table/packed-rows.ts';
import type { ReadonlyTable } from '../table/table.ts';
import { type ClusterNode, clusterNodeKey, LOCAL_NODE } from './cluster-nodes.ts';

/**
 * How nodes send to each other's pods.
 *
 * - `tunnel`: by VXLAN, always.
 * - `native`: by routes of the network, always; a tunnel only to nodes that say they take nothing else.
 * - `hybrid`: by a route where there is one, by the tunnel elsewhere, decided for each node.
 */
export type RoutingMode = 'tunnel' | 'native' | 'hybrid';

export const routingModes = ['tunnel', 'native', 'hybrid'] as const satisfies readonly RoutingMode[];

export function parseRoutingMode(text: string | undefined): RoutingMode | undefined {
  return routingModes.find(mode => mode === text);
}

/** A way out of this node that the kernel already has. */
export interface KernelRoute {
  /** Canonical, '10.1.0.0/16'. Never a default route. */
  readonly prefix: string;
  /** Whether the prefix is a link's own: its addresses are neighbours. */
  readonly onLink: boolean;
  readonly ifindex: number;
}

/** The way from this node to another node's pods. */
export interface Path {
  /** `cluster/name`. */
  readonly node: string;
  readonly direct: boolean;
  /** Next hop for the node's pods: its own address, where it is a neighbour. '' where other routes lead there. */
  readonly gateway: string;
  /** Device of the gateway; 0 without one. */
  readonly ifindex: number;
  /** For people: why this way. */
  readonly reason: string;
}

export interface PathInputs {
  readonly nodes: ReadonlyTable<ClusterNode>;
  /** Asked in native and hybrid mode only. */
  readonly routes: ReadonlyTable<KernelRoute>;
  readonly mode: RoutingMode;
  /** Groups of prefixes that reach each other without a tunnel; empty: found by routes. Hybrid mode. */
  readonly topology: readonly (readonly string[])[];
  /** Whether to make routes to the pods of neighbours. */
  readonly neighbourRoutes: boolean;
}

/** One row for every other node. */
export function derivePaths(inputs: PathInputs): ReadonlyTable<Path> {
  const { nodes, routes, mode, topology, neighbourRoutes } = inputs;
  const local = (): ClusterNode | undefined => {
    for (const node of nodes.by(LOCAL_NODE, LOCAL_NODE)) return node;
    return undefined;
  };
  return derive<Path>({
    name: 'paths',
    keyOf: row => row.node,
    rowPerGroup: true,
    rows: packed<Path>({ node: text, direct: boolean, gateway: text, ifindex: uint32, reason: sharedText }),
    equal: (a, b) =>
      a.direct === b.direct && a.gateway === b.gateway && a.ifindex === b.ifindex && a.reason === b.reason,
    inputs: [
      // Topology is about both ends: where this node's own ranges change, every path may.
      input(nodes, row => (row.local && topology.length ? nodes.keys() : [clusterNodeKey(row)])),
      // Which nodes a route concerns would take longer to say than to ask; of a thousand that come, once.
      input(routeChanges(routes), () => nodes.keys()),
    ],
    compute(key) {
      const node = nodes.get(key);
      if (!node || node.local) return [];
      const tunnel = (reason: string): Path[] => [
        { node: key, direct: false, gateway: '', ifindex: 0, reason },
      ];
      const direct = (reason: string, via?: KernelRoute): Path[] => [
        {
          node: key,
          direct: true,
          gateway: via && neighbourRoutes ? node.address : '',
          ifindex: via && neighbourRoutes ? via.ifindex : 0,
          reason,
        },
      ];
      if (mode === 'tunnel') return tunnel('tunnel mode');
      if (node.routing === 'tunnel') return tunnel('the node takes tunnel packets only');
      const link = coveringRoute(node.address, routes, route => route.onLink);
      if (mode === 'native') {
        // A node that says nothing is another product's: whoever chose native routing answers for it.
        if (link) return direct('same link', link);
        return direct('native mode');
      }
      if (node.routing === undefined)
        return tunnel('the node does not say that it takes untunnelled packets');
      if (topology.length) {
        const self = local();
        return self && connected(self, node, topology)
          ? direct('subnet topology', link)
          : tunnel('subnet topology');
      }
      if (link) return direct('same link', link);
      const cidrs = node.podCidrs;
      const routed =
        cidrs.length > 0 && cidrs.every(cidr => coveringRoute(cidr, routes, route => !route.onLink));
      return routed ? direct('a route leads to its pods') : tunnel('no link and no route in common');
    },
  });
}

/** One row that is another whenever routes, one or many, have changed. */
function routeChanges(routes: ReadonlyTable<KernelRoute>): ReadonlyTable<object> {
  return derive<object>({
    name: 'route-changes',
    keyOf: () => 'routes',
    inputs: [input(routes, () => ['routes'])],
    compute: () => [{}],
  });
}

/**
 * The longest of the routes that covers an address or prefix. Asks for each shorter prefix by its name: a node with
 * routes of BGP has thousands, a prefix has at most 128 above it.
 */
function coveringRoute(
  target: string,
  routes: ReadonlyTable<KernelRoute>,
  usable: (route: KernelRoute) => boolean,
): KernelRoute | undefined {
  const { addr, length } = parsePrefix(target);
  const shortest = target.includes(':') ? 0 : 96;
  const covering = addr.slice();
  for (let bits = length; bits > shortest; bits--) {
    if (bits < 128) covering[bits >> 3] = covering[bits >> 3]! & (0xff << (8 - (bits & 7)));
    const found = routes.get(formatPrefix({ addr: covering, length: bits }));
    if (found && usable(found)) return found;
  }
  return undefined;
}

/** Whether a group has a prefix of each of two nodes: of its pods or of its addresses. */
function connected(a: ClusterNode, b: ClusterNode, topology: PathInputs['topology']): boolean {
  const inGroup = (node: ClusterNode, group: readonly string[]): boolean =>
    [...node.podCidrs, ...node.addresses].some(each => group.some(prefix => covers(prefix, each)));
  return topology.some(group => inGroup(a, group) && inGroup(b, group));
}

function covers(prefix: string, target: string): boolean {
  const outer = parsePrefix(prefix);
  const inner = target.includes('/') ? parsePrefix(target) : { addr: parse(target), length: 128 };
  return inner.length >= outer.length && contains(outer, inner.addr);
}

/** Reads `10.0.0.0/24,10.0.1.0/24;10.1.0.0/16`: groups by semicolon, prefixes by comma. Throws what is wrong. */
export function parseTopology(text: string): string[][] {
  return text
    .split(';')
    .map(group => group.split(',').flatMap(each => each.trim() || []))
    .filter(group => group.length > 0)
    .map(group =>
      group.map(each => {
        try {
          if (!each.includes('/')) throw new Error();
          parsePrefix(each);
        } catch {
          throw new Error(
            `expected prefixes as 10.0.0.0/24, joined by ',' where they reach each other, groups by ';'; ${JSON.stringify(each)} is none`,
          );
        }
        return each;
      }),
    );
}
