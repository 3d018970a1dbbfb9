/** The devices that join this node to other machines: found by the routing table, or named. */

import { type Link, listLinks } from '../datapath/link.ts';
import { type LinkAddress, listAddresses } from '../datapath/link-address.ts';
import type { Netlink } from '../datapath/netlink.ts';
import { listRoutes, type Route, routeTo, TABLE_MAIN } from '../datapath/route.ts';
import { isHostInterfaceName } from './endpoint.ts';

export interface Uplink {
  readonly name: string;
  readonly ifindex: number;
  readonly mac: string;
  /** Bytes. */
  readonly mtu: number;
  /** Addresses of the device, those of link scope left out, the primary ones first. */
  readonly addresses: readonly string[];
}

export interface UplinkOptions {
  /** Names as the `devices` setting has them; a trailing '+' stands for any ending. Empty: found. */
  readonly devices: readonly string[];
  /** The node's address as Kubernetes knows it: its device is always one of the uplinks, and the first. */
  readonly nodeIp?: string;
}

/**
 * The node's uplinks: those named, or the devices of its default routes and of its own address. Throws an
 * error that lists the devices there are when none fits.
 */
export function findUplinks(netlink: Netlink, options: UplinkOptions): Uplink[] {
  return chooseUplinks(
    listLinks(netlink),
    listAddresses(netlink),
    listRoutes(netlink, { table: TABLE_MAIN }),
    options,
  );
}

/** The source address of packets to `towards`: the node's IP where Kubernetes gives none. */
export const ownAddressTowards = (netlink: Netlink, towards: string): string | undefined =>
  routeTo(netlink, towards).source;

/** Pure half of `findUplinks`. */
export function chooseUplinks(
  links: readonly Link[],
  addresses: readonly LinkAddress[],
  routes: readonly Route[],
  { devices, nodeIp }: UplinkOptions,
): Uplink[] {
  const holder = nodeIp ? addresses.find(each => each.address === nodeIp)?.ifindex : undefined;
  const routed = new Set(
    routes.filter(each => each.prefix === '0.0.0.0/0' || each.prefix === '::/0').map(each => each.ifindex),
  );
  const candidates = links.filter(link => !link.loopback && !isOwnDevice(link));
  const chosen = candidates.filter(link =>
    devices.length
      ? devices.some(pattern => matches(pattern, link.name))
      : routed.has(link.index) || link.index === holder,
  );
  if (!chosen.length) {
    const there = candidates.map(each => each.name).join(', ') || 'none';
    throw new Error(
      devices.length
        ? `devices: none is named ${devices.join(' or ')}; there are: ${there}`
        : `no uplink found: no default route, and no device has ${nodeIp ?? 'the node’s address'}; devices: ${there}. Set devices`,
    );
  }
  return chosen
    .sort((a, b) => Number(b.index === holder) - Number(a.index === holder) || a.index - b.index)
    .map(link => ({
      name: link.name,
      ifindex: link.index,
      mac: link.mac,
      mtu: link.mtu,
      addresses: addresses
        .filter(each => each.ifindex === link.index && each.scope === 'universe')
        .map(each => each.address),
    }));
}

/** Devices Isthmus makes itself. */
export const isOwnDevice = (link: Link): boolean =>
  /^isthmus_(host|net|vxlan)$/.test(link.name) || (link.kind === 'veth' && isHostInterfaceName(link.name));

const matches = (pattern: string, name: string): boolean =>
  pattern.endsWith('+') ? name.startsWith(pattern.slice(0, -1)) : name === pattern;
