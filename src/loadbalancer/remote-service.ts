/** A layer-4 protocol as Kubernetes and Cilium's etcd values spell it. */
export type Protocol = 'TCP' | 'UDP' | 'SCTP';

/** One port of a backend: where it listens, not the service port. */
export interface BackendPort {
  readonly protocol: Protocol;
  readonly port: number;
}

/** Backend address text → port name ('' where unnamed) → port. */
export type RemotePart = Readonly<Record<string, Readonly<Record<string, BackendPort>>>>;

/**
 * Backends of another cluster's service as parts, none of them changed once it is made: a part that a change has left alone
 * is the same object as before, so that whoever follows looks at the others only. Each address is in one of them.
 */
export type RemoteBackends = readonly RemotePart[];

/**
 * A global service as another cluster exports it (`cilium/state/services/v1/<cluster>/<ns>/<name>`).
 * The row of the table a cluster mesh source writes and load balancing reads: one row per cluster
 * and service, replaced as a whole (but for parts that stay). An exported service is shared by definition; one that is not
 * has no row. A cluster of Cilium tells of no states: there all backends are active.
 */
export interface RemoteService {
  readonly cluster: string;
  readonly clusterId: number;
  readonly namespace: string;
  readonly name: string;
  readonly backends: RemoteBackends;
  /** Backends that serve what they have to the end; those that nobody should need are not among `backends`. */
  readonly terminating?: RemoteBackends | undefined;
  /** Backends that there are and that cannot be sent to: none of them is among the others. */
  readonly notReady?: RemoteBackends | undefined;
  /** Backend address text → host name, for DNS of headless services. */
  readonly hostnames?: Readonly<Record<string, string>> | undefined;
}

/** Primary key of the remote services table. */
export function remoteServiceKey(row: Pick<RemoteService, 'cluster' | 'namespace' | 'name'>): string {
  return `${row.cluster}/${row.namespace}/${row.name}`;
}

/** Index of the remote services table that finds every cluster's row of one service: `namespace/name`. */
export const REMOTE_BY_SERVICE = 'service';

/** Index of the remote services table that finds all that one cluster exports, by its name. */
export const REMOTE_BY_CLUSTER = 'cluster';

/** Options of every table of remote services, so that producers and readers agree on key and index. */
export const remoteServiceTable = {
  name: 'remote-services',
  keyOf: remoteServiceKey,
  indexes: {
    [REMOTE_BY_SERVICE]: (row: RemoteService) => [`${row.namespace}/${row.name}`],
    [REMOTE_BY_CLUSTER]: (row: RemoteService) => [row.cluster],
  },
} as const;

/** Whether two rows of one key say the same. */
export function sameRemoteService(a: RemoteService, b: RemoteService): boolean {
  return (
    a.clusterId === b.clusterId &&
    sameParts(a.backends, b.backends) &&
    sameParts(a.terminating, b.terminating) &&
    sameParts(a.notReady, b.notReady) &&
    sameRecord(a.hostnames, b.hostnames, (x, y) => x === y)
  );
}

/** The same backends in other parts count as others. */
const sameParts = (a: RemoteBackends | undefined, b: RemoteBackends | undefined): boolean =>
  a === b || (a?.length === b?.length && !!a?.every((part, at) => sameRecord(part, b?.[at], samePorts)));

const samePorts = (a: RemotePart[string], b: RemotePart[string]): boolean =>
  sameRecord(a, b, (x, y) => x.protocol === y.protocol && x.port === y.port);

/** Same keys in the same order, with the same values. */
function sameRecord<V>(
  a: Readonly<Record<string, V>> | undefined,
  b: Readonly<Record<string, V>> | undefined,
  same: (a: V, b: V) => boolean,
): boolean {
  if (a === b) return true;
  if (!a || !b) return false;
  const keys = Object.keys(a);
  const others = Object.keys(b);
  return (
    keys.length === others.length && keys.every((key, at) => key === others[at] && same(a[key]!, b[key]!))
  );
}
