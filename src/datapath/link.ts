/** Network devices: list, find, create, change, delete, by RTM_*LINK (linux/if_link.h). */
import { failedWith, type Netlink } from './netlink.ts';
import { macBytes, macText } from './netlink-address.ts';
import {
  attribute,
  be16,
  decodeAttributes,
  decodeText,
  NLM_F_CREATE,
  NLM_F_EXCL,
  nested,
  text,
  u8,
  u32,
} from './netlink-message.ts';

export const RTM_NEWLINK = 16;
export const RTM_DELLINK = 17;
const RTM_GETLINK = 18;

const IFF_UP = 0x1;
const IFF_LOOPBACK = 0x8;
const IFF_NOARP = 0x80;
const IFF_LOWER_UP = 0x10000;

const IFLA_ADDRESS = 1;
const IFLA_IFNAME = 3;
const IFLA_MTU = 4;
const IFLA_LINK = 5;
const IFLA_MASTER = 10;
const IFLA_LINKINFO = 18;
const IFLA_IFALIAS = 20;
const IFLA_EXT_MASK = 29;
const IFLA_GSO_MAX_SIZE = 41;
const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const VETH_INFO_PEER = 1;
const IFLA_VXLAN_ID = 1;
const IFLA_VXLAN_LEARNING = 7;
const IFLA_VXLAN_PORT = 15;
const IFLA_VXLAN_UDP_CSUM = 18;
const IFLA_VXLAN_UDP_ZERO_CSUM6_TX = 19;
const IFLA_VXLAN_UDP_ZERO_CSUM6_RX = 20;
const IFLA_VXLAN_COLLECT_METADATA = 25;
const RTEXT_FILTER_SKIP_STATS = 1 << 3;

export interface Link {
  readonly index: number;
  readonly name: string;
  /** 'veth', 'vxlan', 'bridge' …; '' for a physical or loopback device. */
  readonly kind: string;
  readonly mac: string;
  readonly mtu: number;
  readonly up: boolean;
  /** The carrier is there (LOWER_UP). */
  readonly carrier: boolean;
  readonly loopback: boolean;
  /** False where the device resolves no neighbours (NOARP). */
  readonly arp: boolean;
  /** Text left on the device for the administrator; '' when none. */
  readonly alias: string;
  /** ifindex of the bridge or bond it belongs to; 0 when none. */
  readonly master: number;
  /** ifindex of the other end of a veth, or of the device below; 0 when none. */
  readonly peer: number;
  readonly vxlan?: {
    readonly port: number;
    readonly collectMetadata: boolean;
    readonly udpChecksum: boolean;
  };
}

/** All devices of the namespace. */
export const listLinks = (netlink: Netlink): Link[] =>
  netlink.dump('list links', RTM_GETLINK, Buffer.concat([header(), skipStatistics()])).map(decodeLink);

/** The device of this name, or undefined. */
export const linkByName = (netlink: Netlink, name: string): Link | undefined =>
  find(netlink, `get link ${name}`, Buffer.concat([header(), text(IFLA_IFNAME, name), skipStatistics()]));

/** The device with this ifindex, or undefined. */
export const linkByIndex = (netlink: Netlink, index: number): Link | undefined =>
  find(netlink, `get link ${index}`, Buffer.concat([header(index), skipStatistics()]));

export interface VethOptions {
  readonly name: string;
  readonly peer: string;
  readonly mac?: string;
  readonly peerMac?: string;
  readonly mtu?: number;
}

/** Creates both ends of a veth pair in the socket's namespace, down. Throws EEXIST if a name is taken. */
export function createVeth(netlink: Netlink, options: VethOptions): void {
  const end = (name: string, mac: string | undefined): Buffer[] => [
    text(IFLA_IFNAME, name),
    ...(mac ? [attribute(IFLA_ADDRESS, macBytes(mac))] : []),
    ...(options.mtu ? [u32(IFLA_MTU, options.mtu)] : []),
  ];
  const peer = Buffer.concat([header(), ...end(options.peer, options.peerMac)]);
  create(netlink, options.name, 'veth', end(options.name, options.mac), [attribute(VETH_INFO_PEER, peer)]);
}

export interface VxlanOptions {
  readonly name: string;
  /** UDP destination port, 8472 in this field's practice (IANA's is 4789). */
  readonly port: number;
  readonly mtu?: number;
  readonly mac?: string;
  /** Outer UDP checksum over IPv4; off saves work where the inner packets carry their own. Default false. */
  readonly udpChecksum?: boolean;
}

/** Creates a VXLAN device in external mode: VNI and remote come from each packet's metadata, not the device. */
export function createVxlan(netlink: Netlink, options: VxlanOptions): void {
  create(
    netlink,
    options.name,
    'vxlan',
    [
      text(IFLA_IFNAME, options.name),
      ...(options.mac ? [attribute(IFLA_ADDRESS, macBytes(options.mac))] : []),
      ...(options.mtu ? [u32(IFLA_MTU, options.mtu)] : []),
    ],
    [
      u32(IFLA_VXLAN_ID, 0),
      u8(IFLA_VXLAN_COLLECT_METADATA, 1),
      u8(IFLA_VXLAN_LEARNING, 0),
      be16(IFLA_VXLAN_PORT, options.port),
      u8(IFLA_VXLAN_UDP_CSUM, options.udpChecksum ? 1 : 0),
      u8(IFLA_VXLAN_UDP_ZERO_CSUM6_TX, options.udpChecksum ? 0 : 1),
      u8(IFLA_VXLAN_UDP_ZERO_CSUM6_RX, 1),
    ],
  );
}

