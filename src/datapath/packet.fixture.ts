/** Frames by hand, and what is in them. Addresses as text of either family, checksums as RFC 1071 wants them. */
import { addressBytes, addressText } from '../api/ip-address.ts';

export const PROTO = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58, sctp: 132 } as const;
/** Next-header values of extension headers (RFC 8200). */
export const EXTENSION = { hopByHop: 0, routing: 43, fragment: 44, destination: 60 } as const;
export const TCP_FLAG = { fin: 1, syn: 2, rst: 4, ack: 16 } as const;

export interface Ipv4 {
  readonly from: string;
  readonly to: string;
  readonly protocol: number;
  readonly payload: readonly number[];
  readonly id?: number;
  readonly ttl?: number;
  /** Flags and offset as on the wire: 0x2000 more fragments, 0x4000 don't fragment, the rest the offset in 8 bytes. */
  readonly fragment?: number;
}

const u16 = (value: number): number[] => [(value >> 8) & 0xff, value & 0xff];
const u32 = (value: number): number[] => [...u16(value >>> 16), ...u16(value & 0xffff)];
const address = (text: string): number[] => [...addressBytes(text)];
const isIpv6 = (text: string): boolean => text.includes(':');

export function ethernet(type: number, payload: readonly number[]): Uint8Array {
  return Uint8Array.from([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, ...u16(type), ...payload]);
}

export function ipv4({ from, to, protocol, payload, id = 1, ttl = 64, fragment = 0x4000 }: Ipv4): number[] {
  const header = [
    0x45,
    0,
    ...u16(20 + payload.length),
    ...u16(id),
    ...u16(fragment),
    ttl,
    protocol,
    0,
    0,
    ...address(from),
    ...address(to),
  ];
  header.splice(10, 2, ...u16(checksum(header)));
  return [...header, ...payload];
}

export interface Ipv6 {
  readonly from: string;
  readonly to: string;
  /** Of the payload, or of the first extension header in it. */
  readonly next: number;
  readonly payload: readonly number[];
  readonly hops?: number;
}

export function ipv6({ from, to, next, payload, hops = 64 }: Ipv6): number[] {
  return [0x60, 0, 0, 0, ...u16(payload.length), next, hops, ...address(from), ...address(to), ...payload];
}

/** An extension header of 8 bytes: padding, or what `rest` (6 bytes) says. */
export const extension = (next: number, rest: readonly number[] = [1, 4, 0, 0, 0, 0]): number[] => [
  next,
  0,
  ...rest,
];

/** `fragment`: offset in 8 bytes times 8, plus 1 where more follow. */
export const fragmentHeader = (next: number, fragment: number, id: number): number[] => [
  next,
  0,
  ...u16(fragment),
  ...u32(id),
];

/** The packet of either family, without its Ethernet header. */
export function ip(from: string, to: string, protocol: number, payload: readonly number[]): number[] {
  return isIpv6(from) ? ipv6({ from, to, next: protocol, payload }) : ipv4({ from, to, protocol, payload });
}

export const frame = (packet: readonly number[]): Uint8Array =>
  ethernet(packet[0]! >> 4 === 6 ? 0x86dd : 0x0800, packet);

export interface Ports {
  readonly from: string;
  readonly to: string;
  readonly fromPort: number;
  readonly toPort: number;
  readonly data?: readonly number[];
}

export function tcp({
  from,
  to,
  fromPort,
  toPort,
  data = [],
  flags = TCP_FLAG.syn,
  sequence = 1000,
  acknowledge = 0,
}: Ports & {
  readonly flags?: number;
  readonly sequence?: number;
  readonly acknowledge?: number;
}): Uint8Array {
  const segment = [
    ...u16(fromPort),
    ...u16(toPort),
    ...u32(sequence),
    ...u32(acknowledge),
    0x50,
    flags,
    ...u16(65535),
    0,
    0,
    0,
    0,
    ...data,
  ];
  segment.splice(16, 2, ...u16(checksum([...pseudo(from, to, PROTO.tcp, segment.length), ...segment])));
  return frame(ip(from, to, PROTO.tcp, segment));
}

export function udp({ from, to, fromPort, toPort, data = [1, 2, 3, 4] }: Ports): Uint8Array {
  return frame(ip(from, to, PROTO.udp, udpDatagram({ from, to, fromPort, toPort, data })));
}

export function udpDatagram({ from, to, fromPort, toPort, data = [] }: Ports): number[] {
  const datagram = [...u16(fromPort), ...u16(toPort), ...u16(8 + data.length), 0, 0, ...data];
  datagram.splice(6, 2, ...u16(checksum([...pseudo(from, to, PROTO.udp, datagram.length), ...datagram])));
  return datagram;
}

