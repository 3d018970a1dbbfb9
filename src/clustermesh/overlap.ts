import { parsePrefix } from '../datapath/address.ts';

/** A pod range and whose it is. */
export interface ClaimedRange {
  readonly cluster: string;
  readonly node: string;
  readonly cidr: string;
}

/**
 * Pairs of ranges of different clusters that overlap: packets to these addresses go to one of them only.
 * Each pair of clusters is named once, with its first overlap. Pure.
 */
export function findOverlaps(
  ranges: Iterable<ClaimedRange>,
): { readonly a: ClaimedRange; readonly b: ClaimedRange }[] {
  const bounded = [...ranges].flatMap(range => {
    const bounds = boundsOf(range.cidr);
    return bounds ? [{ range, ...bounds }] : [];
  });
  // IPv4 has numbers that sort quickly, and there may be tens of thousands of ranges.
  const ipv6 = bounded.filter(each => typeof each.first === 'bigint');
  const ipv4 = bounded.filter(each => typeof each.first === 'number');
  const sorted = [ipv4, ipv6].flatMap(family =>
    family.sort((x, y) => (x.first < y.first ? -1 : x.first > y.first ? 1 : 0)),
  );
  const found = new Map<string, { a: ClaimedRange; b: ClaimedRange }>();
  let open: typeof sorted = [];
  for (const each of sorted) {
    open = open.filter(other => typeof other.last === typeof each.first && other.last >= each.first);
    for (const other of open) {
      if (other.range.cluster === each.range.cluster) continue;
      const [a, b] = [other.range, each.range].sort((x, y) => (x.cluster < y.cluster ? -1 : 1)) as [
        ClaimedRange,
        ClaimedRange,
      ];
      const pair = `${a.cluster} ${b.cluster}`;
      if (!found.has(pair)) found.set(pair, { a, b });
    }
    open.push(each);
  }
  return [...found.values()];
}

interface Bounds {
  readonly first: number | bigint;
  readonly last: number | bigint;
}

/** The first and the last address: a number of IPv4, a bigint of IPv6; undefined for what is no prefix. */
function boundsOf(cidr: string): Bounds | undefined {
  try {
    const { addr, length } = parsePrefix(cidr);
    const bytes = Buffer.from(addr);
    if (!cidr.includes(':')) {
      const first = bytes.readUInt32BE(12);
      return { first, last: first + 2 ** (128 - length) - 1 };
    }
    const first = BigInt(`0x${bytes.toString('hex')}`);
    return { first, last: first | ((1n << BigInt(128 - length)) - 1n) };
  } catch {
    return undefined;
  }
}
