/** IP and MAC addresses as netlink carries them: 4 or 16 bytes for IP, 6 for MAC. Pure. */
import { isIPv4, isIPv6 } from 'node:net';
import { AF_INET, AF_INET6 } from './socket-numbers.ts';

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

export const familyOf = (address: string): typeof AF_INET | typeof AF_INET6 =>
  isIPv4(address) ? AF_INET : AF_INET6;

/** '10.1.0.0/16' → its address and length; an address alone is a whole-length prefix. */
export function splitPrefix(prefix: string): { readonly address: string; readonly length: number } {
  const [address = '', length] = prefix.split('/');
  const most = isIPv4(address) ? 32 : isIPv6(address) ? 128 : -1;
  const bits = length === undefined ? most : /^\d{1,3}$/.test(length) ? Number(length) : -1;
  if (most < 0 || bits < 0 || bits > most) throw new Error(`not an IP prefix: ${JSON.stringify(prefix)}`);
  return { address, length: bits };
}

/** '0a:58:0a:01:00:05' → 6 bytes. */
export function macBytes(mac: string): Buffer {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(mac))
    throw new Error(`not a MAC address: ${JSON.stringify(mac)}`);
  return Buffer.from(mac.replaceAll(':', ''), 'hex');
}

export const macText = (bytes: Uint8Array): string =>
  Array.from(bytes, each => each.toString(16).padStart(2, '0')).join(':');
