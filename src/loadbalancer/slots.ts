/**
 * Places backend ids in slots so that as few slots as possible differ from `present`: who stays
 * keeps its slots, newcomers fill holes, and the last slots move into holes that are left. The
 * result holds exactly `wanted`, each id as often as there, in slots 0..n-1.
 */
export function assignSlots(present: readonly number[], wanted: readonly number[]): number[] {
  const missing = new Map<number, number>();
  for (const id of wanted) missing.set(id, (missing.get(id) ?? 0) + 1);
  const kept = wanted.map((_, slot) => {
    const id = present[slot];
    const left = id === undefined ? 0 : (missing.get(id) ?? 0);
    if (id === undefined || left === 0) return undefined;
    missing.set(id, left - 1);
    return id;
  });
  const rest = missing.entries().flatMap(([id, left]) => new Array<number>(left).fill(id));
  return kept.map(id => id ?? rest.next().value!);
}
