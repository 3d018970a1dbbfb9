/** Clusters that export into real etcds, and the configuration folder of cluster us, which reads them. */
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findEtcd, LocalEtcd } from '../../test/etcd/local-etcd.ts';
import type { TlsFiles } from '../kvstore/connection.ts';
import { keepSession } from '../kvstore/session.ts';
import type { EtcdRow, RawRow } from '../kvstore/target.ts';
import { Table } from '../table/table.ts';
import { adminUser, remoteUser, syncRemoteUsers } from './access.ts';
import type { ClusterConfig } from './cluster-config.ts';
import { Exporter } from './exporter.ts';
import { type Kind, kinds } from './layout.ts';
import { RemoteClusters, type RemoteClustersOptions } from './remote-clusters.ts';
import type { RemoteClusterStatus } from './remote-status.ts';
import type { RemoteNodeVerdict } from './verdicts.ts';

export const binary = findEtcd();
export const skip = binary ? false : 'no etcd executable: put one into the PATH';
export const timing = {
  dialTimeout: 1000,
  pingInterval: 300,
  pingTimeout: 300,
  backoff: { first: 20, max: 200 },
};

export function row(cluster: string, id: number, kind: Kind, name: string): EtcdRow {
  const identity = id * 65536 + 300;
  const values = {
    nodes: {
      key: `cilium/state/nodes/v1/${cluster}/${name}`,
      value: {
        Name: name,
        Cluster: cluster,
        ClusterID: id,
        IPAddresses: [{ Type: 'InternalIP', IP: '172.18.2.2' }],
        IPv4AllocCIDR: { IP: `10.${id}.0.0`, Mask: '////AA==' },
      },
    },
    identities: {
      key: `cilium/state/identities/v1/id/${identity}`,
      value: `k8s:app=${name};k8s:io.cilium.k8s.policy.cluster=${cluster};`,
    },
    ip: {
      key: `cilium/state/ip/v1/default/${name}`,
      value: { IP: name, Mask: null, HostIP: '172.18.2.2', ID: identity },
    },
    services: {
      key: `cilium/state/services/v1/${cluster}/shop/${name}`,
      value: {
        cluster,
        namespace: 'shop',
        name,
        backends: { [`10.${id}.0.7`]: { http: { Protocol: 'TCP', Port: 8080 } } },
        shared: true,
        clusterID: id,
      },
    },
    serviceexports: {
      key: `cilium/state/serviceexports/v1/${cluster}/shop/${name}`,
      value: {
        cluster,
        namespace: 'shop',
        name,
        exportCreationTimestamp: '2026-02-03T04:05:06Z',
        ports: [{ name: 'http', protocol: 'TCP', port: 80 }],
        type: 'ClusterSetIP',
        sessionAffinity: 'None',
      },
    },
  };
  const { key, value } = values[kind];
  return { key, value: typeof value === 'string' ? value : JSON.stringify(value) };
}

/** A cluster that exports into a real etcd. */
export class Cluster implements AsyncDisposable {
  readonly name: string;
  readonly id: number;
  readonly etcd: LocalEtcd;
  readonly rows: Record<Kind, Table<EtcdRow>>;
  readonly exporter: Exporter;
  readonly config: ClusterConfig;
  /** Clusters that may read. */
  admitted: readonly string[] = ['us', 'us2'];
  readonly #stop = new AbortController();
  #session: Promise<void> = Promise.resolve();

  private constructor(name: string, id: number, etcd: LocalEtcd, slices?: Table<RawRow>, slicesOnly = false) {
    this.name = name;
    this.id = id;
    this.etcd = etcd;
    const table = () => new Table<EtcdRow>({ name: 'rows', keyOf: each => each.key });
    this.rows = {
      nodes: table(),
      identities: table(),
      ip: table(),
      services: table(),
      serviceexports: table(),
    };
    this.config = {
      id,
      syncedCanaries: true,
      cached: false,
      maxConnectedClusters: 255,
      serviceExportsEnabled: slices ? true : undefined,
      node: `${name}-control-plane`,
      ...(slices
        ? { endpointSlicesExportMode: slicesOnly ? 'endpointslices-only' : 'services-and-endpointslices' }
        : {}),
    };
    const { services, ...others } = this.rows;
    const rows = {
      ...others,
      ...(slicesOnly ? {} : { services }),
      ...(slices ? { endpointslices: slices } : {}),
    };
    this.exporter = new Exporter(
      { cluster: name, config: this.config, rows, ttl: 30, heartbeat: 100 },
      this.#stop.signal,
    );
  }

