/**
 * The packets that end a connection in the place of a peer which is gone: what the peer's kernel would have said.
 */
import { checksum, isMapped, pseudoHeader } from './internet-checksum.ts';

export interface Ended {
  /** Ethernet addresses: of the socket's side, and of ours. */
  readonly mac: Uint8Array;
  readonly ownMac: Uint8Array;
  /** 16 bytes, IPv4 mapped: the socket's end and the peer's. */
  readonly local: Uint8Array;
  readonly remote: Uint8Array;
  readonly localPort: number;
  readonly remotePort: number;
}

const [TCP, UDP, ICMP, ICMPV6] = [6, 17, 1, 58];
const [ETH_P_IP, ETH_P_IPV6] = [0x0800, 0x86dd];
const [RST, ACK] = [4, 16];

export interface Frame {
  readonly protocol: number;
  readonly bytes: Buffer;
}

/** A reset that answers what the socket has sent, and comes in its place (RFC 9293, 3.10.7). */
export function tcpReset(at: Ended & { readonly receiveNext: number; readonly sendNext: number }): Frame {
  const segment = Buffer.alloc(20);
  segment.writeUInt16BE(at.remotePort, 0);
  segment.writeUInt16BE(at.localPort, 2);
  segment.writeUInt32BE(at.receiveNext, 4);
  segment.writeUInt32BE(at.sendNext, 8);
  segment[12] = 5 << 4;
  segment[13] = RST | ACK;
  segment.writeUInt16BE(checksum(pseudoHeader(at.remote, at.local, TCP, segment.length), segment), 16);
  return frame(at, ip(at.remote, at.local, TCP, segment));
}

/** The port unreachable (RFC 792, RFC 4443) for a datagram the socket has sent: a connected socket is told ECONNREFUSED. */
export function portUnreachable(at: Ended): Frame {
  const datagram = Buffer.alloc(8);
  datagram.writeUInt16BE(at.localPort, 0);
  datagram.writeUInt16BE(at.remotePort, 2);
  datagram.writeUInt16BE(8, 4);
  const v4 = isMapped(at.local);
  const message = Buffer.concat([Buffer.alloc(8), ip(at.local, at.remote, UDP, datagram)]);
  message[0] = v4 ? 3 : 1;
  message[1] = v4 ? 3 : 4;
  const protocol = v4 ? ICMP : ICMPV6;
  const covered = v4 ? [] : [pseudoHeader(at.remote, at.local, protocol, message.length)];
  message.writeUInt16BE(checksum(...covered, message), 2);
  return frame(at, ip(at.remote, at.local, protocol, message));
}

function frame({ mac, ownMac, local }: Ended, packet: Buffer): Frame {
  const protocol = isMapped(local) ? ETH_P_IP : ETH_P_IPV6;
  return { protocol, bytes: Buffer.concat([mac, ownMac, Buffer.of(protocol >> 8, protocol & 0xff), packet]) };
}

function ip(from: Uint8Array, to: Uint8Array, protocol: number, payload: Buffer): Buffer {
  const v4 = isMapped(from);
  const header = Buffer.alloc(v4 ? 20 : 40);
  if (v4) {
    header[0] = 0x45;
    header.writeUInt16BE(20 + payload.length, 2);
    header[8] = 64;
    header[9] = protocol;
    header.set(from.subarray(12), 12);
    header.set(to.subarray(12), 16);
    header.writeUInt16BE(checksum(header), 10);
  } else {
    header[0] = 0x60;
    header.writeUInt16BE(payload.length, 4);
    header[6] = protocol;
    header[7] = 64;
    header.set(from, 8);
    header.set(to, 24);
  }
  return Buffer.concat([header, payload]);
}
