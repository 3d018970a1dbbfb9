/** Tells a link that an address has moved here. */

import { addressBytes } from '../api/ip-address.ts';
import { checksum, pseudoHeader } from './internet-checksum.ts';
import { bind, close, errno, SystemCallError, send, setsockopt, socket } from './libc.ts';
import { macBytes } from './netlink-address.ts';
import { AF_INET6, AF_PACKET, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_RAW } from './socket-numbers.ts';

const ETH_P_ARP = 0x0806;
const ETH_P_IPV6 = 0x86dd;
const BROADCAST = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
const ICMPV6 = 58;
const IPPROTO_IPV6 = 41;
const IPV6_JOIN_GROUP = 20;
/** ff02::1, and the frame address of that group (RFC 2464, 7). */
const ALL_NODES = Uint8Array.of(0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC = [0x33, 0x33, 0, 0, 0, 1];

/** A frame, and the Ethernet protocol that a packet socket has to be told. */
export interface Announcement {
  readonly protocol: number;
  readonly frame: Buffer;
}

/** Whoever has the address in its neighbour table puts this MAC there. */
export function announcementOf(address: string, mac: string): Announcement {
  const bytes = addressBytes(address);
  return bytes.length === 4
    ? { protocol: ETH_P_ARP, frame: arpAnnouncement(bytes, macBytes(mac)) }
    : { protocol: ETH_P_IPV6, frame: neighbourAnnouncement(bytes, macBytes(mac)) };
}

/** An ARP announcement (RFC 5227, 3): a question for one's own address. */
function arpAnnouncement(ip: Uint8Array, mac: Uint8Array): Buffer {
  const head = Buffer.from([...BROADCAST, ...mac, 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
  return Buffer.concat([head, mac, ip, Buffer.alloc(6), ip]);
}

/** An advertisement that nobody asked for (RFC 4861, 7.2.6), to override what is known. */
function neighbourAnnouncement(ip: Uint8Array, mac: Uint8Array): Buffer {
  const message = Buffer.from([136, 0, 0, 0, 0x20, 0, 0, 0, ...ip, 2, 1, ...mac]);
  message.writeUInt16BE(checksum(pseudoHeader(ip, ALL_NODES, ICMPV6, message.length), message), 2);
  const frame = Buffer.from([...ALL_NODES_MAC, ...mac, 0x86, 0xdd]);
  const header = Buffer.from([0x60, 0, 0, 0, 0, message.length, ICMPV6, 255, ...ip, ...ALL_NODES]);
  return Buffer.concat([frame, header, message]);
}

/**
 * Makes a device let through the questions for an IPv6 address that it does not have: they go to a multicast group
 * (RFC 4291, 2.7.1) which network cards and snooping switches filter. Disposing leaves it. Throws SystemCallError.
 */
export function joinSolicitedNodeGroup(address: string, ifindex: number): Disposable {
  const fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) throw new SystemCallError('open socket of IPv6', errno());
  // struct ipv6_mreq
  const request = Buffer.alloc(20);
  request.set([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, ...addressBytes(address).subarray(13)]);
  request.writeUInt32LE(ifindex, 16);
  if (setsockopt(fd, IPPROTO_IPV6, IPV6_JOIN_GROUP, request, request.length) < 0) {
    const failed = errno();
    close(fd);
    throw new SystemCallError(`join the group of ${address} on device ${ifindex}`, failed);
  }
  return { [Symbol.dispose]: () => void close(fd) };
}

/** Sends a whole frame of an Ethernet protocol on a device. Needs CAP_NET_RAW. Throws SystemCallError, e.g. ENETDOWN. */
export function sendFrame(ifindex: number, frame: Uint8Array, protocol: number): void {
  // Of protocol 0: it receives nothing.
  const fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (fd < 0) throw new SystemCallError('open packet socket', errno());
  try {
    // struct sockaddr_ll: family, protocol (network order), ifindex; the rest is for receivers.
    const address = Buffer.alloc(20);
    address.writeUInt16LE(AF_PACKET, 0);
    address.writeUInt16BE(protocol, 2);
    address.writeInt32LE(ifindex, 4);
    if (bind(fd, address, address.length) < 0)
      throw new SystemCallError(`bind packet socket to device ${ifindex}`, errno());
    if (send(fd, frame, frame.length, 0) < 0) throw new SystemCallError(`send on device ${ifindex}`, errno());
  } finally {
    close(fd);
  }
}
