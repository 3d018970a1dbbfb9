import type { EndpointSlice, SliceEndpoint } from '../api/endpoint-slice.ts';

/** An endpoint with the slice it is in, which has its ports. */
export interface Candidate {
  readonly slice: EndpointSlice;
  readonly endpoint: SliceEndpoint;
}

/** The endpoints of a service as another cluster has to know them. */
export interface EndpointStates {
  /**
   * What any reader may send to: the ready ones; where there is none, those that terminate but still serve, as
   * Kubernetes' proxies do (KEP-1669).
   */
  readonly usable: readonly Candidate[];
  /** Serve what they have to the end, and are `usable` only where nothing is ready. */
  readonly terminating: readonly Candidate[];
  /** There, and not to be sent to. */
  readonly notReady: readonly Candidate[];
}

/** Names instead of addresses are left out, and so is who terminates and serves no more. */
export function endpointStates(
  slices: readonly EndpointSlice[],
  isDead: (node: string) => boolean = () => false,
): EndpointStates {
  const all = slices
    .filter(slice => slice.addressType !== 'FQDN')
    .flatMap(slice => slice.endpoints.map(endpoint => ({ slice, endpoint })))
    .filter(({ endpoint }) => !isDead(endpoint.node));
  const ready = all.filter(({ endpoint }) => endpoint.ready);
  // While an endpoint moves between slices it is in two of them: the better state is the newer.
  const readyAddresses = new Set(ready.map(({ endpoint }) => endpoint.address));
  const others = all.filter(({ endpoint }) => !readyAddresses.has(endpoint.address));
  return {
    usable: ready.length ? ready : all.filter(({ endpoint }) => endpoint.serving),
    terminating: others.filter(({ endpoint }) => endpoint.terminating && endpoint.serving),
    notReady: others.filter(({ endpoint }) => !endpoint.terminating),
  };
}
