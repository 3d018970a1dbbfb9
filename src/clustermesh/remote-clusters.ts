import type { NodeRow } from '../api/crds/cilium-node.ts';
import { logOf } from '../log.ts';
import type { ReadonlyTable } from '../table/table.ts';
import { ClusterFolder, type ReadersOptions } from './cluster-folder.ts';
import { datapathKinds, type Kind, kinds } from './layout.ts';
import { findOverlaps } from './overlap.ts';
import type { RemoteClusterStatus } from './remote-status.ts';
import { rowConsumer } from './row-writers.ts';
import { type RemoteTables, remoteTables } from './rows.ts';
import type { Verdicts } from './verdict-tables.ts';

export interface RemoteClustersOptions extends ReadersOptions {
  /** What is followed of each. Default: what agents need. */
  readonly kinds?: readonly Kind[];
  /** Nodes of this cluster, to find pod ranges that others claim too. */
  readonly nodes?: ReadonlyTable<NodeRow>;
  /** What our nodes' probes found. */
  readonly verdicts?: Pick<Verdicts, 'clusters' | 'remoteNodes'>;
  /** Milliseconds after which the tables count as synced even if a configured cluster has not been heard. Default 60000. */
  readonly syncTimeout?: number;
}

const log = logOf('clustermesh');

/**
 * What an agent knows of all remote clusters of its configuration folder. Each table is synced when every cluster
 * configured at start has delivered its kind, was removed, or has been given up on.
 */
export class RemoteClusters {
  readonly tables: RemoteTables;
  readonly #writable = remoteTables();
  readonly #options: RemoteClustersOptions;
  readonly #folder: ClusterFolder;
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
    const { clusters, pending } = this.#writable;
    this.#folder = new ClusterFolder(options, {
      appeared: name => pending.upsert({ cluster: name }),
      vanished: name => pending.delete(name),
      added: name => {
        clusters.upsert({ cluster: name, dead: false, silent: false, controlPlaneNode: '' });
        return rowConsumer(name, this.#kinds, this.#writable);
      },
      removed: name => clusters.delete(name),
      synced: (name, kind) => {
        this.#awaited[kind as Kind].delete(name);
        this.#settle(kind as Kind);
        if (this.#folder.get(name)?.complete) pending.delete(name);
      },
      forgiven: name => this.#forgive(name),
      dead: (name, dead) => {
        log.warn(
          { cluster: name },
          dead ? 'remote cluster is dead: nothing new is sent to it' : 'remote cluster is used again',
        );
        const present = clusters.get(name);
        if (present) clusters.upsert({ ...present, dead });
      },
      changed: name => {
        const cluster = this.#folder.get(name);
        const present = clusters.get(name);
        if (!cluster || !present) return;
        const { silent, controlPlaneNode } = cluster;
        clusters.upsert({ ...present, silent, controlPlaneNode });
      },
    });
    if (options.verdicts) this.#folder.follow(options.verdicts);
    this.#folder.start(names => {
      for (const kind of this.#kinds) for (const name of names) this.#awaited[kind].add(name);
    });
    for (const kind of kinds) this.#settle(kind);
    const timer = setTimeout(() => this.#giveUp(), options.syncTimeout ?? 60_000).unref();
    options.signal.addEventListener('abort', () => clearTimeout(timer), { once: true });
  }

  /** One entry per configured cluster, by name. */
  get status(): readonly RemoteClusterStatus[] {
    const warnings = this.#warnings();
    // A file with this cluster's own name is no remote cluster, and its ranges are not that one's.
    warnings.delete(this.#options.cluster);
    return this.#folder.status.map(status => ({
      ...status,
      warnings: [...status.warnings, ...(warnings.get(status.name) ?? [])],
    }));
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
