import { nthAddress } from '../../src/lab/address.ts';

/** What a network in front of the cluster has to know of a service. */
export interface RoutedService {
  /** `namespace/name`. */
  readonly key: string;
  readonly addresses: readonly string[];
  /** Nodes say there whether they have an endpoint; only services with externalTrafficPolicy Local have it. */
  readonly healthCheckNodePort: number | undefined;
  /** A client stays with its endpoint. */
  readonly affinity: boolean;
}

export const isIPv6 = (address: string): boolean => address.includes(':');

/** Addresses of a cluster's subnet that neither nodes nor the router have: they are for nodes to announce on the link. */
export function announcedRange(subnet: string): string {
  return `${nthAddress(subnet, 192)}/${isIPv6(subnet) ? 123 : 27}`;
}

/**
 * Routes that differ from those to any node: address → next hops as `ip route` takes them, '' where no node is left.
 * `healthy`: nodes' addresses of all families.
 */
export function nextHops(
  { addresses, healthCheckNodePort, affinity }: RoutedService,
  healthy: readonly string[],
): (readonly [address: string, hops: string])[] {
  if (healthCheckNodePort === undefined && !affinity) return [];
  return addresses.map(address => {
    const ways = healthy.filter(node => isIPv6(node) === isIPv6(address));
    const hops = affinity ? ways.slice(0, 1) : ways;
    return [address, hops.map(node => `nexthop via ${node}`).join(' ')];
  });
}
