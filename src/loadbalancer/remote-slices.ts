/**
 * The endpoints of another cluster as EndpointSlices of this one, for DNS and for programs that read slices. Pure.
 */
import { isIPv6 } from 'node:net';
import type { SlicePort } from '../api/endpoint-slice.ts';
import type { RemoteService } from './remote-service.ts';

/** As Kubernetes' own slices: larger ones cost more for each change of one endpoint. */
export const MAX_ENDPOINTS = 100;

export interface RemoteSlice {
  /** Name of a slice that is there and stays; undefined for a new one. */
  readonly name: string | undefined;
  readonly addressType: 'IPv4' | 'IPv6';
  readonly ports: readonly SlicePort[];
  /** By address, in its order. */
  readonly endpoints: readonly RemoteSliceEndpoint[];
}

export interface RemoteSliceEndpoint {
  readonly address: string;
  /** '' where it has none. */
  readonly hostname: string;
}

/** A slice of the same service and cluster that is there already. */
export interface PresentSlice {
  readonly name: string;
  readonly addressType: string;
  readonly ports: readonly SlicePort[];
  readonly addresses: readonly string[];
}

/**
 * Divides what a cluster offers of a service into slices: endpoints of one slice have one family and the same ports, and
 * are at most 100. An endpoint stays in the slice it is in, so that a change of one endpoint is a change of one slice.
 * Names of hosts and ports that an API server would refuse are left out.
 */
export function remoteSlices(
  remote: Pick<RemoteService, 'backends' | 'hostnames'>,
  present: Iterable<PresentSlice>,
): RemoteSlice[] {
  const groups = new Map<string, { slice: Pick<RemoteSlice, 'addressType' | 'ports'>; open: Set<string> }>();
  for (const [address, named] of remote.backends.flatMap(part => Object.entries(part))) {
    const addressType = isIPv6(address) ? 'IPv6' : 'IPv4';
    const ports = Object.entries(named)
      .flatMap(([name, { protocol, port }]) =>
        isPortName(name) && port > 0 ? [{ name, protocol, port }] : [],
      )
      .sort((a, b) => (portText(a) < portText(b) ? -1 : 1));
    const key = groupKey(addressType, ports);
    const group = groups.get(key) ?? { slice: { addressType, ports }, open: new Set() };
    group.open.add(address);
    groups.set(key, group);
  }
  const slices: { name: string | undefined; key: string; addresses: string[] }[] = [];
  for (const { name, addressType, ports, addresses } of [...present].sort(byName)) {
    const key = groupKey(addressType, ports);
    const open = groups.get(key)?.open;
    const kept: string[] = [];
    for (const each of addresses) if (kept.length < MAX_ENDPOINTS && open?.delete(each)) kept.push(each);
    if (kept.length) slices.push({ name, key, addresses: kept });
  }
  for (const [key, { open }] of groups) {
    const rest = [...open].sort();
    // The fullest first, so that few slices change.
    const roomy = slices.filter(each => each.key === key && each.addresses.length < MAX_ENDPOINTS);
    for (const { addresses } of roomy.sort((a, b) => b.addresses.length - a.addresses.length))
      addresses.push(...rest.splice(0, MAX_ENDPOINTS - addresses.length));
    while (rest.length) slices.push({ name: undefined, key, addresses: rest.splice(0, MAX_ENDPOINTS) });
  }
  return slices.map(({ name, key, addresses }) => ({
    name,
    ...groups.get(key)!.slice,
    endpoints: addresses.sort().map(address => {
      const hostname = remote.hostnames?.[address] ?? '';
      return { address, hostname: isDnsLabel(hostname) ? hostname : '' };
    }),
  }));
}

const portText = ({ name, protocol, port }: SlicePort): string => `${name}/${protocol}/${port}`;
const groupKey = (addressType: string, ports: readonly SlicePort[]): string =>
  [addressType, ...ports.map(portText).sort()].join(' ');
const byName = (a: PresentSlice, b: PresentSlice): number => (a.name < b.name ? -1 : 1);

const isDnsLabel = (text: string): boolean => /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(text);
const isPortName = (text: string): boolean => text === '' || isDnsLabel(text);
