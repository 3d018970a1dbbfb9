/**
 * The node's own devices, made once and adopted ever after:
 *
 *   isthmus_host / isthmus_net   a veth pair; isthmus_host has the node's internal IP, is the pods' gateway
 *                                and where the node's own packets to pods leave
 *   isthmus_vxlan                the tunnel; VNI and remote are each packet's own
 */
import { isIPv6 } from 'node:net';
import { hostPrefix } from '../api/prefix.ts';
import {
  changeLink,
  createVeth,
  createVxlan,
  deleteLink,
  type Link,
  type LinkChange,
  linkByName,
  listLinks,
} from '../datapath/link.ts';
import { addAddress, deleteAddress, listAddresses } from '../datapath/link-address.ts';
import type { Netlink } from '../datapath/netlink.ts';
import { readSysctl, writeSysctl } from '../datapath/sysctl.ts';
import type { Logger } from '../log.ts';
import type { Uplink } from './uplink.ts';

export const HOST_DEVICE = 'isthmus_host';
export const NET_DEVICE = 'isthmus_net';
export const VXLAN_DEVICE = 'isthmus_vxlan';

/** Bytes that VXLAN adds: outer Ethernet is not counted, inner is (14 + 20 or 40 + 8 + 8). */
export const VXLAN_OVERHEAD = { 4: 50, 6: 70 } as const;

export interface DevicesOptions {
  readonly netlink: Netlink;
  /** As `findUplinks` gives them, the node's own first. */
  readonly uplinks: readonly Uplink[];
  /** The node's internal IP of each family, without length. */
  readonly internalIps: readonly string[];
  /** Family of the tunnel's outer packets. */
  readonly underlay: 4 | 6;
  /** UDP port of the tunnel, 8472. */
  readonly tunnelPort: number;
  /** Pods need not leave room for a tunnel's headers. */
  readonly withoutTunnel?: boolean;
  /** MTU of the uplink, when the smallest of the uplinks is not to be believed. 0: found. */
  readonly mtu?: number;
  readonly log: Logger;
}

export interface Devices {
  readonly host: Link;
  readonly net: Link;
  readonly vxlan: Link;
  /** MTU of pods' devices: what fits the tunnel, unless there is none. */
  readonly podMtu: number;
  /** What fits the tunnel. */
  readonly tunnelMtu: number;
  /** What an administrator should know, e.g. a reverse path filter that will drop packets. */
  readonly warnings: readonly string[];
}

/** Makes or adopts all devices with their addresses and sysctls. Safe to call at every start. */
export function ensureDevices(options: DevicesOptions): Devices {
  const { netlink, log } = options;
  const uplinkMtu = options.mtu || Math.min(...options.uplinks.map(each => each.mtu));
  const tunnelMtu = uplinkMtu - VXLAN_OVERHEAD[options.underlay];
  const podMtu = options.withoutTunnel ? uplinkMtu : tunnelMtu;
  const ipv6 = options.internalIps.some(isIPv6);
  ensurePair(netlink, log);
  ensureVxlan(netlink, options.tunnelPort, tunnelMtu, log);
  // The kernel's defaults for a new device come with it: set them before it is up.
  for (const name of [HOST_DEVICE, NET_DEVICE, VXLAN_DEVICE]) {
    writeSysctl(`net/ipv4/conf/${name}/rp_filter`, 0);
    writeSysctl(`net/ipv4/conf/${name}/send_redirects`, 0);
    writeSysctl(`net/ipv4/conf/${name}/forwarding`, 1);
    // Packets of the node to its own pods' services come back with a source of the node.
    writeSysctl(`net/ipv4/conf/${name}/accept_local`, 1);
    if (ipv6) {
      // No address is made up for them, and no router is asked for one.
      writeSysctl(`net/ipv6/conf/${name}/addr_gen_mode`, 1);
      writeSysctl(`net/ipv6/conf/${name}/accept_ra`, 0);
      writeSysctl(`net/ipv6/conf/${name}/forwarding`, 1);
      writeSysctl(`net/ipv6/conf/${name}/disable_ipv6`, 0);
    } else withoutIpv6(() => writeSysctl(`net/ipv6/conf/${name}/disable_ipv6`, 1));
  }
  // Who has a pod's address is the programs' knowledge: nothing is to be asked for on the pair.
  ensureLink(netlink, HOST_DEVICE, { mtu: podMtu, arp: false, up: true });
  ensureLink(netlink, NET_DEVICE, { mtu: podMtu, arp: false, up: true });
  ensureLink(netlink, VXLAN_DEVICE, { mtu: tunnelMtu, up: true });
  const host = get(netlink, HOST_DEVICE);
  ensureAddresses(netlink, host.index, options.internalIps);
  return {
    host,
    net: get(netlink, NET_DEVICE),
    vxlan: get(netlink, VXLAN_DEVICE),
    podMtu,
    tunnelMtu,
    warnings: nodeSysctls(netlink, options.uplinks, ipv6),
  };
}

