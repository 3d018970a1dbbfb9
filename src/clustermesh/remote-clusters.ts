import type { NodeRow } from '../api/crds/cilium-node.ts';
import type { MaxClusters } from '../api/identity-number.ts';
import { logOf } from '../log.ts';
import type { ReadonlyTable } from '../table/table.ts';
import { followConfigFolder } from './config-folder.ts';
import { datapathKinds, type Kind, kinds } from './layout.ts';
import { findOverlaps } from './overlap.ts';
import { RemoteCluster, type Timing } from './remote-cluster.ts';
import { parseRemoteConfig } from './remote-config.ts';
import type { RemoteClusterStatus } from './remote-status.ts';
import { type RemoteTables, remoteTables } from './rows.ts';
import type { ClusterVerdict } from './verdicts.ts';

export interface RemoteClustersOptions {
  /** Folder of configuration files, one per remote cluster and named after it. */
  readonly folder: string;
  /** This cluster. */
  readonly cluster: string;
  readonly clusterId: number;
  readonly maxClusters: MaxClusters;
  /** What is followed of each. Default: what agents need. */
  readonly kinds?: readonly Kind[];
  /** Nodes of this cluster, to find pod ranges that others claim too. */
  readonly nodes?: ReadonlyTable<NodeRow>;
  /** Clusters of which no node answers our nodes' probes. */
  readonly unheard?: ReadonlyTable<ClusterVerdict>;
  /** Milliseconds after which the tables count as synced even if a configured cluster has not been heard. Default 60000. */
  readonly syncTimeout?: number;
  readonly timing?: Timing;
  readonly silence?: number;
  readonly signal: AbortSignal;
}

const log = logOf('clustermesh');

/**
 * All remote clusters of the configuration folder, and the tables of what they say. Each table is synced when
 * every cluster configured at start has delivered its kind, was removed, or has been given up on. When
 * `signal` aborts nothing is drained: a restart is no failure.
 */
