import { isIP, isIPv4 } from 'node:net';
import { addressBytes, addressText } from './ip-address.ts';

/**
 * A prefix in the one text that names it: spaces gone, bits beyond the length cleared, IPv6 in lower case and
 * shortened ('10.1.2.3/8' → '10.0.0.0/8'). A bare address is a prefix of its own. Undefined for anything else.
 */
export function canonicalPrefix(text: string): string | undefined {
  // An IPv4 address has one text: with nothing but digits and dots, no zero before another digit.
  if (isIPv4(text)) return `${text}/32`;
  const [address = '', bits, ...rest] = text.trim().split('/');
  const width = isIPv4(address) ? 32 : 128;
  if (isIP(address) === 0 || rest.length || (bits !== undefined && !/^\d{1,3}$/.test(bits))) return undefined;
  const length = bits === undefined ? width : Number(bits);
  if (length > width) return undefined;
  const bytes = addressBytes(address);
  for (const [at, byte] of bytes.entries()) {
    const keep = Math.min(8, Math.max(0, length - at * 8));
    bytes[at] = byte & (0xff << (8 - keep));
  }
  return `${addressText(bytes)}/${length}`;
}

/** Whether a prefix is one address: '10.1.2.3/32', 'fd00::1/128'. */
export const isHostPrefix = (prefix: string): boolean =>
  prefix.endsWith(prefix.includes(':') ? '/128' : '/32');

/** The prefix of one address: '10.1.2.3' → '10.1.2.3/32'. */
export const hostPrefix = (address: string): string => `${address}/${address.includes(':') ? 128 : 32}`;
