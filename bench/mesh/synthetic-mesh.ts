import { localUser } from '../../src/clustermesh/access.ts';
import { formatClusterConfig } from '../../src/clustermesh/cluster-config.ts';
import { canaryKey, clusterConfigKey, heartbeatKey, kinds } from '../../src/clustermesh/layout.ts';
import { timestamp } from '../../src/kube/time.ts';
import type { EtcdConnection } from '../../src/kvstore/connection.ts';
import { type EtcdRow, EtcdTarget } from '../../src/kvstore/target.ts';
import { SyntheticEtcd } from '../synthetic-etcd.ts';
import { endpointAddress, rowsOf, type Shape } from '../synthetic-rows.ts';

export interface MeshShape {
  readonly clusters: number;
  readonly nodes: number;
  readonly endpoints: number;
  readonly services: number;
  readonly namespace: string;
  /** As a mirror has them, below cilium/cache; else one cluster as it has itself. Default true. */
  readonly cached?: boolean;
}

/** Keys below the operations of a transaction that etcd takes, so that a cluster is a few requests. */
const BATCH = 128;
/** The cluster that reads has 1. */
const FIRST_ID = 2;

/**
 * Many clusters in one etcd, as a mirror (kvstoremesh) of the reading cluster has them: below cilium/cache, each
 * with its configuration, its canaries and its leases. Where a mirror is used every agent reads all clusters so.
 * Or one cluster, as its own clustermesh-apiserver writes it.
 */
export class SyntheticMesh implements AsyncDisposable {
  readonly etcd: SyntheticEtcd;
  readonly clusters: readonly Shape[];
  readonly connection: EtcdConnection;
  readonly #target = new EtcdTarget({ ttl: 900, prefixes: [] });
  readonly #stop = new AbortController();
  readonly #timer: NodeJS.Timeout;

  private constructor(etcd: SyntheticEtcd, connection: EtcdConnection, clusters: readonly Shape[]) {
    this.etcd = etcd;
    this.connection = connection;
    this.clusters = clusters;
    this.#timer = setInterval(() => {
      // A row that ends its etcd has no use for it.
      this.put([{ key: heartbeatKey, value: timestamp() }]).catch(() => undefined);
    }, 30_000);
  }

  /** Starts the etcd and writes everything. `reader`: name of the cluster whose agents read it. */
  static async start(host: string, port: number, reader: string, shape: MeshShape): Promise<SyntheticMesh> {
    return SyntheticMesh.fill(await SyntheticEtcd.start(reader, host, port), shape);
  }

  /** Writes everything into an etcd, which is this one's from now on. */
  static async fill(etcd: SyntheticEtcd, shape: MeshShape): Promise<SyntheticMesh> {
    const { cached = true } = shape;
    if (!cached && shape.clusters !== 1) throw new Error('an etcd holds the original of one cluster only');
    const clusters = Array.from({ length: shape.clusters }, (_, n) => ({
      ...shape,
      name: `syn${n + 1}`,
      id: FIRST_ID + n,
      cached,
    }));
    const mesh = new SyntheticMesh(etcd, await etcd.connect(), clusters);
    await mesh.#target.attach(mesh.connection, mesh.#stop.signal);
    void mesh.#target.keep(mesh.connection, mesh.#stop.signal).catch(() => undefined);
    await mesh.put([{ key: heartbeatKey, value: timestamp() }]);
    for (const cluster of clusters) await mesh.#write(cluster);
    return mesh;
  }

  /** Addresses of the endpoints of the first clusters. */
  addresses(clusters: number): string[] {
    return this.clusters
      .slice(0, clusters)
      .flatMap(shape => Array.from({ length: shape.endpoints }, (_, n) => endpointAddress(shape, n)));
  }

  /** Entries of the reader's Secret cilium-clustermesh for the first clusters. */
  entries(clusters: number): Promise<Record<string, string>> {
    const names = this.clusters.slice(0, clusters).map(each => each.name);
    return this.etcd.remoteEntries(localUser(this.etcd.cluster), names);
  }

  async put(rows: readonly EtcdRow[], remove: readonly string[] = []): Promise<void> {
    const operations = [
      ...rows.map(row => ({ key: row.key, row })),
      ...remove.map(key => ({ key, row: undefined })),
    ];
    const failed = await this.#target.apply(operations);
    for (const error of failed.values()) throw error;
  }

  async #write(cluster: Shape): Promise<void> {
    for (const kind of kinds) {
      let batch: EtcdRow[] = [];
      for (const row of rowsOf(cluster, kind)) {
        batch.push(row);
        if (batch.length < BATCH) continue;
        await this.put(batch);
        batch = [];
      }
      await this.put(batch);
    }
    const config = formatClusterConfig({
      id: cluster.id,
      syncedCanaries: true,
      cached: cluster.cached,
      maxConnectedClusters: 255,
      serviceExportsEnabled: undefined,
    });
    await this.put([
      { key: clusterConfigKey(cluster.name), value: config },
      ...kinds.map(kind => ({ key: canaryKey(kind, cluster.name, cluster.cached), value: timestamp() })),
    ]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    this.#stop.abort();
    this.connection.close();
    await this.etcd[Symbol.asyncDispose]();
  }
}