export class RemoteClusters {
  readonly tables: RemoteTables;
  readonly #writable = remoteTables();
  readonly #options: RemoteClustersOptions;
  readonly #clusters = new Map<string, RemoteCluster>();
  readonly #texts = new Map<string, string>();
  /** Files that are no usable configuration: name → why. */
  readonly #broken = new Map<string, string>();
  readonly #ids = new Map<number, string>();
  readonly #leaving = new Map<string, Promise<void>>();
  readonly #awaited: Readonly<Record<Kind, Set<string>>> = {
    nodes: new Set(),
    identities: new Set(),
    ip: new Set(),
    services: new Set(),
    serviceexports: new Set(),
  };
  readonly #kinds: readonly Kind[];

  constructor(options: RemoteClustersOptions) {
    this.#options = options;
    this.#kinds = options.kinds ?? datapathKinds;
    this.tables = this.#writable;
    const { signal } = options;
    let first = true;
    followConfigFolder(
      options.folder,
      files => {
        if (first) {
          first = false;
          for (const kind of this.#kinds) for (const name of files.keys()) this.#awaited[kind].add(name);
        }
        this.#configure(files);
      },
      signal,
    );
    for (const kind of kinds) this.#settle(kind);
    options.unheard?.subscribe(({ key, after }) => this.#clusters.get(key)?.unheard(after));
    const timer = setTimeout(() => this.#giveUp(), options.syncTimeout ?? 60_000).unref();
    signal.addEventListener(
      'abort',
      () => {
        clearTimeout(timer);
        for (const cluster of this.#clusters.values()) cluster.stop();
      },
      { once: true },
    );
  }

  /** One entry per configured cluster, by name. */
  get status(): readonly RemoteClusterStatus[] {
    const warnings = this.#warnings();
    const running = [...this.#clusters.values()].map(({ status }) => ({
      ...status,
      warnings: [...status.warnings, ...(warnings.get(status.name) ?? [])],
    }));
    const broken = [...this.#broken].filter(([name]) => !this.#clusters.has(name));
    return [...running, ...broken.map(([name, reason]) => brokenStatus(name, reason))].sort((a, b) =>
      a.name < b.name ? -1 : 1,
    );
  }

  /** Problems of the mesh in one line each, for the status of the daemon. */
  get warnings(): readonly string[] {
    return this.status.flatMap(({ name, refused, warnings }) => {
      const keys = Object.values(refused);
      return [
        ...warnings.map(each => `cluster ${name}: ${each}`),
        ...(keys.length ? [`cluster ${name}: ${keys.length} values refused, first: ${keys[0]}`] : []),
      ];
    });
  }

  #configure(files: ReadonlyMap<string, string>): void {
    for (const name of this.#clusters.keys()) if (!files.has(name)) this.#remove(name);
    for (const name of this.#broken.keys()) if (!files.has(name)) this.#broken.delete(name);
    for (const [name, text] of files) {
      if (this.#texts.get(name) === text) continue;
      if (!this.#texts.has(name) && name !== this.#options.cluster)
        this.#writable.pending.upsert({ cluster: name });
      this.#texts.set(name, text);
      if (name === this.#options.cluster) {
        this.#broken.set(name, "its configuration is ignored: it has this cluster's own name");
        this.#forgive(name);
        continue;
      }
      try {
        const remote = parseRemoteConfig(name, text);
        this.#broken.delete(name);
        const present = this.#clusters.get(name);
        if (present) present.configure(remote);
        else this.#add(name, text);
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        log.error({ cluster: name, reason }, 'configuration of a remote cluster cannot be used');
        this.#broken.set(name, reason);
        this.#forgive(name);
      }
    }
    for (const name of this.#texts.keys())
      if (!files.has(name)) {
        this.#texts.delete(name);
        this.#writable.pending.delete(name);
      }
  }

  #add(name: string, text: string): void {
    const leaving = this.#leaving.get(name);
    if (leaving) {
      // Added again while it is being removed: first everything old goes.
      void leaving.then(() => {
        if (this.#texts.get(name) === text && !this.#clusters.has(name)) this.#add(name, text);
      });
      return;
    }
    const { maxClusters, timing, silence } = this.#options;
    log.info({ cluster: name }, 'remote cluster configured');
    const cluster = new RemoteCluster(parseRemoteConfig(name, text), {
      cluster: name,
      reader: this.#options.cluster,
      maxClusters,
      kinds: this.#kinds,
      tables: this.#writable,
      reserve: id => this.#reserve(name, id),
      release: () => this.#release(name),
      onSynced: kind => {
        log.info({ cluster: name, kind }, 'remote cluster synchronized');
        this.#awaited[kind].delete(name);
        this.#settle(kind);
        if (this.#clusters.get(name)?.complete) this.#writable.pending.delete(name);
      },
      onDead: dead => {
        log.warn(
          { cluster: name },
          dead ? 'remote cluster is dead: nothing new is sent to it' : 'remote cluster is used again',
        );
        this.#writable.clusters.upsert({ cluster: name, dead });
      },
      onFailure: (failure, attempt) => {
        const level = attempt === 1 || attempt % 10 === 0 ? 'warn' : 'debug';
        log[level](
          { cluster: name, attempt, layer: failure.layer, reason: failure.message },
          'remote cluster',
        );
      },
      onRepaired: keys =>
        log.warn({ cluster: name, count: keys.length, first: keys[0] }, 'not as in its etcd, and mended'),
      onRefused: (key, error) => log.warn({ cluster: name, key, reason: error.message }, 'value refused'),
      timing,
      ...(silence === undefined ? {} : { silence }),
    });
    this.#clusters.set(name, cluster);
    this.#writable.clusters.upsert({ cluster: name, dead: false });
    cluster.unheard(this.#options.unheard?.get(name));
  }

  #remove(name: string): void {
    const cluster = this.#clusters.get(name);
    if (!cluster) return;
    this.#clusters.delete(name);
    this.#forgive(name);
    log.info({ cluster: name }, 'remote cluster removed');
    const done = cluster.remove().finally(() => {
      this.#leaving.delete(name);
      this.#writable.clusters.delete(name);
    });
    this.#leaving.set(name, done);
  }

  #reserve(name: string, id: number): void {
    if (id === this.#options.clusterId)
      throw new Error(`cluster ID ${id} of ${name} is that of this cluster (${this.#options.cluster})`);
    const holder = this.#ids.get(id);
    if (holder !== undefined && holder !== name)
      throw new Error(`cluster ID ${id} of ${name} is also that of ${holder}, which was there first`);
    this.#release(name);
    this.#ids.set(id, name);
  }

  #release(name: string): void {
    for (const [id, holder] of this.#ids) if (holder === name) this.#ids.delete(id);
  }

  /** A cluster that will not come is not waited for. */
  #forgive(name: string): void {
    for (const kind of kinds) {
      this.#awaited[kind].delete(name);
      this.#settle(kind);
    }
  }

  #giveUp(): void {
    for (const kind of kinds) {
      if (!this.#awaited[kind].size) continue;
      log.warn({ kind, clusters: [...this.#awaited[kind]] }, 'going on without clusters that were not heard');
      this.#awaited[kind].clear();
      this.#settle(kind);
    }
  }

  #settle(kind: Kind): void {
    const table: { readonly synced: boolean; markSynced(): void } = this.#writable[tableOf(kind)];
    if (!table.synced && this.#awaited[kind].size === 0) table.markSynced();
  }

  #warnings(): Map<string, string[]> {
    const { cluster, nodes } = this.#options;
    const own = [...(nodes?.values() ?? [])].flatMap(node =>
      node.podCidrs.map(cidr => ({ cluster, node: node.name, cidr })),
    );
    const theirs = [...this.#writable.nodes.values()].flatMap(node =>
      node.podCidrs.map(cidr => ({ cluster: node.cluster, node: node.name, cidr })),
    );
    const found = new Map<string, string[]>();
    for (const { a, b } of findOverlaps([...own, ...theirs])) {
      const text = `pod CIDRs overlap: ${a.cidr} of ${a.cluster}/${a.node} and ${b.cidr} of ${b.cluster}/${b.node}`;
      for (const name of [a.cluster, b.cluster]) found.set(name, [...(found.get(name) ?? []), text]);
    }
    return found;
  }
}

/** Name of the table that a kind's rows are in. */
function tableOf(kind: Kind): 'nodes' | 'identities' | 'endpoints' | 'services' | 'serviceExports' {
  return kind === 'ip' ? 'endpoints' : kind === 'serviceexports' ? 'serviceExports' : kind;
}

/** The status of a file that is no usable configuration. */
function brokenStatus(name: string, reason: string): RemoteClusterStatus {
  return {
    name,
    ready: false,
    state: 'refused',
    status: `configuration: ${reason}`,
    connected: false,
    endpoint: undefined,
    etcdClusterId: undefined,
    clusterId: undefined,
    cached: false,
    synced: {},
    counts: {},
    failures: 0,
    repaired: 0,
    lastFailure: undefined,
    heartbeatAge: undefined,
    disconnectedAge: undefined,
    lastOutage: undefined,
    deadAge: undefined,
    unheardBy: [],
    refused: {},
    warnings: [],
  };
}