/** Deletes a device and, for a veth, its other end. False if there was none. */
export function deleteLink(netlink: Netlink, link: string | number): boolean {
  const body = typeof link === 'number' ? header(link) : Buffer.concat([header(), text(IFLA_IFNAME, link)]);
  try {
    netlink.request(`delete link ${link}`, RTM_DELLINK, 0, body);
    return true;
  } catch (error) {
    if (failedWith(error, 'ENODEV')) return false;
    throw error;
  }
}

export interface LinkChange {
  readonly up?: boolean;
  /** False: frames to any address go out to the device's own MAC, and nothing is asked for. */
  readonly arp?: boolean;
  readonly mtu?: number;
  readonly mac?: string;
  readonly alias?: string;
  readonly name?: string;
  /** Largest packet before segmentation, in bytes. */
  readonly gsoMaxSize?: number;
}

/** Changes what is given and leaves the rest. Renaming needs the device down on older kernels. */
export function changeLink(netlink: Netlink, index: number, change: LinkChange): void {
  const mask = (change.up === undefined ? 0 : IFF_UP) | (change.arp === undefined ? 0 : IFF_NOARP);
  const flags = header(index, (change.up ? IFF_UP : 0) | (change.arp === false ? IFF_NOARP : 0), mask);
  netlink.request(
    `change link ${index} (${JSON.stringify(change)})`,
    RTM_NEWLINK,
    0,
    Buffer.concat([
      flags,
      ...(change.name !== undefined ? [text(IFLA_IFNAME, change.name)] : []),
      ...(change.mtu !== undefined ? [u32(IFLA_MTU, change.mtu)] : []),
      ...(change.mac !== undefined ? [attribute(IFLA_ADDRESS, macBytes(change.mac))] : []),
      ...(change.alias !== undefined ? [attribute(IFLA_IFALIAS, Buffer.from(change.alias))] : []),
      ...(change.gsoMaxSize !== undefined ? [u32(IFLA_GSO_MAX_SIZE, change.gsoMaxSize)] : []),
    ]),
  );
}

/** A RTM_NEWLINK or RTM_DELLINK message's body as a row. */
export function decodeLink(body: Buffer): Link {
  const attributes = decodeAttributes(body.subarray(16));
  const flags = body.readUInt32LE(8);
  const number = (type: number): number => attributes.get(type)?.readUInt32LE(0) ?? 0;
  const words = (type: number): string => {
    const payload = attributes.get(type);
    return payload ? decodeText(payload) : '';
  };
  const info = decodeAttributes(attributes.get(IFLA_LINKINFO) ?? Buffer.alloc(0));
  const kind = decodeText(info.get(IFLA_INFO_KIND) ?? Buffer.alloc(0));
  const data = info.get(IFLA_INFO_DATA);
  const link: Link = {
    index: body.readInt32LE(4),
    name: words(IFLA_IFNAME),
    kind,
    mac: macText(attributes.get(IFLA_ADDRESS) ?? Buffer.alloc(0)),
    mtu: number(IFLA_MTU),
    up: (flags & IFF_UP) !== 0,
    carrier: (flags & IFF_LOWER_UP) !== 0,
    loopback: (flags & IFF_LOOPBACK) !== 0,
    arp: (flags & IFF_NOARP) === 0,
    alias: words(IFLA_IFALIAS),
    master: number(IFLA_MASTER),
    peer: number(IFLA_LINK),
  };
  return kind === 'vxlan' && data ? { ...link, vxlan: decodeVxlan(data) } : link;
}

function decodeVxlan(data: Buffer): NonNullable<Link['vxlan']> {
  const attributes = decodeAttributes(data);
  return {
    port: attributes.get(IFLA_VXLAN_PORT)?.readUInt16BE(0) ?? 0,
    collectMetadata: attributes.get(IFLA_VXLAN_COLLECT_METADATA)?.[0] === 1,
    udpChecksum: attributes.get(IFLA_VXLAN_UDP_CSUM)?.[0] === 1,
  };
}

function create(
  netlink: Netlink,
  name: string,
  kind: string,
  attributes: readonly Uint8Array[],
  data: readonly Uint8Array[],
): void {
  netlink.request(
    `create ${kind} ${name}`,
    RTM_NEWLINK,
    NLM_F_CREATE | NLM_F_EXCL,
    Buffer.concat([
      header(),
      ...attributes,
      nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, kind), nested(IFLA_INFO_DATA, ...data)),
    ]),
  );
}

function find(netlink: Netlink, what: string, body: Uint8Array): Link | undefined {
  try {
    return decodeLink(netlink.get(what, RTM_GETLINK, body));
  } catch (error) {
    if (failedWith(error, 'ENODEV')) return undefined;
    throw error;
  }
}

/** struct ifinfomsg. */
function header(index = 0, flags = 0, mask = 0): Buffer {
  const out = Buffer.alloc(16);
  out.writeInt32LE(index, 4);
  out.writeUInt32LE(flags, 8);
  out.writeUInt32LE(mask, 12);
  return out;
}

const skipStatistics = (): Buffer => u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
