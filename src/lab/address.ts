/** IPv4 addresses and prefixes as numbers: what planning needs, nothing more. */

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

/** The nth address of a prefix, counted from 0 (the network address). */
export function nthAddress(prefix: string, n: number): string {
  const parsed = parseIPv4Prefix(prefix);
  if (parsed === undefined) throw new TypeError(`not an IPv4 prefix: ${prefix}`);
  return formatIPv4(parsed.first + n);
}
