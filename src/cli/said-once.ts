import { someOf } from './some-of.ts';

/** A problem as somebody tells it: a node, a pod. */
export interface Saying {
  /** Who tells it, or where it is. */
  readonly place: string;
  readonly message: string;
}

/** So many places are named. */
const NAMED = 4;

/**
 * What many tell in the same words is said once, with where it is so: a problem of the cluster is known on each of its
 * nodes. Ages, and the order in which each tried several addresses, make no difference; the first one's words stand.
 */
export function saidOnce<T extends Saying>(sayings: readonly T[]): (T & { readonly places: string })[] {
  const groups = Map.groupBy(sayings, ({ message }) => essence(message));
  return Array.from(groups.values(), group => ({ ...group[0]!, places: placesOf(group) }));
}

function essence(message: string): string {
  return message
    .replace(/\d+ m?s\b/g, 'a while')
    .split(/; |: /)
    .sort()
    .join('; ');
}

const placesOf = (group: readonly Saying[]): string =>
  someOf([...new Set(group.map(each => each.place))], NAMED);
