/**
 * How the connections of one cluster's clients are divided between the clusters that serve a global service: by order,
 * by weights, by degree as the own backends fail, and by what the others can take. Pure: the same for every node.
 */
import type { Affinity, Failover, Threshold } from '../api/annotations.ts';

/** A cluster as a service sees it. */
export interface ServingCluster {
  readonly name: string;
  /** The one whose clients are asking. */
  readonly own: boolean;
  /** Its label `topology.kubernetes.io/region`; '' where unknown. */
  readonly region: string;
  /** Backends that take new connections. */
  readonly ready: number;
  /** Backends there would be if all were well; of a cluster of Cilium, which tells of no others, what is ready. */
  readonly expected: number;
}

export interface Share {
  readonly cluster: ServingCluster;
  /** Of new connections, 0 to 1; all together 1. */
  readonly share: number;
}

/** True where the annotations ask for more than affinity alone gives. */
export function isGraded(failover: Failover): boolean {
  return (
    failover.order !== undefined ||
    failover.weights !== undefined ||
    failover.minHealthyLocal !== undefined ||
    failover.spillByCapacity === true
  );
}

/**
 * The clusters in groups, the preferred group first. Affinity says where the own cluster stands: `local` first,
 * `remote` last, `none` where the order puts it. Without an order, `local` and `remote` prefer clusters of the own
 * region to those of others. A cluster that the order does not name is in the last group.
 */
export function tiersOf<T extends Pick<ServingCluster, 'name' | 'own' | 'region'>>(
  clusters: readonly T[],
  affinity: Affinity,
  order: readonly string[] | undefined,
): T[][] {
  const free = clusters.filter(each => affinity === 'none' || !each.own);
  const own = clusters.filter(each => affinity !== 'none' && each.own);
  const home = clusters.find(each => each.own)?.region ?? '';
  const named = new Set(order);
  const rank = ({ name, region }: T): number => {
    if (!order) return affinity === 'none' || (home !== '' && region === home) ? 0 : 1;
    const at = named.has(name) ? order.indexOf(name) : order.indexOf(region);
    return at < 0 ? order.length : at;
  };
  const groups = Map.groupBy(free, rank);
  const others = [...groups].sort(([a], [b]) => a - b).map(([, group]) => group);
  if (own.length === 0) return others;
  return affinity === 'local' ? [own, ...others] : [...others, own];
}

/**
 * Who gets how much. Each group takes what the groups before it left, as far as it may: the own cluster no more than
 * its health allows, with `spill: capacity` another no more than its ready backends are of the own cluster's expected
 * ones. What nobody may take is divided like the rest: an overload is better than a refusal. Inside a group the
 * weights decide, or else the number of ready backends. Only clusters with a share are named; none where nobody is ready.
 */
export function sharesOf(
  clusters: readonly ServingCluster[],
  affinity: Affinity,
  failover: Failover,
): Share[] {
  const own = clusters.find(each => each.own);
  const health = own ? healthOf(own, failover.minHealthyLocal) : 1;
  const capacity = failover.spillByCapacity ? own?.expected : undefined;
  const taken: { tier: Part[]; share: number }[] = [];
  let left = 1;
  for (const members of tiersOf(clusters, affinity, failover.order)) {
    const tier = partsOf(members, failover.weights, health);
    if (tier.length === 0) continue;
    const alone = tier.every(({ cluster }) => cluster.own);
    const ready = tier.reduce((sum, { cluster }) => sum + cluster.ready, 0);
    const most = alone ? health : capacity ? Math.min(1, ready / capacity) : 1;
    const share = Math.min(left, most);
    if (share > 0) taken.push({ tier, share });
    left -= share;
    if (left < 1e-9) break;
  }
  const sum = 1 - left;
  return taken.flatMap(({ tier, share }) => {
    const whole = tier.reduce((total, { part }) => total + part, 0);
    return tier.map(({ cluster, part }) => ({ cluster, share: (share / sum) * (part / whole) }));
  });
}

interface Part {
  readonly cluster: ServingCluster;
  readonly part: number;
}

/** The parts of a group's clusters, in proportion; those that get nothing are left out. */
function partsOf(
  members: readonly ServingCluster[],
  weights: ReadonlyMap<string, number> | undefined,
  health: number,
): Part[] {
  const ready = members.filter(each => each.ready > 0);
  const degree = (each: ServingCluster): number => (each.own && ready.length > 1 ? health : 1);
  const weighted = ready
    .map(cluster => ({ cluster, part: (weights?.get(cluster.name) ?? 0) * degree(cluster) }))
    .filter(({ part }) => part > 0);
  if (weighted.length) return weighted;
  return ready.map(cluster => ({ cluster, part: cluster.ready * degree(cluster) }));
}

/** 1 while the own cluster is as healthy as asked for; below that as much less as it is less healthy. */
function healthOf({ ready, expected }: ServingCluster, threshold: Threshold | undefined): number {
  if (!threshold) return 1;
  const asked = threshold.unit === 'percent' ? (expected * threshold.value) / 100 : threshold.value;
  return asked <= 0 ? 1 : Math.min(1, ready / asked);
}

/** Slots that a frontend with few backends may use to be exact. */
const MANY_SLOTS = 1024;

/**
 * How many of a frontend's slots each cluster gets, so that choosing a slot at random gives the shares: exact, with as
 * many for each of a cluster's backends, where small numbers are; else within one slot of {@link MANY_SLOTS}, or of as
 * many as there are backends.
 */
export function slotsOf(shares: readonly Share[]): Map<string, number> {
  const parts = shares.map(({ cluster, share }) => ({ ...cluster, share, weight: share / cluster.ready }));
  const smallest = Math.min(...parts.map(({ weight }) => weight));
  const limit = Math.max(
    MANY_SLOTS,
    parts.reduce((sum, { ready }) => sum + ready, 0),
  );
  // ready × weight adds up to 1, so that a scale is a number of slots.
  for (let scale = 1; scale <= 8 && scale / smallest <= limit; scale++) {
    const numbers = parts.map(({ weight }) => (weight / smallest) * scale);
    if (numbers.every(number => Math.abs(number - Math.round(number)) < 1e-6))
      return new Map(parts.map(({ name, ready }, at) => [name, ready * Math.round(numbers[at]!)]));
  }
  return new Map(parts.map(({ name, share }) => [name, Math.max(1, Math.round(limit * share))]));
}

/**
 * Divides a cluster's slots over its `count` backends as evenly as whole numbers can be. Who gets one more than
 * others, or one at all, are backends at even distances that begin elsewhere for each seed, as the name of a node.
 */
export function divideSlots(slots: number, count: number, seed: string): number[] {
  const base = Math.floor(slots / count);
  const more = slots - base * count;
  let start = 0;
  for (const char of seed) start = (Math.imul(start, 31) + char.charCodeAt(0)) >>> 0;
  const numbers = new Array<number>(count).fill(base);
  for (let at = 0; at < more; at++) numbers[(start + Math.floor((at * count) / more)) % count]! += 1;
  return numbers;
}
