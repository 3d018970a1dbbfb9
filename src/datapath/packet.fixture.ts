/** Frames by hand, and what is in them. Addresses as dotted text, checksums as RFC 1071 wants them. */

export const PROTO = { icmp: 1, tcp: 6, udp: 17, sctp: 132 } as const;
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
const address = (text: string): number[] => text.split('.').map(Number);

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
  return ethernet(0x0800, ipv4({ from, to, protocol: PROTO.tcp, payload: segment }));
}

export function udp({ from, to, fromPort, toPort, data = [1, 2, 3, 4] }: Ports): Uint8Array {
  return ethernet(
    0x0800,
    ipv4({ from, to, protocol: PROTO.udp, payload: udpDatagram({ from, to, fromPort, toPort, data }) }),
  );
}

export function udpDatagram({ from, to, fromPort, toPort, data = [] }: Ports): number[] {
  const datagram = [...u16(fromPort), ...u16(toPort), ...u16(8 + data.length), 0, 0, ...data];
  datagram.splice(6, 2, ...u16(checksum([...pseudo(from, to, PROTO.udp, datagram.length), ...datagram])));
  return datagram;
}

/** Type, code, and everything behind the checksum. */
export function icmp(
  from: string,
  to: string,
  type: number,
  code: number,
  rest: readonly number[],
): Uint8Array {
  const message = [type, code, 0, 0, ...rest];
  message.splice(2, 2, ...u16(checksum(message)));
  return ethernet(0x0800, ipv4({ from, to, protocol: PROTO.icmp, payload: message }));
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

/** Reads an IPv4 frame. */
export function read(frame: Uint8Array): Seen {
  return readIpv4(frame.subarray(14));
}

/** Reads an IPv4 packet; one quoted by an ICMP error is cut off, so its own L4 checksum is not looked at. */
export function readIpv4(ip: Uint8Array, quoted = false): Seen {
  const view = new DataView(ip.buffer, ip.byteOffset, ip.byteLength);
  const header = (ip[0]! & 0xf) * 4;
  const payload = ip.subarray(header, quoted ? undefined : view.getUint16(2));
  const l4 = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const protocol = ip[9]!;
  const text = (at: number): string => [...ip.subarray(at, at + 4)].join('.');
  const covered =
    protocol === PROTO.icmp ? payload : [...pseudo(text(12), text(16), protocol, payload.length), ...payload];
  const hasTcp = protocol === PROTO.tcp && payload.length >= 20;
  return {
    from: text(12),
    to: text(16),
    protocol,
    ttl: ip[8]!,
    fromPort: l4.getUint16(0),
    toPort: l4.getUint16(2),
    flags: hasTcp ? payload[13]! : 0,
    sequence: hasTcp ? l4.getUint32(4) : 0,
    acknowledge: hasTcp ? l4.getUint32(8) : 0,
    payload,
    sound: checksum(ip.subarray(0, header)) === 0 && (quoted || checksum(covered) === 0),
  };
}