  /** With `slices` it exports all that a newer Cilium does, or what one does that exports no services beside them. */
  static async start(
    name: string,
    id: number,
    slices?: Table<RawRow>,
    slicesOnly?: boolean,
  ): Promise<Cluster> {
    const cluster = new Cluster(name, id, await LocalEtcd.start(name, binary!), slices, slicesOnly);
    const tls = await cluster.etcd.certificate(adminUser(name));
    cluster.#session = keepSession(
      { endpoints: () => [cluster.etcd.endpoint], tls, ...timing },
      cluster.#stop.signal,
      async (connection, signal) => {
        await syncRemoteUsers(connection, cluster.admitted);
        await cluster.exporter.serve(connection, signal);
      },
    );
    return cluster;
  }

  fill(): void {
    for (const kind of kinds) {
      this.rows[kind].upsert(row(this.name, this.id, kind, kind === 'ip' ? `10.${this.id}.0.7` : 'a'));
      this.rows[kind].markSynced();
    }
  }

  /** Its clustermesh-apiserver dies; its etcd goes on. */
  async stopExport(): Promise<void> {
    this.#stop.abort();
    await this.#session;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopExport();
    await this.etcd[Symbol.asyncDispose]();
  }
}

/** etcd client YAML for etcds of this machine. */
export function configuration(ports: readonly number[], { ca, cert, key }: TlsFiles): string {
  const endpoints = ports.map(port => `"https://127.0.0.1:${port}"`).join(', ');
  return `endpoints: [${endpoints}]\ntrusted-ca-file: ${ca}\ncert-file: ${cert}\nkey-file: ${key}\n`;
}

/** The configuration folder of cluster us, swapped as a volume of Kubernetes is. */
export class Folder implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), 'isthmus-mesh-'));
  readonly #files = new Map<string, string>();
  #version = 0;

  async add(
    cluster: Cluster,
    name = cluster.name,
    commonName = remoteUser('us'),
    days = 1095,
  ): Promise<void> {
    const { ca, cert, key } = await cluster.etcd.certificate(commonName, days);
    const { port } = cluster.etcd.endpoint;
    const host = `${cluster.name}.mesh.cilium.io`;
    this.set(
      name,
      `endpoints:\n- https://${host}:${port}\ncilium-host-aliases:\n- hostname: ${host}\n  ips: [127.0.0.1]\n` +
        `trusted-ca-file: ${ca}\ncert-file: ${cert}\nkey-file: ${key}\n`,
    );
  }

  set(name: string, text: string | undefined): void {
    if (text === undefined) this.#files.delete(name);
    else this.#files.set(name, text);
    const folder = join(this.path, `..${++this.#version}`);
    mkdirSync(folder);
    for (const [file, content] of this.#files) writeFileSync(join(folder, file), content);
    symlinkSync(folder, join(this.path, '..data_tmp'));
    renameSync(join(this.path, '..data_tmp'), join(this.path, '..data'));
    for (const file of this.#files.keys())
      try {
        symlinkSync(join('..data', file), join(this.path, file));
      } catch {
        // It is there since an earlier version.
      }
    if (text === undefined) unlinkSync(join(this.path, name));
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** Cluster us, as far as it reads the clusters in its configuration folder. */
export class Reader implements Disposable {
  readonly clusters: RemoteClusters;
  readonly tables: RemoteClusters['tables'];
  readonly #stop = new AbortController();

  constructor(folder: Folder, more: Partial<RemoteClustersOptions> = {}) {
    this.clusters = new RemoteClusters({
      folder: folder.path,
      cluster: 'us',
      clusterId: 1,
      maxClusters: 255,
      signal: this.#stop.signal,
      timing,
      ...more,
    });
    this.tables = this.clusters.tables;
  }

  readonly of = (name: string): RemoteClusterStatus | undefined =>
    this.clusters.status.find(each => each.name === name);

  [Symbol.dispose](): void {
    this.#stop.abort();
  }
}

/** Cluster eu, which exports a row of each kind, and us, which reads it. */
export async function euReadByUs(more?: Partial<RemoteClustersOptions>) {
  await using stack = new AsyncDisposableStack();
  const eu = stack.use(await Cluster.start('eu', 2));
  eu.fill();
  const folder = stack.use(new Folder());
  await folder.add(eu);
  const { tables, of, clusters } = stack.use(new Reader(folder, more));
  const all = stack.move();
  return { eu, folder, tables, of, clusters, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

/** What nodes of us say of single nodes of others, as `Verdicts` has it. */
export const remoteNodeVerdicts = (): Table<RemoteNodeVerdict> =>
  new Table<RemoteNodeVerdict>({ name: 'remote-node-verdicts', keyOf: row => `${row.cluster}/${row.node}` });
