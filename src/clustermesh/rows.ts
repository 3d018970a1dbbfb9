import type { Labels } from '../api/labels.ts';
import { canonicalPrefix } from '../api/prefix.ts';
import type { RemoteService } from '../loadbalancer/remote-service.ts';
import { remoteServiceTable } from '../loadbalancer/remote-service.ts';
import { type ExportedService, exportedServiceTable } from '../mcsapi/exported-service.ts';
import { type ReadonlyTable, Table } from '../table/table.ts';

/** A node of another cluster. */
export interface RemoteNode {
  readonly cluster: string;
  readonly clusterId: number;
  readonly name: string;
  /** Type (`InternalIP`, `CiliumInternalIP`…) and address; `nodeAddress` of api/crds/cilium-node.ts chooses. */
  readonly addresses: readonly { readonly type: string; readonly ip: string }[];
  /** Pod ranges, `10.2.0.0/24`; the primary one of each family comes first. */
  readonly podCidrs: readonly string[];
  readonly healthIps: readonly string[];
  readonly ingressIps: readonly string[];
  readonly encryptionKey: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly wireguardKey: string;
  readonly bootId: string;
}

/** Index of the remote nodes table that finds a cluster's. */
export const REMOTE_NODES_BY_CLUSTER = 'cluster';

/** A security identity of another cluster. */
export interface RemoteIdentity {
  readonly cluster: string;
  readonly clusterId: number;
  readonly identity: number;
  readonly labels: Labels;
  readonly text: string;
}

/** An address, or a prefix, of another cluster and the identity behind it. */
export interface RemoteEndpoint {
  readonly cluster: string;
  readonly clusterId: number;
  /** `10.2.0.9/32`, or `10.2.0.0/24`. */
  readonly prefix: string;
  /** Node the address is on: the tunnel's other end. '' when unknown. */
  readonly nodeIp: string;
  /** 0 while the endpoint has none. */
  readonly identity: number;
  readonly encryptionKey: number;
  readonly namespace: string;
  readonly pod: string;
  readonly serviceAccount: string;
}

/** A remote cluster that is configured. */
export interface RemoteHealth {
  readonly cluster: string;
  /** Neither its control plane nor any of its nodes answers: nothing new is sent there. */
  readonly dead: boolean;
}

/** A remote cluster that is configured and has not told everything yet, since this process started. */
export interface PendingCluster {
  readonly cluster: string;
}

/** Everything known of other clusters. Tables are synced when every configured cluster was heard once. */
export interface RemoteTables {
  readonly nodes: ReadonlyTable<RemoteNode>;
  readonly identities: ReadonlyTable<RemoteIdentity>;
  readonly endpoints: ReadonlyTable<RemoteEndpoint>;
  readonly services: ReadonlyTable<RemoteService>;
  readonly serviceExports: ReadonlyTable<ExportedService>;
  /** Not from the clusters themselves: what we think of them. Synced from the start. */
  readonly clusters: ReadonlyTable<RemoteHealth>;
  /** Of these clusters rows may be missing, however long it takes. Synced from the start. */
  readonly pending: ReadonlyTable<PendingCluster>;
}

/** The tables as their one writer, the remote clusters, holds them. */
export interface WritableRemoteTables extends RemoteTables {
  readonly nodes: Table<RemoteNode>;
  readonly identities: Table<RemoteIdentity>;
  readonly endpoints: Table<RemoteEndpoint>;
  readonly services: Table<RemoteService>;
  readonly serviceExports: Table<ExportedService>;
  readonly clusters: Table<RemoteHealth>;
  readonly pending: Table<PendingCluster>;
}

/** What addresses that begin alike have in common: what a change of a pod range touches is found by it. */
export const nearOf = (prefix: string): string => {
  const [address = '', length] = prefix.split('/');
  const bits = prefix.includes(':') ? 48 : 16;
  return canonicalPrefix(`${address}/${Math.min(Number(length), bits)}`) ?? '';
};

/**
 * Keys: nodes `cluster/name` (index `cluster`), identities their number, endpoints `cluster/prefix` (indexes
 * `prefix` and `near`), services and service exports
 * `cluster/namespace/name` (index `service`).
 */
export function remoteTables(): WritableRemoteTables {
  const clusters = new Table<RemoteHealth>({
    name: 'remote-clusters',
    keyOf: row => row.cluster,
    equal: (a, b) => a.dead === b.dead,
  });
  clusters.markSynced();
  const pending = new Table<PendingCluster>({
    name: 'pending-clusters',
    keyOf: row => row.cluster,
    equal: () => true,
  });
  pending.markSynced();
  return {
    clusters,
    pending,
    nodes: new Table<RemoteNode>({
      name: 'remote-nodes',
      keyOf: row => `${row.cluster}/${row.name}`,
      indexes: { [REMOTE_NODES_BY_CLUSTER]: row => [row.cluster] },
      equal: (a, b) => JSON.stringify(a) === JSON.stringify(b),
    }),
    identities: new Table<RemoteIdentity>({
      name: 'remote-identities',
      keyOf: row => String(row.identity),
      equal: (a, b) => a.text === b.text && a.cluster === b.cluster,
    }),
    endpoints: new Table<RemoteEndpoint>({
      name: 'remote-endpoints',
      keyOf: row => `${row.cluster}/${row.prefix}`,
      indexes: { prefix: row => [row.prefix], near: row => [nearOf(row.prefix)] },
      equal: (a, b) =>
        a.identity === b.identity &&
        a.nodeIp === b.nodeIp &&
        a.encryptionKey === b.encryptionKey &&
        a.pod === b.pod &&
        a.namespace === b.namespace &&
        a.serviceAccount === b.serviceAccount &&
        a.clusterId === b.clusterId,
    }),
    services: new Table<RemoteService>({
      ...remoteServiceTable,
      equal: (a, b) => JSON.stringify(a) === JSON.stringify(b),
    }),
    serviceExports: new Table<ExportedService>(exportedServiceTable),
  };
}
