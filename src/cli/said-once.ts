/** A problem as somebody tells it: a node, a pod. */
export interface Saying {
  /** Who tells it, or where it is. */
  readonly place: string;
  readonly message: string;
}

/** How many places are named before the others are only counted. */
const NAMED = 4;

/**
 * What many tell in the same words is said once, with where it is so: a problem of the cluster is known on each of its
 * nodes. Ages, and the order in which each tried several addresses, make no difference; the first one's words stand.
 */
export function saidOnce<T extends Saying>(sayings: readonly T[]): (T & { readonly places: string })[] {
  const groups = Map.groupBy(sayings, ({ message }) => essence(message));
  return Array.from(groups.values(), group => ({ ...group[0]!, places: placesText(group) }));
}

function essence(message: string): string {
  return message
    .replace(/\d+ m?s\b/g, 'a while')
    .split(/; |: /)
    .sort()
    .join('; ');
}

function placesText(group: readonly Saying[]): string {
  const places = [...new Set(group.map(each => each.place))];
  const rest = places.length - NAMED;
  return rest > 0 ? `${places.slice(0, NAMED - 1).join(', ')} and ${rest + 1} more` : places.join(', ');
}
