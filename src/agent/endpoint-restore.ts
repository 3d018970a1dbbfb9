/** Which of the endpoints on file still exist. Pure. */

import { isIPv4, isIPv6 } from 'node:net';
import { format } from '../datapath/address.ts';
import type { Link } from '../datapath/link.ts';
import { macText } from '../datapath/netlink-address.ts';
import {
  addressesOf,
  type Endpoint,
  type EndpointMapRow,
  endpointKey,
  isHostInterfaceName,
} from './endpoint.ts';

export interface Judged {
  /** Their devices are there; `ifindex` is what the kernel says now. */
  readonly live: readonly Endpoint[];
  /** The plugin was at work when the agent went away, and may come back: their addresses stay taken. */
  readonly creating: readonly Endpoint[];
  readonly dead: readonly { readonly endpoint: Endpoint; readonly reason: string }[];
}

/** An endpoint's device is known by its name and by the alias the plugin gave it. */
export function judgeEndpoints(onFile: readonly Endpoint[], links: readonly Link[]): Judged {
  const byName = new Map(links.map(link => [link.name, link]));
  const live: Endpoint[] = [];
  const creating: Endpoint[] = [];
  const dead: { endpoint: Endpoint; reason: string }[] = [];
  const taken = new Set<string>();
  // Of two that claim one thing, the one with a device is right.
  const hasDevice = (endpoint: Endpoint): boolean =>
    byName.get(endpoint.hostIfName)?.alias === endpointKey(endpoint);
  const ordered = [...onFile].sort((a, b) => Number(hasDevice(b)) - Number(hasDevice(a)) || a.id - b.id);
  for (const endpoint of ordered) {
    const claims = [
      ...addressesOf(endpoint).map(each => `ip ${each.address}`),
      `key ${endpointKey(endpoint)}`,
      `id ${endpoint.id}`,
    ];
    const double = claims.find(each => taken.has(each));
    const link = byName.get(endpoint.hostIfName);
    if (double) dead.push({ endpoint, reason: `another endpoint has its ${double}` });
    else if (endpoint.state === 'creating') creating.push({ ...endpoint, ifindex: 0 });
    else if (!link) dead.push({ endpoint, reason: `device ${endpoint.hostIfName} is gone` });
    else if (!hasDevice(endpoint))
      dead.push({ endpoint, reason: `device ${endpoint.hostIfName} is of ${link.alias || 'somebody else'}` });
    else live.push({ ...endpoint, ifindex: link.index, state: 'ready' });
    if (dead.at(-1)?.endpoint !== endpoint) for (const each of claims) taken.add(each);
  }
  return { live, creating, dead };
}

export interface Recovered {
  readonly links: readonly Link[];
  /** Rows of the pinned map. */
  readonly rows: Iterable<EndpointMapRow>;
  /** Gateways of the families the cluster has. */
  readonly gateways: Pick<Endpoint, 'gateway' | 'gateway6'>;
  readonly createdAt: string;
}

/**
 * Endpoints whose file was lost, from the pod's device (whose alias names the attachment) and its row in the
 * pinned map. Their pods' names are not known.
 */
export function recoverEndpoints(onFile: readonly Endpoint[], found: Recovered): Endpoint[] {
  const known = new Set(onFile.map(endpointKey));
  const ids = new Set(onFile.map(each => each.id));
  const rows = Map.groupBy(found.rows, row => row.value.ifindex);
  return found.links.flatMap(link => {
    const own = rows.get(link.index) ?? [];
    const [row] = own;
    const at = link.alias.lastIndexOf('/');
    if (!row || at < 1 || known.has(link.alias) || !isHostInterfaceName(link.name)) return [];
    const { endpoint_id: id, identity, mac, host_mac } = row.value;
    if (macText(host_mac) !== link.mac || id < 1 || ids.has(id)) return [];
    ids.add(id);
    return [
      {
        id,
        containerId: link.alias.slice(0, at),
        ifName: link.alias.slice(at + 1),
        netns: '',
        network: 'isthmus',
        hostIfName: link.name,
        ifindex: link.index,
        ...addressesFound(
          own.map(each => format(each.key.addr)),
          found.gateways,
        ),
        mtu: link.mtu,
        mac: macText(mac),
        hostMac: link.mac,
        namespace: '',
        podName: '',
        podUid: '',
        portMappings: [],
        identity,
        state: 'ready' as const,
        createdAt: found.createdAt,
      },
    ];
  });
}

function addressesFound(
  addresses: readonly string[],
  { gateway, gateway6 }: Recovered['gateways'],
): Pick<Endpoint, 'ipv4' | 'gateway' | 'ipv6' | 'gateway6'> {
  const ipv4 = addresses.find(isIPv4);
  const ipv6 = addresses.find(isIPv6);
  return { ...(ipv4 && gateway && { ipv4, gateway }), ...(ipv6 && gateway6 && { ipv6, gateway6 }) };
}