/** Deletes the devices; true if one was there. */
export function removeDevices(netlink: Netlink): boolean {
  const host = deleteLink(netlink, HOST_DEVICE);
  return deleteLink(netlink, VXLAN_DEVICE) || host;
}

function ensurePair(netlink: Netlink, log: Logger): void {
  const host = linkByName(netlink, HOST_DEVICE);
  const net = linkByName(netlink, NET_DEVICE);
  if (host && net && host.kind === 'veth' && host.peer === net.index) return;
  for (const each of [host, net]) {
    if (!each) continue;
    log.warn({ device: each.name, kind: each.kind }, 'device is not ours as it is: made anew');
    deleteLink(netlink, each.index);
  }
  createVeth(netlink, { name: HOST_DEVICE, peer: NET_DEVICE });
}

function ensureVxlan(netlink: Netlink, port: number, mtu: number, log: Logger): void {
  const present = linkByName(netlink, VXLAN_DEVICE);
  if (present?.vxlan?.collectMetadata && present.vxlan.port === port) return;
  if (present) {
    log.warn({ device: present.name, kind: present.kind, ...present.vxlan }, 'tunnel is another: made anew');
    deleteLink(netlink, present.index);
  }
  createVxlan(netlink, { name: VXLAN_DEVICE, port, mtu });
}

/** Changes only what differs, so that a restart changes nothing. */
function ensureLink(netlink: Netlink, name: string, wanted: LinkChange & { readonly mtu: number }): void {
  const link = get(netlink, name);
  const differs: LinkChange = {
    ...(link.mtu !== wanted.mtu && { mtu: wanted.mtu }),
    ...(wanted.arp !== undefined && link.arp !== wanted.arp && { arp: wanted.arp }),
    ...(!link.up && { up: true }),
  };
  if (Object.keys(differs).length) changeLink(netlink, link.index, differs);
}

/** The internal IPs and no other of ours: a node that was given another pod CIDR changes them. */
function ensureAddresses(netlink: Netlink, ifindex: number, internalIps: readonly string[]): void {
  const wanted = new Set(internalIps.map(hostPrefix));
  const present = listAddresses(netlink, ifindex)
    .filter(each => !isIPv6(each.address) || each.scope !== 'link')
    .map(each => `${each.address}/${each.prefixLength}`);
  // Of link scope (which IPv6 does not know): never the source of what leaves by another device.
  for (const prefix of wanted) if (!present.includes(prefix)) addAddress(netlink, ifindex, prefix, 'link');
  for (const prefix of present) if (!wanted.has(prefix)) deleteAddress(netlink, ifindex, prefix);
}

/** Forwarding on; reverse path filters such that they cannot drop what the tunnel and services bring. */
function nodeSysctls(netlink: Netlink, uplinks: readonly Uplink[], ipv6: boolean): string[] {
  writeSysctl('net/ipv4/ip_forward', 1);
  if (ipv6) forwardIpv6(uplinks);
  loosenReversePathFilter(netlink);
  return uplinks.flatMap(({ name }) =>
    readSysctl(`net/ipv4/conf/${name}/rp_filter`) === '1'
      ? [
          `net.ipv4.conf.${name}.rp_filter is 1: replies that leave by another device than they came in are dropped; 0 or 2 is safe`,
        ]
      : [],
  );
}

/** A machine that forwards listens to routers only where that is said twice: one that got its routes so keeps them. */
function forwardIpv6(uplinks: readonly Uplink[]): void {
  for (const { name } of uplinks)
    if (readSysctl(`net/ipv6/conf/${name}/accept_ra`) === '1')
      writeSysctl(`net/ipv6/conf/${name}/accept_ra`, 2);
  if (readSysctl('net/ipv6/conf/all/forwarding') !== '1') writeSysctl('net/ipv6/conf/all/forwarding', 1);
}

/**
 * The kernel filters by the larger of `all` and the device's own value, so `all` has to be 0 for our devices
 * to be 0. Every other device keeps what it had by getting the old value of `all` itself.
 */
function loosenReversePathFilter(netlink: Netlink): void {
  const all = Number(readSysctl('net/ipv4/conf/all/rp_filter'));
  if (all === 0) return;
  for (const link of listLinks(netlink)) {
    if ([HOST_DEVICE, NET_DEVICE, VXLAN_DEVICE].includes(link.name) || /^ist[0-9a-f]{11}$/.test(link.name))
      continue;
    const parameter = `net/ipv4/conf/${link.name}/rp_filter`;
    if (Number(readSysctl(parameter)) < all) writeSysctl(parameter, all);
  }
  writeSysctl('net/ipv4/conf/all/rp_filter', 0);
}

function get(netlink: Netlink, name: string): Link {
  const link = linkByName(netlink, name);
  if (!link) throw new Error(`device ${name} went away while it was set up`);
  return link;
}

/** A kernel without IPv6 lacks its parameters, and needs none. */
function withoutIpv6(work: () => void): void {
  try {
    work();
  } catch (error) {
    const cause = error instanceof Error ? error.cause : undefined;
    if (!(cause instanceof Error && 'code' in cause && cause.code === 'ENOENT')) throw error;
  }
}
