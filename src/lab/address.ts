/** Addresses and prefixes as numbers: what planning needs, nothing more. */
import { formatIp, parseCidr } from '../api/ip-address.ts';

/** `10.1.2.3` → number. Undefined when it is no IPv4 address. */
export function parseIPv4(text: string): number | undefined {
  const parts = text.split('.');
  if (parts.length !== 4 || parts.some(part => !/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255))
    return undefined;
  return parts.reduce((sum, part) => sum * 256 + Number(part), 0);
}

export function formatIPv4(address: number): string {
  return [24, 16, 8, 0].map(shift => Math.floor(address / 2 ** shift) % 256).join('.');
}

export interface IPv4Prefix {
  readonly first: number;
  readonly length: number;
}

/** `10.1.0.0/16`; an address alone is a /32. */
export function parseIPv4Prefix(text: string): IPv4Prefix | undefined {
  const [address, length, ...rest] = text.split('/');
  const bits = length === undefined ? 32 : /^\d{1,2}$/.test(length) ? Number(length) : 33;
  const value = parseIPv4(address ?? '');
  if (value === undefined || bits > 32 || rest.length > 0) return undefined;
  const size = 2 ** (32 - bits);
  return { first: Math.floor(value / size) * size, length: bits };
}

export function isIPv4Prefix(text: string): boolean {
  return text.includes('/') && parseIPv4Prefix(text) !== undefined;
}

export function overlap(a: IPv4Prefix, b: IPv4Prefix): boolean {
  return a.first < b.first + 2 ** (32 - b.length) && b.first < a.first + 2 ** (32 - a.length);
}

export function isIPv6Prefix(text: string): boolean {
  return text.includes('/') && parseCidr(text)?.first.family === 6;
}

/** The nth address of a prefix of either family, counted from 0 (the network address). */
export function nthAddress(prefix: string, n: number): string {
  const parsed = parseCidr(prefix);
  if (parsed === undefined) throw new TypeError(`not a prefix: ${prefix}`);
  return formatIp({ ...parsed.first, value: parsed.first.value + BigInt(n) });
}

/** `[fd00::1]:80`, `10.0.0.1:80`: an address in a URL. */
export const withPort = (address: string, port: number): string =>
  `${address.includes(':') ? `[${address}]` : address}:${port}`;
