import type { NodeRow } from '../api/crds/cilium-node.ts';
import { logOf } from '../log.ts';
import type { Change, ReadonlyTable } from '../table/table.ts';
import { nextTurn, turnIsOver } from '../table/turn.ts';
import { ClusterFolder, type ReadersOptions } from './cluster-folder.ts';
import { datapathKinds, type Kind, type MirroredKind, mirroredKinds, readKinds } from './layout.ts';
import { type ClaimedRange, findOverlaps } from './overlap.ts';
import type { RemoteClusterStatus } from './remote-status.ts';
import { rowConsumer } from './row-writers.ts';
import { type RemoteTables, remoteTables, type WritableRemoteTables } from './rows.ts';
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
  /** Clusters of which a kind is not complete yet. */
  readonly #awaited: Readonly<Record<MirroredKind, Set<string>>> = {
    nodes: new Set(),
    identities: new Set(),
    ip: new Set(),
    services: new Set(),
    endpointslices: new Set(),
    serviceexports: new Set(),
  };
  readonly #kinds: readonly Kind[];
  /** By cluster: pod ranges that it shares with others, in a line each. */
  #overlaps: ReadonlyMap<string, readonly string[]> = new Map();
  #comparing = false;
  #pause = GATHER;

  constructor(options: RemoteClustersOptions) {
    this.#options = options;
    this.#kinds = options.kinds ?? datapathKinds;
    this.tables = this.#writable;
    const { clusters, pending } = this.#writable;
    this.#folder = new ClusterFolder(options, {
      appeared: name => pending.upsert({ cluster: name }),
      vanished: name => pending.delete(name),
      added: name => {
        clusters.upsert({ cluster: name, dead: false, silent: false, controlPlaneNode: '', via: '' });
        return rowConsumer(this.#kinds, this.#writable);
      },
      removed: name => clusters.delete(name),
      synced: (name, kind) => {
        this.#awaited[kind].delete(name);
        this.#settle(kind);
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
        const { silent, controlPlaneNode, via } = cluster;
        clusters.upsert({ ...present, silent, controlPlaneNode, via });
      },
    });
    if (options.verdicts) this.#folder.follow(options.verdicts);
    const compare = ({ before, after }: Change<Pick<NodeRow, 'podCidrs'>>): void => {
      if (before?.podCidrs.join() !== after?.podCidrs.join()) this.#compareSoon();
    };
    options.nodes?.subscribe(compare);
    this.#writable.nodes.subscribe(compare);
    this.#folder.start(names => {
      for (const kind of readKinds(this.#kinds)) for (const name of names) this.#awaited[kind].add(name);
    });
    for (const kind of mirroredKinds) this.#settle(kind);
    const timer = setTimeout(() => this.#giveUp(), options.syncTimeout ?? 60_000).unref();
    options.signal.addEventListener('abort', () => clearTimeout(timer), { once: true });
  }

  /** One entry per configured cluster, by name. */
  get status(): readonly RemoteClusterStatus[] {
    const warnings = this.#overlaps;
    return this.#folder.status.map(status => ({
      ...status,
      warnings: [...status.warnings, ...(warnings.get(status.name) ?? [])],
    }));
  }

  /** What is at the other end of the connection to a cluster does not answer our probes. */
  unheardVia(name: string): void {
    this.#folder.get(name)?.unheardVia();
  }

  /** A cluster that will not come is not waited for. */
  #forgive(name: string): void {
    for (const kind of mirroredKinds) {
      this.#awaited[kind].delete(name);
      this.#settle(kind);
    }
  }

  #giveUp(): void {
    for (const kind of mirroredKinds) {
      if (!this.#awaited[kind].size) continue;
      log.warn({ kind, clusters: [...this.#awaited[kind]] }, 'going on without clusters that were not heard');
      this.#awaited[kind].clear();
      this.#settle(kind);
    }
  }

  #settle(kind: MirroredKind): void {
    const table: { readonly synced: boolean; markSynced(): void } = this.#writable[tableNames[kind]];
    if (table.synced) return;
    if (mirroredKinds.every(each => tableNames[each] !== tableNames[kind] || this.#awaited[each].size === 0))
      table.markSynced();
  }

  /** Compares the pod ranges of all nodes soon: so often that it takes one part in twenty of the time at most. */
  #compareSoon(): void {
    if (this.#comparing) return;
    this.#comparing = true;
    // Nodes of clusters that are read for the first time come one after the other, by the ten thousand.
    const pause = this.#writable.pending.size ? Math.max(FIRST_READ, this.#pause) : this.#pause;
    const timer = setTimeout(() => void this.#compare(), pause).unref();
    this.#options.signal.addEventListener('abort', () => clearTimeout(timer), { once: true });
  }

  async #compare(): Promise<void> {
    this.#comparing = false;
    const started = performance.now();
    const { cluster } = this.#options;
    const found = new Map<string, string[]>();
    for (const { a, b } of await findOverlaps(this.#ranges(), () =>
      turnIsOver() ? nextTurn() : undefined,
    )) {
      const text = `pod CIDRs overlap: ${a.cidr} of ${a.cluster}/${a.node} and ${b.cidr} of ${b.cluster}/${b.node}`;
      for (const name of [a.cluster, b.cluster]) found.set(name, [...(found.get(name) ?? []), text]);
    }
    // A file with this cluster's own name is no remote cluster, and its ranges are not that one's.
    found.delete(cluster);
    this.#overlaps = found;
    this.#pause = Math.max(GATHER, (performance.now() - started) * 20);
  }

  *#ranges(): Iterable<ClaimedRange> {
    const { cluster, nodes } = this.#options;
    for (const node of nodes?.values() ?? [])
      for (const cidr of node.podCidrs) yield { cluster, node: node.name, cidr };
    for (const node of this.#writable.nodes.values())
      for (const cidr of node.podCidrs) yield { cluster: node.cluster, node: node.name, cidr };
  }
}

/** Milliseconds after which pod ranges that have changed are compared. */
const GATHER = 50;
const FIRST_READ = 1000;

/** The table that a kind's rows are in. */
const tableNames = {
  nodes: 'nodes',
  identities: 'identities',
  ip: 'endpoints',
  services: 'services',
  endpointslices: 'services',
  serviceexports: 'serviceExports',
} as const satisfies Record<MirroredKind, keyof WritableRemoteTables>;
