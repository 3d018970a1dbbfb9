/** IP addresses as bytes, and as numbers: what ranges are counted and compared by. Pure. */
import { isIP, isIPv4, isIPv6 } from 'node:net';

export interface IpAddress {
  readonly family: 4 | 6;
  readonly value: bigint;
}

/** '10.1.0.1' → 4 bytes, 'fd00::1' → 16 bytes. */
export function addressBytes(address: string): Buffer {
  if (isIPv4(address)) return Buffer.from(address.split('.').map(Number));
  if (!isIPv6(address)) throw new Error(`not an IP address: ${JSON.stringify(address)}`);
  const dotted = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(address);
  const whole = dotted
    ? dotted[1] +
      Buffer.from(addressBytes(dotted[2]!)).toString('hex', 0, 2) +
      ':' +
      Buffer.from(addressBytes(dotted[2]!)).toString('hex', 2, 4)
    : address;
  const [head = '', tail] = whole.split('::');
  const groups = (part: string): number[] =>
    part === '' ? [] : part.split(':').map(each => parseInt(each, 16));
  const front = groups(head);
  const back = tail === undefined ? [] : groups(tail);
  const out = Buffer.alloc(16);
  front.forEach((value, at) => void out.writeUInt16BE(value, at * 2));
  back.forEach((value, at) => void out.writeUInt16BE(value, 16 - (back.length - at) * 2));
  return out;
}

/** 4 or 16 bytes → text; IPv6 in the form of RFC 5952. */
export function addressText(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.');
  if (bytes.length !== 16) throw new Error(`not an IP address: ${bytes.length} bytes`);
  const groups = Array.from({ length: 8 }, (_, at) => (bytes[at * 2]! << 8) | bytes[at * 2 + 1]!);
  let best = { start: -1, length: 1 };
  for (let start = 0; start < 8; start++) {
    let end = start;
    while (end < 8 && groups[end] === 0) end++;
    if (end - start > best.length) best = { start, length: end - start };
  }
  const hex = (part: readonly number[]): string => part.map(each => each.toString(16)).join(':');
  if (best.start < 0) return hex(groups);
  return `${hex(groups.slice(0, best.start))}::${hex(groups.slice(best.start + best.length))}`;
}

/** Undefined where the text is no address. A zone (`fe80::1%eth0`) is none. */
export function parseIp(text: string): IpAddress | undefined {
  if (!isIP(text) || text.includes('%')) return undefined;
  const bytes = addressBytes(text);
  return { family: bytes.length === 4 ? 4 : 6, value: BigInt(`0x${bytes.toString('hex')}`) };
}

/** The one text of an address: dotted, or as RFC 5952 wants it. */
export function formatIp({ family, value }: IpAddress): string {
  return addressText(Buffer.from(value.toString(16).padStart(family === 4 ? 8 : 32, '0'), 'hex'));
}

/** First and last address of a prefix such as 192.0.2.0/24; undefined where the text is none. */
export function parseCidr(text: string): { readonly first: IpAddress; readonly last: IpAddress } | undefined {
  const [address = '', length = '', ...rest] = text.split('/');
  const ip = parseIp(address);
  const width = ip?.family === 4 ? 32 : 128;
  if (!ip || rest.length || !/^\d{1,3}$/.test(length) || Number(length) > width) return undefined;
  const host = (1n << BigInt(width - Number(length))) - 1n;
  const first = ip.value & ~host;
  return { first: { family: ip.family, value: first }, last: { family: ip.family, value: first | host } };
}
