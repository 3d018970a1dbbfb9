import type { SliceEndpoint } from '../api/endpoint-slice.ts';

/** Where a node is, as far as hints speak of it. */
export interface Place {
  /** Name of the node. */
  readonly node: string;
  /** Its label `topology.kubernetes.io/zone`; '' without. */
  readonly zone: string;
}

/**
 * The endpoints that hints mean for this node's clients, by kube-proxy's rules for traffic policy Cluster
 * (KEP-2433, KEP-3015): of the ready endpoints, those hinted for this node if all have a hint of that kind and
 * one is for this node; else those hinted for its zone on the same terms; else all. A hint is obeyed whatever
 * field or annotation of the Service made Kubernetes write it. Endpoints that are not ready stay: they are used
 * only where no ready one is.
 */
export function preferByHints<T extends Pick<SliceEndpoint, 'ready' | 'forNodes' | 'forZones'>>(
  endpoints: readonly T[],
  { node, zone }: Place,
): readonly T[] {
  const ready = endpoints.filter(each => each.ready);
  if (ready.length === 0) return endpoints;
  for (const [of, here] of [
    [(each: T) => each.forNodes, node],
    [(each: T) => each.forZones, zone],
  ] as const) {
    if (!ready.every(each => of(each).length > 0)) continue;
    if (!ready.some(each => of(each).includes(here))) continue;
    return endpoints.filter(each => !each.ready || of(each).includes(here));
  }
  return endpoints;
}
