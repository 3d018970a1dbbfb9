import { canonicalPrefix, isHostPrefix } from '../api/prefix.ts';
import { sharedText, text, texts } from '../table/columns.ts';
import { derive, input } from '../table/derive.ts';
import { packed } from '../table/packed-rows.ts';
import type { ReadonlyTable } from '../table/table.ts';

/** A range of pod addresses, and whose it is. */
export interface PodRange {
  /** Canonical. */
  readonly prefix: string;
  /** Names of the clusters with a node that has it, sorted: one, unless somebody chose wrongly. */
  readonly clusters: readonly string[];
}

interface NodeRanges {
  readonly node: string;
  readonly cluster: string;
  readonly ranges: readonly string[];
}

/** The pod ranges of nodes, a row each. */
export function derivePodRanges<Node extends { readonly podCidrs: readonly string[] }>(
  name: string,
  nodes: ReadonlyTable<Node>,
  clusterOf: (node: Node) => string,
): ReadonlyTable<PodRange> {
  // Nodes change all the time, their ranges hardly ever.
  const holders = derive<NodeRanges>({
    name: `${name}-holders`,
    keyOf: row => row.node,
    rowPerGroup: true,
    equal: (a, b) => a.cluster === b.cluster && a.ranges.join() === b.ranges.join(),
    indexes: { range: row => row.ranges },
    rows: packed<NodeRanges>({ node: text, cluster: sharedText, ranges: texts }),
    inputs: [input(nodes, (_row, { key }) => [key])],
    compute(key) {
      const node = nodes.get(key);
      const ranges = node?.podCidrs.flatMap(each => canonicalPrefix(each) ?? []) ?? [];
      return node ? [{ node: key, cluster: clusterOf(node), ranges }] : [];
    },
  });
  return derive<PodRange>({
    name,
    keyOf: row => row.prefix,
    rowPerGroup: true,
    equal: (a, b) => a.clusters.join() === b.clusters.join(),
    inputs: [input(holders, row => row.ranges)],
    compute(prefix) {
      const clusters = new Set<string>();
      for (const { cluster } of holders.by('range', prefix)) clusters.add(cluster);
      return clusters.size ? [{ prefix, clusters: [...clusters].sort() }] : [];
    },
  });
}

/** Finds the ranges around an address, in as many looks as ranges have lengths. */
export class PodRangeLookup {
  readonly #ranges: ReadonlyTable<PodRange>;
  /** Of each family, longest first. */
  readonly #lengths: { readonly ipv4: number[]; readonly ipv6: number[] } = { ipv4: [], ipv6: [] };
  /** IPv4 ranges by length, then by their first address: every address of every cluster is looked up. */
  readonly #ipv4 = new Map<number, Map<number, PodRange>>();

  constructor(ranges: ReadonlyTable<PodRange>) {
    this.#ranges = ranges;
    const learn = (prefix: string, range: PodRange | undefined): void => {
      const length = lengthOf(prefix);
      const known = this.#lengthsFor(prefix);
      if (!known.includes(length)) known.splice(0, known.length, ...[...known, length].sort((a, b) => b - a));
      if (prefix.includes(':')) return;
      const ofLength = this.#ipv4.get(length) ?? new Map<number, PodRange>();
      this.#ipv4.set(length, ofLength);
      if (range) ofLength.set(ipv4Number(prefix), range);
      else ofLength.delete(ipv4Number(prefix));
    };
    ranges.subscribe(({ key, after }) => learn(key, after));
    for (const range of ranges.values()) learn(range.prefix, range);
  }

  /** Every range that holds all of a prefix (canonical, or a bare address), the smallest first. */
  around(prefix: string): readonly PodRange[] {
    const slash = prefix.indexOf('/');
    const ipv6 = prefix.includes(':');
    const own = slash < 0 ? 128 : Number(prefix.slice(slash + 1));
    const address = ipv6 ? 0 : ipv4Number(prefix);
    let ranges: PodRange[] | undefined;
    for (const length of ipv6 ? this.#lengths.ipv6 : this.#lengths.ipv4) {
      if (length > own) continue;
      const found = ipv6
        ? this.#ranges.get(canonicalPrefix(`${slash < 0 ? prefix : prefix.slice(0, slash)}/${length}`) ?? '')
        : this.#ipv4.get(length)?.get(length === 0 ? 0 : (address & (-1 << (32 - length))) >>> 0);
      if (!found) continue;
      if (ranges) ranges.push(found);
      else ranges = [found];
    }
    return ranges ?? none;
  }

  /** Whether any range is inside a prefix, without being all of it. */
  isInside(prefix: string): boolean {
    const length = lengthOf(prefix);
    // Ranges are as long as one another almost everywhere: then there is nothing to look through.
    if (!this.#lengthsFor(prefix).some(each => each > length)) return false;
    for (const { prefix: range } of this.#ranges.values()) {
      if (lengthOf(range) <= length || range.includes(':') !== prefix.includes(':')) continue;
      if (canonicalPrefix(`${range.split('/')[0]}/${length}`) === prefix) return true;
    }
    return false;
  }

  #lengthsFor(prefix: string): number[] {
    return prefix.includes(':') ? this.#lengths.ipv6 : this.#lengths.ipv4;
  }
}

const none: readonly PodRange[] = [];

/** The number of the address that an IPv4 text, with or without a length, begins with. */
function ipv4Number(text: string): number {
  let [number, part] = [0, 0];
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === 47 /* slash */) break;
    if (code === 46 /* dot */) {
      number = number * 256 + part;
      part = 0;
    } else part = part * 10 + code - 48;
  }
  return number * 256 + part;
}

const lengthOf = (prefix: string): number => Number(prefix.slice(prefix.indexOf('/') + 1));

/** An address or prefix that another cluster says is a pod's of it. */
export interface Claim {
  readonly cluster: string;
  /** Canonical. */
  readonly prefix: string;
}

/**
 * Why another cluster's claim of an address is not believed; undefined where it is. A cluster may name addresses
 * inside its own pod ranges, and single ones that are in nobody's: not every cluster gives its nodes ranges.
 */
export function foreignClaim(claim: Claim, own: PodRangeLookup, all: PodRangeLookup): string | undefined {
  for (const { prefix, clusters } of own.around(claim.prefix))
    return `is in the pod range ${prefix} of this cluster (${clusters.join()})`;
  let foreign: PodRange | undefined;
  for (const range of all.around(claim.prefix)) {
    if (range.clusters.includes(claim.cluster)) return undefined;
    foreign ??= range;
  }
  if (foreign) return `is in the pod range ${foreign.prefix} of ${foreign.clusters.join()}`;
  if (!isHostPrefix(claim.prefix)) return 'is a range, and none of its nodes has it';
  return undefined;
}
