import { canonicalPrefix } from '../api/prefix.ts';

/** A pod range and whose it is. */
export interface ClaimedRange {
  readonly cluster: string;
  readonly node: string;
  readonly cidr: string;
}

/**
 * Pairs of ranges of different clusters that overlap: packets to these addresses go to one of them only.
 * Each pair of clusters is named once, with its first overlap. There may be tens of thousands of ranges: `pause` is
 * called after each, and its promise awaited, if any.
 */
export async function findOverlaps(
  ranges: Iterable<ClaimedRange>,
  pause: () => Promise<void> | undefined = () => undefined,
): Promise<{ readonly a: ClaimedRange; readonly b: ClaimedRange }[]> {
  /** By length and family, then by prefix: of two ranges that overlap one is inside the other. */
  const known = new Map<string, Map<string, ClaimedRange[]>>();
  const all: ClaimedRange[] = [];
  for (const range of ranges) {
    const wait = pause();
    if (wait) await wait;
    const prefix = canonicalPrefix(range.cidr);
    if (prefix === undefined) continue;
    const name = sizeOf(prefix, lengthOf(prefix));
    const ofSize = known.get(name) ?? new Map<string, ClaimedRange[]>();
    known.set(name, ofSize);
    const same = ofSize.get(prefix);
    if (same) same.push(range);
    else ofSize.set(prefix, [range]);
    all.push(range);
  }
  const found = new Map<string, { a: ClaimedRange; b: ClaimedRange }>();
  for (const range of all) {
    const wait = pause();
    if (wait) await wait;
    const prefix = canonicalPrefix(range.cidr)!;
    const address = prefix.slice(0, prefix.indexOf('/'));
    for (const [size, ofSize] of known) {
      const length = Number(size.slice(1));
      if (length > lengthOf(prefix) || size !== sizeOf(prefix, length)) continue;
      for (const other of ofSize.get(canonicalPrefix(`${address}/${length}`)!) ?? []) {
        if (other.cluster === range.cluster) continue;
        const [a, b] = range.cluster < other.cluster ? [range, other] : [other, range];
        const pair = `${a.cluster} ${b.cluster}`;
        if (!found.has(pair)) found.set(pair, { a, b });
      }
    }
  }
  return [...found.values()];
}

const lengthOf = (prefix: string): number => Number(prefix.slice(prefix.indexOf('/') + 1));
const sizeOf = (prefix: string, length: number): string => `${prefix.includes(':') ? 6 : 4}${length}`;
