import { isIPv4 } from 'node:net';
import { addressBytes, addressText } from '../api/ip-address.ts';

/** A prefix as the maps carry it: `length` counts bits of the 16-byte address (10.0.0.0/8 has 104). */
export interface Prefix {
  readonly addr: Uint8Array;
  readonly length: number;
}

const MAPPED = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/** Text to the 16 bytes of `struct addr`: IPv4 as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2). Throws on anything else. */
export function parse(text: string): Uint8Array {
  const addr = new Uint8Array(16);
  if (!isIPv4(text)) {
    addr.set(addressBytes(text));
    return addr;
  }
  addr[10] = addr[11] = 0xff;
  // Digit by digit: every address of every cluster comes this way, and lists of texts of numbers take five times as long.
  let part = 12;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === 46 /* dot */) part++;
    else addr[part] = addr[part]! * 10 + code - 48;
  }
  return addr;
}

/** The text of 16 bytes: a mapped IPv4 address in its dotted form. */
export function format(addr: Uint8Array): string {
  for (let at = 0; at < MAPPED.length; at++) if (addr[at] !== MAPPED[at]) return addressText(addr);
  return `${addr[12]}.${addr[13]}.${addr[14]}.${addr[15]}`;
}

/** '10.1.0.0/24', 'fd00::/64' or a bare address. Bits beyond the length are cleared. */
export function parsePrefix(text: string): Prefix {
  const slash = text.indexOf('/');
  const bits = slash < 0 ? undefined : text.slice(slash + 1);
  const addr = parse(slash < 0 ? text : text.slice(0, slash));
  const width = text.includes(':') ? 128 : 32;
  const length = bits === undefined ? width : Number(bits);
  if (bits === '' || !Number.isInteger(length) || length < 0 || length > width)
    throw new Error(`not a prefix: ${JSON.stringify(text)}`);
  const total = length + 128 - width;
  if (total === 128) return { addr, length: total };
  for (let at = 0; at < 16; at++) {
    const keep = Math.min(8, Math.max(0, total - at * 8));
    addr[at] = addr[at]! & (0xff << (8 - keep));
  }
  return { addr, length: total };
}

/** Whether an address of 16 bytes is in a prefix. */
export function contains(prefix: Prefix, addr: Uint8Array): boolean {
  for (let at = 0; at < 16; at++) {
    const mask = 0xff << (8 - Math.min(8, Math.max(0, prefix.length - at * 8)));
    if ((prefix.addr[at]! ^ addr[at]!) & mask & 0xff) return false;
  }
  return true;
}

/** The text of a prefix; a whole address keeps its length ('10.1.0.9/32'). */
export function formatPrefix(prefix: Prefix): string {
  const text = format(prefix.addr);
  return `${text}/${text.includes(':') ? prefix.length : prefix.length - 96}`;
}
