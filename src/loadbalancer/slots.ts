/**
 * Places backend ids in slots so that as few slots as possible differ from `present`: who stays
 * keeps its slot, newcomers fill holes, and the last slots move into holes that are left. The
 * result holds exactly `wanted`, each id once, in slots 0..n-1.
 */
export function assignSlots(present: readonly number[], wanted: readonly number[]): number[] {
  const missing = new Set(wanted);
  const kept = Array.from({ length: missing.size }, (_, slot) => {
    const id = present[slot];
    return id !== undefined && missing.delete(id) ? id : undefined;
  });
  const rest = missing.values();
  return kept.map(id => id ?? rest.next().value!);
}
