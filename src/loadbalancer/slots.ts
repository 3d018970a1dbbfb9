/**
 * Places backend ids in slots so that as few slots as possible differ from `present`: who stays
 * keeps its slots, newcomers fill holes, and the last slots move into holes that are left. The
 * result holds exactly `wanted`, each id as often as there, in slots 0..n-1.
 */
export function assignSlots(present: readonly number[], wanted: readonly number[]): number[] {
  const missing = new Map<number, number>();
  for (const id of wanted) missing.set(id, (missing.get(id) ?? 0) + 1);
  const slots = new Array<number>(wanted.length).fill(0);
  const holes: number[] = [];
  for (let slot = 0; slot < slots.length; slot++) {
    const id = present[slot];
    const left = id === undefined ? 0 : (missing.get(id) ?? 0);
    if (id === undefined || left === 0) {
      holes.push(slot);
      continue;
    }
    if (left === 1) missing.delete(id);
    else missing.set(id, left - 1);
    slots[slot] = id;
  }
  let hole = 0;
  for (const [id, left] of missing) for (let at = 0; at < left; at++) slots[holes[hole++]!] = id;
  return slots;
}
