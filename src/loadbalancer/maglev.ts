/**
 * Maglev's lookup table (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016,
 * section 3.4): every backend gets nearly the same share of the entries, and where one comes or goes few entries
 * change besides its own. All nodes that know the same backends make the same table, whatever ids they use.
 */

/** Sizes a table may have: primes, as Cilium allows them. A table should be about 100 times the number of backends. */
export const MAGLEV_SIZES = [251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131071] as const;

/**
 * For each of `size` entries (a prime) the position of its backend in `names`. Empty without backends. Names are
 * distinct; their order does not matter. A backend with weight 2 takes two entries where others take one.
 */
export function maglevTable(
  names: readonly string[],
  size: number,
  weights: readonly number[] = [],
): Uint32Array {
  const count = names.length;
  if (count === 0) return new Uint32Array(0);
  // Turns go by name, so that every node takes them in the same order.
  const order = [...names.keys()].sort((a, b) => (names[a]! < names[b]! ? -1 : 1));
  const next = new Uint32Array(count);
  const skip = new Uint32Array(count);
  for (const at of names.keys()) {
    [next[at], skip[at]] = placesOf(names[at]!, size);
  }
  const FREE = 0xffff_ffff;
  const table = new Uint32Array(size).fill(FREE);
  const most = Math.max(1, ...weights);
  // A round is as many turns as the largest weight; who has less is left out of the last of them.
  for (let filled = 0, turn = 0; ; turn = (turn + 1) % most)
    for (const at of order) {
      if (turn >= (weights[at] ?? 1)) continue;
      // The next free entry of the backend's own permutation.
      let entry = next[at]!;
      while (table[entry] !== FREE) entry = (entry + skip[at]!) % size;
      table[entry] = at;
      next[at] = (entry + skip[at]!) % size;
      if (++filled === size) return table;
    }
}

/** Where a backend's permutation of the entries begins, and its step from one to the next. */
export function placesOf(name: string, size: number): [offset: number, skip: number] {
  return [hash(name, 0x9747b28c) % size, (hash(name, 0x85ebca6b) % (size - 1)) + 1];
}

/** FNV-1a of a text's characters from a seed, mixed once more so that names that differ little part. */
function hash(text: string, seed: number): number {
  let value = 0x811c9dc5 ^ seed;
  for (let at = 0; at < text.length; at++) value = Math.imul(value ^ text.charCodeAt(at), 0x01000193);
  value = Math.imul(value ^ (value >>> 16), 0x7feb352d);
  value = Math.imul(value ^ (value >>> 15), 0x846ca68b);
  return (value ^ (value >>> 16)) >>> 0;
}
