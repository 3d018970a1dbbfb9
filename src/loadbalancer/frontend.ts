import type { Algorithm } from '../api/annotations.ts';
import type { Protocol } from '../api/service.ts';
import type { BackendList } from './backend-list.ts';

/** An address and port that a service answers at on this node, with the backends it may choose from. */
export interface Frontend {
  readonly addr: string;
  readonly port: number;
  readonly protocol: Protocol;
  /**
   * 'external' rows answer everybody, unless there is an 'internal' one for the same address: then
   * those answer clients inside the cluster. Only addresses with externalTrafficPolicy Local have both.
   */
  readonly scope: 'external' | 'internal';
  readonly kind: FrontendKind;
  /** `namespace/name` of the service. */
  readonly service: string;
  readonly portName: string;
  /** When the service was made: the oldest wins an address that two claim. */
  readonly created: string;
  /** A traffic policy left only this node's backends. */
  readonly local: boolean;
  /** Seconds a client keeps its backend; 0: no session affinity. */
  readonly affinityTimeout: number;
  /** Prefixes of the clients that may connect (canonical); undefined: everybody may. */
  readonly sourceRanges?: readonly string[] | undefined;
  /** `sourceRanges` are of those who may not. */
  readonly sourceRangesDeny?: boolean | undefined;
  /** Clients outside are answered by the backend's node itself, where the way to it lets that be. */
  readonly dsr?: boolean | undefined;
  /** How packets find a backend; sockets always choose at random. Default: random. */
  readonly algorithm?: Algorithm | undefined;
  /** Not every remote cluster has been heard: backends known from before must not be taken away yet. */
  readonly partial: boolean;
  /** In a stable order. Empty: connections are refused. */
  readonly backends: BackendList;
  /** How many of the frontend's slots each of `backends` gets; undefined: one each. */
  readonly weights?: readonly number[] | undefined;
  /** Why: what each cluster gets of new connections; undefined where annotations ask for no shares. */
  readonly shares?: readonly ClusterShare[] | undefined;
}

/** What a cluster gets of a frontend's new connections. */
export interface ClusterShare {
  readonly cluster: string;
  /** 0 to 1. */
  readonly share: number;
  /** Backends that take new connections, of those there would be if all were well. */
  readonly ready: number;
  readonly expected: number;
}

export type FrontendKind = 'ClusterIP' | 'NodePort' | 'LoadBalancer' | 'ExternalIP';

/** Address of NodePort frontends: they match every address of the node, of that family. */
export const anyAddress = (ipv6: boolean): string => (ipv6 ? '::' : '0.0.0.0');

/** The address a frontend occupies: what two services can quarrel about. */
export function frontendAddress(row: Pick<Frontend, 'addr' | 'port' | 'protocol' | 'scope'>): string {
  return `${row.addr}/${row.port}/${row.protocol}/${row.scope}`;
}

/** True for the external row of an address that clients inside the cluster see by a row of their own. */
export function hasInternalScope(row: Frontend): boolean {
  return row.scope === 'external' && row.local && row.kind !== 'ClusterIP';
}

/** True where the kernel would see no difference. */
export function sameFrontend(a: Frontend, b: Frontend): boolean {
  return (
    a.addr === b.addr &&
    a.port === b.port &&
    a.protocol === b.protocol &&
    a.scope === b.scope &&
    a.kind === b.kind &&
    a.service === b.service &&
    a.portName === b.portName &&
    a.created === b.created &&
    a.local === b.local &&
    a.affinityTimeout === b.affinityTimeout &&
    a.partial === b.partial &&
    a.algorithm === b.algorithm &&
    a.dsr === b.dsr &&
    a.sourceRangesDeny === b.sourceRangesDeny &&
    sameList(a.sourceRanges, b.sourceRanges) &&
    a.backends.equals(b.backends) &&
    sameList(a.weights, b.weights) &&
    sameList(a.shares?.map(shareText), b.shares?.map(shareText))
  );
}

/** 'eu 25 % (1 of 4 ready)'. */
export function shareText({ cluster, share, ready, expected }: ClusterShare): string {
  return `${cluster} ${Math.round(share * 1000) / 10} % (${ready} of ${expected} ready)`;
}

function sameList<T>(a: readonly T[] | undefined, b: readonly T[] | undefined): boolean {
  return a === b || (a?.length === b?.length && !!a?.every((each, at) => each === b?.[at]));
}

/** Of several services that claim one address, the one that gets it: a ClusterIP, then the oldest, then by name. */
export function winner(claims: Iterable<Frontend>): Frontend | undefined {
  let best: Frontend | undefined;
  for (const claim of claims) if (!best || outranks(claim, best)) best = claim;
  return best;
}

function outranks(a: Frontend, b: Frontend): boolean {
  if ((a.kind === 'ClusterIP') !== (b.kind === 'ClusterIP')) return a.kind === 'ClusterIP';
  if (a.created !== b.created) return a.created < b.created;
  return a.service < b.service;
}
