import { isIP, isIPv4 } from 'node:net';

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
  const groups = width === 32 ? address.split('.').map(Number) : groupsOf(address);
  const size = width / groups.length;
  const kept = groups.map((group, at) => {
    const keep = Math.min(size, Math.max(0, length - at * size));
    return group & ~(2 ** (size - keep) - 1);
  });
  return `${width === 32 ? kept.join('.') : shortened(kept)}/${length}`;
}

/** Whether a prefix is one address: '10.1.2.3/32', 'fd00::1/128'. */
export const isHostPrefix = (prefix: string): boolean =>
  prefix.endsWith(prefix.includes(':') ? '/128' : '/32');

/** The prefix of one address: '10.1.2.3' → '10.1.2.3/32'. */
export const hostPrefix = (address: string): string => `${address}/${address.includes(':') ? 128 : 32}`;

/** The eight groups of an IPv6 address. */
function groupsOf(address: string): number[] {
  const dotted = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(address);
  const [a = 0, b = 0, c = 0, d = 0] = dotted?.slice(2).map(Number) ?? [];
  const text = dotted ? `${dotted[1]}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}` : address;
  const [head = '', tail] = text.split('::');
  const read = (part: string): number[] =>
    part === '' ? [] : part.split(':').map(each => Number.parseInt(each, 16));
  const [first, last] = [read(head), read(tail ?? '')];
  return [...first, ...new Array<number>(8 - first.length - last.length).fill(0), ...last];
}

/** RFC 5952: the longest run of zeros, the first of equals, becomes `::`. */
function shortened(groups: readonly number[]): string {
  let [at, best] = [-1, 1];
  for (let from = 0; from < 8; from++) {
    let run = 0;
    while (groups[from + run] === 0) run++;
    if (run > best) [at, best] = [from, run];
  }
  const hex = (part: readonly number[]): string => part.map(each => each.toString(16)).join(':');
  return at < 0 ? hex(groups) : `${hex(groups.slice(0, at))}::${hex(groups.slice(at + best))}`;
}
