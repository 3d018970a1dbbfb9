/** Tells a link that an address has moved here. */
import { bind, close, errno, SystemCallError, send, socket } from './libc.ts';
import { addressBytes, macBytes } from './netlink-address.ts';

const AF_PACKET = 17;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const ETH_P_ARP = 0x0806;
const BROADCAST = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff];

/**
 * An ARP announcement (RFC 5227, 3): a question for one's own address. Whoever has the address in its
 * neighbour table puts the new MAC there.
 */
export function arpAnnouncement(address: string, mac: string): Buffer {
  const ip = addressBytes(address);
  if (ip.length !== 4) throw new Error(`ARP is for IPv4, found ${address}`);
  const source = macBytes(mac);
  const head = Buffer.from([...BROADCAST, ...source, 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
  return Buffer.concat([head, source, ip, Buffer.alloc(6), ip]);
}

/** Sends a whole frame of an Ethernet protocol on a device. Needs CAP_NET_RAW. Throws SystemCallError, e.g. ENETDOWN. */
export function sendFrame(ifindex: number, frame: Uint8Array, protocol = ETH_P_ARP): void {
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
