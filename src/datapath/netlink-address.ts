/** IP and MAC addresses as netlink carries them: 4 or 16 bytes for IP, 6 for MAC. Pure. */
import { isIPv4, isIPv6 } from 'node:net';
import { AF_INET, AF_INET6 } from './socket-numbers.ts';

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
