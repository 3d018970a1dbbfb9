import { canonicalPrefix } from '../api/prefix.ts';
import { formatPrefix, parsePrefix } from '../datapath/address.ts';
import type { RemoteService } from '../loadbalancer/remote-service.ts';
import { REMOTE_BY_SERVICE, remoteServiceTable, sameRemoteService } from '../loadbalancer/remote-service.ts';
import { type ExportedService, exportedServiceTable } from '../mcsapi/exported-service.ts';
import { json, optional, sharedText, text, texts, uint32 } from '../table/columns.ts';
import { packed } from '../table/packed-rows.ts';
import { type ReadonlyTable, Table } from '../table/table.ts';
import { backendsColumn } from './backends-column.ts';

/** A node of another cluster. */
export interface RemoteNode {
  readonly cluster: string;
  readonly clusterId: number;
  readonly name: string;
  /** Type (`InternalIP`, `CiliumInternalIP`…) and address; `nodeAddress` of api/crds/cilium-node.ts chooses. */
  readonly addresses: readonly { readonly type: string; readonly ip: string }[];
  /** Pod ranges, `10.2.0.0/24`; the primary one of each family comes first. */
  readonly podCidrs: readonly string[];
  /** Its `regionLabel` and `routingAnnotation` (api/node-traits.ts); '' without. */
  readonly region: string;
  readonly routing: string;
}

/** Index of the remote nodes table that finds a cluster's. */
export const REMOTE_NODES_BY_CLUSTER = 'cluster';

/** A security identity of another cluster. */
export interface RemoteIdentity {
  readonly cluster: string;
  readonly identity: number;
  /** Its labels, as `parseLabels` of api/labels.ts reads them. */
  readonly text: string;
}

/**
 * An address, or a prefix, of another cluster and the identity behind it. Whose pod it is has no row: there are hundreds
 * of thousands of addresses, and packets are judged by the identity.
 */
export interface RemoteEndpoint {
  readonly cluster: string;
  /** `10.2.0.9/32`, or `10.2.0.0/24`. */
  readonly prefix: string;
  /** Node the address is on: the tunnel's other end. '' when unknown. */
  readonly nodeIp: string;
  /** 0 while the endpoint has none. */
  readonly identity: number;
}

/** A remote cluster that is configured. */
export interface RemoteHealth {
  readonly cluster: string;
  /** Neither its control plane nor any of its nodes answers: nothing new is sent there. */
  readonly dead: boolean;
  /** It was heard once and says nothing now: nobody but our probes tells which of its nodes are dead. */
  readonly silent: boolean;
  /** Node that runs the etcd from which it was last heard; '' where it does not say, as Cilium. */
  readonly controlPlaneNode: string;
  /** Address at the other end of the connection by which this process reads it; '' while there is none. */
  readonly via: string;
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

/** As long as the pod ranges of nodes are nearly everywhere. */
const NEAR_BITS = { ipv4: 24, ipv6: 64 } as const;
/** Of so many fewer bits a range is looked into bucket by bucket. */
const NEAR_STEPS = 8;

const nearBits = (prefix: string): number => (prefix.includes(':') ? NEAR_BITS.ipv6 : NEAR_BITS.ipv4);

/** What addresses that begin alike have in common: what a change of a pod range touches is found by it. */
export function nearOf(prefix: string): string {
  const at = prefix.lastIndexOf('/');
  const length = Number(prefix.slice(at + 1));
  const bits = nearBits(prefix);
  if (length < bits) return prefix;
  if (bits === NEAR_BITS.ipv4) return `${prefix.slice(0, prefix.lastIndexOf('.', at))}.0/${bits}`;
  return canonicalPrefix(`${prefix.slice(0, at)}/${bits}`) ?? '';
}

/** Every value that `nearOf` has for prefixes inside a canonical one; undefined where these are too many to say. */
export function nearInside(prefix: string): string[] | undefined {
  const at = prefix.lastIndexOf('/');
  const length = Number(prefix.slice(at + 1));
  const bits = nearBits(prefix);
  if (length >= bits) return [nearOf(prefix)];
  if (bits - length > NEAR_STEPS) return undefined;
  const names: string[] = [prefix];
  let parts = [prefix];
  for (let longer = length + 1; longer <= bits; longer++) {
    parts = parts.flatMap(part => halves(part, longer));
    names.push(...parts);
  }
  return names;
}

/** The two prefixes of one bit more. */
function halves(prefix: string, length: number): string[] {
  const { addr } = parsePrefix(prefix);
  const width = prefix.includes(':') ? 128 : 32;
  const bit = 128 - width + length - 1;
  const upper = addr.slice();
  upper[bit >> 3] = upper[bit >> 3]! | (0x80 >> (bit & 7));
  return [addr, upper].map(each => formatPrefix({ addr: each, length: 128 - width + length }));
}

/**
 * Keys: nodes `cluster/name` (index `cluster`), identities their number, endpoints `cluster/prefix` (indexes
 * `prefix` and `near`), services and service exports
 * `cluster/namespace/name` (index `service`).
 */
export function remoteTables(): WritableRemoteTables {
  const clusters = new Table<RemoteHealth>({
    name: 'remote-clusters',
    keyOf: row => row.cluster,
    equal: (a, b) =>
      a.dead === b.dead &&
      a.silent === b.silent &&
      a.controlPlaneNode === b.controlPlaneNode &&
      a.via === b.via,
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
      rows: packed<RemoteNode>({
        cluster: sharedText,
        clusterId: uint32,
        name: text,
        addresses: json<RemoteNode['addresses']>,
        podCidrs: texts,
        region: sharedText,
        routing: sharedText,
      }),
      equal: (a, b) => JSON.stringify(a) === JSON.stringify(b),
    }),
    identities: new Table<RemoteIdentity>({
      name: 'remote-identities',
      keyOf: row => String(row.identity),
      equal: (a, b) => a.text === b.text && a.cluster === b.cluster,
      rows: packed<RemoteIdentity>({
        cluster: sharedText,
        identity: uint32,
        text,
      }),
    }),
    endpoints: new Table<RemoteEndpoint>({
      name: 'remote-endpoints',
      keyOf: row => `${row.cluster}/${row.prefix}`,
      indexes: { prefix: row => [row.prefix], near: row => [nearOf(row.prefix)] },
      equal: (a, b) => a.identity === b.identity && a.nodeIp === b.nodeIp,
      rows: packed<RemoteEndpoint>({
        cluster: sharedText,
        prefix: text,
        nodeIp: sharedText,
        identity: uint32,
      }),
    }),
    services: new Table<RemoteService>({
      ...remoteServiceTable,
      equal: sameRemoteService,
      // Nearly all of them are of services that this cluster has not: only those of its own are objects.
      rows: packed<RemoteService>(
        {
          cluster: sharedText,
          clusterId: uint32,
          namespace: sharedText,
          name: sharedText,
          backends: backendsColumn,
          terminating: optional(backendsColumn),
          notReady: optional(backendsColumn),
          hostnames: optional(json<NonNullable<RemoteService['hostnames']>>),
        },
        { held: REMOTE_BY_SERVICE, isLarge: row => row.backends.length > 1 },
      ),
    }),
    serviceExports: new Table<ExportedService>(exportedServiceTable),
  };
}