/** ICMP, or ICMPv6 between IPv6 addresses: type, code, and everything behind the checksum. */
export function icmp(
  from: string,
  to: string,
  type: number,
  code: number,
  rest: readonly number[],
): Uint8Array {
  const message = [type, code, 0, 0, ...rest];
  const covered = isIpv6(from) ? [...pseudo(from, to, PROTO.icmpv6, message.length), ...message] : message;
  message.splice(2, 2, ...u16(checksum(covered)));
  return frame(ip(from, to, isIpv6(from) ? PROTO.icmpv6 : PROTO.icmp, message));
}

/** What ICMP and ICMPv6 say with other numbers. */
export const icmpTypes = (
  from: string,
): Readonly<Record<'echo' | 'echoReply' | 'unreachable' | 'portUnreachable' | 'tooBig', number>> =>
  isIpv6(from)
    ? { echo: 128, echoReply: 129, unreachable: 1, portUnreachable: 4, tooBig: 2 }
    : { echo: 8, echoReply: 0, unreachable: 3, portUnreachable: 3, tooBig: 3 };

/** A neighbour solicitation, to the multicast group of the address it asks for (RFC 4861). */
export function neighbourSolicitation(from: string, target: string, hops = 255): Uint8Array {
  const asked = address(target);
  const to = addressText(Uint8Array.of(0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, ...asked.slice(13)));
  const out = icmp(from, to, 135, 0, [0, 0, 0, 0, ...asked, 1, 1, 2, 0, 0, 0, 0, 2]);
  out[14 + 7] = hops;
  return out;
}

export function arpRequest(from: string, to: string): Uint8Array {
  return ethernet(0x0806, [
    0,
    1,
    8,
    0,
    6,
    4,
    0,
    1,
    2,
    0,
    0,
    0,
    0,
    2,
    ...address(from),
    0,
    0,
    0,
    0,
    0,
    0,
    ...address(to),
  ]);
}

/** RFC 9293, 3.1, and RFC 8200, 8.1; the sum is the same in either order of the last two. */
const pseudo = (from: string, to: string, protocol: number, length: number): number[] => [
  ...address(from),
  ...address(to),
  0,
  protocol,
  ...u16(length),
];

export function checksum(bytes: ArrayLike<number>): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}

export interface Seen {
  readonly from: string;
  readonly to: string;
  readonly protocol: number;
  readonly ttl: number;
  /** Of TCP and UDP. */
  readonly fromPort: number;
  readonly toPort: number;
  /** Of TCP. */
  readonly flags: number;
  readonly sequence: number;
  readonly acknowledge: number;
  /** Behind the IP header. */
  readonly payload: Uint8Array;
  /** Which of the packet's checksums are right: IP's, and that of TCP, UDP or ICMP. */
  readonly sound: boolean;
}

/** Reads a frame of either family. */
export function read(frame: Uint8Array): Seen {
  return readIp(frame.subarray(14));
}

/** Reads a packet; one quoted by an ICMP error is cut off, so its own L4 checksum is not looked at. */
export function readIp(packet: Uint8Array, quoted = false): Seen {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
  const v6 = packet[0]! >> 4 === 6;
  const header = v6 ? 40 : (packet[0]! & 0xf) * 4;
  const length = v6 ? 40 + view.getUint16(4) : view.getUint16(2);
  let payload = packet.subarray(header, quoted ? undefined : length);
  let protocol = v6 ? packet[6]! : packet[9]!;
  while (v6 && Object.values<number>(EXTENSION).includes(protocol)) {
    const size = protocol === EXTENSION.fragment ? 8 : 8 + payload[1]! * 8;
    protocol = payload[0]!;
    payload = payload.subarray(size);
  }
  const l4 = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const size = v6 ? 16 : 4;
  const text = (at: number): string => addressText(packet.subarray(at, at + size));
  const [from, to] = v6 ? [text(8), text(24)] : [text(12), text(16)];
  const covered =
    protocol === PROTO.icmp ? payload : [...pseudo(from, to, protocol, payload.length), ...payload];
  const hasTcp = protocol === PROTO.tcp && payload.length >= 20;
  return {
    from,
    to,
    protocol,
    ttl: v6 ? packet[7]! : packet[8]!,
    fromPort: l4.getUint16(0),
    toPort: l4.getUint16(2),
    flags: hasTcp ? payload[13]! : 0,
    sequence: hasTcp ? l4.getUint32(4) : 0,
    acknowledge: hasTcp ? l4.getUint32(8) : 0,
    payload,
    sound: (v6 || checksum(packet.subarray(0, header)) === 0) && (quoted || checksum(covered) === 0),
  };
}
