/**
 * Who probes whom: a pure function of who is there, so that all nodes agree without asking one another.
 * Names are put in the order of their hash, which spreads racks and zones.
 */
import { createHash } from 'node:crypto';

/** So many others look at a node, and so many of our nodes at a cluster, each at so many of its nodes. */
export const PROBERS = 3;

const rank = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 16);

function inOrder(names: Iterable<string>, salt: string): string[] {
  const ranked = Array.from(names, name => [rank(`${salt}/${name}`), name] as const);
  ranked.sort(([a, x], [b, y]) => (a < b ? -1 : a > b ? 1 : x < y ? -1 : 1));
  return ranked.map(([, name]) => name);
}

/** The nodes of a cluster as a ring. Who comes or goes changes the duties of its neighbours alone. */
export const ringOf = (names: Iterable<string>): string[] => inOrder(names, 'node');

type Dead = (node: string) => boolean;

/** The nodes that probe one: those that follow it on the ring and are not dead. */
export function probersOf(ring: readonly string[], node: string, dead: Dead): string[] {
  const at = ring.indexOf(node);
  if (at < 0) return [];
  const found: string[] = [];
  for (let step = 1; step < ring.length && found.length < PROBERS; step++) {
    const name = ring[(at + step) % ring.length]!;
    if (!dead(name)) found.push(name);
  }
  return found;
}

/** The nodes that one probes: the other direction of {@link probersOf}. Dead ones, too: they may come back. */
export function probedBy(ring: readonly string[], node: string, dead: Dead): string[] {
  const at = ring.indexOf(node);
  if (at < 0) return [];
  const found: string[] = [];
  for (let step = 1, between = 0; step < ring.length && between < PROBERS; step++) {
    const name = ring[(at - step + ring.length) % ring.length]!;
    found.push(name);
    if (!dead(name)) between++;
  }
  return found;
}

/** The own nodes that probe another cluster: those that follow its name on the ring and are not dead. */
export const clusterProbers = (cluster: string, ring: readonly string[], dead: Dead): string[] =>
  following(`cluster/${cluster}`, ring, dead);

/** The own nodes that probe one node of another cluster, when that is needed. */
export const remoteNodeProbers = (
  cluster: string,
  node: string,
  ring: readonly string[],
  dead: Dead,
): string[] => following(`cluster/${cluster}/${node}`, ring, dead);

/** Ranks of the nodes of a ring, worked out once. */
const ranksOf = new WeakMap<readonly string[], readonly string[]>();

function following(text: string, ring: readonly string[], dead: Dead): string[] {
  const place = rank(text);
  const ranks = ranksOf.get(ring) ?? ring.map(name => rank(`node/${name}`));
  ranksOf.set(ring, ranks);
  let [low, high] = [0, ring.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ranks[middle]! < place) low = middle + 1;
    else high = middle;
  }
  const found: string[] = [];
  for (let step = 0; step < ring.length && found.length < PROBERS; step++) {
    const name = ring[(low + step) % ring.length]!;
    if (!dead(name)) found.push(name);
  }
  return found;
}

/** The nodes of another cluster that one of ours probes: others for each of ours. */
export function clusterTargets(prober: string, cluster: string, theirs: Iterable<string>): string[] {
  return inOrder(theirs, `target/${cluster}/${prober}`).slice(0, PROBERS);
}
