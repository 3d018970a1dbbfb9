import { timestamp } from '../kube/time.ts';
import type { EtcdConnection } from '../kvstore/connection.ts';
import { pause } from '../kvstore/session.ts';
import { type EtcdRow, EtcdTarget, type RawRow } from '../kvstore/target.ts';
import { Reconciler } from '../table/reconciler.ts';
import { type ReadonlyTable, Table } from '../table/table.ts';
import { type ClusterConfig, formatClusterConfig } from './cluster-config.ts';
import {
  blindKey,
  canaryKey,
  clusterConfigKey,
  heartbeatKey,
  type MirroredKind,
  mirroredKinds,
  objectPrefix,
  syncedPrefix,
} from './layout.ts';

export interface ExporterOptions {
  readonly cluster: string;
  /** Absent: not known yet ({@link Exporter.configure}). */
  readonly config?: ClusterConfig;
  /** They are copies of another cluster's objects, below `cilium/cache`. */
  readonly cached?: boolean;
  /** Desired keys of each kind (export.ts, mirror.ts). */
  readonly rows: Readonly<Partial<Record<MirroredKind, ReadonlyTable<RawRow>>>>;
  /** Seconds keys outlive this process. Default 900. */
  readonly ttl?: number;
  /**
   * Milliseconds between heartbeats. Default 60000: readers call a cluster silent after 120 s. A copy has none: the
   * etcd it is in has its own.
   */
  readonly heartbeat?: number;
  readonly onError?: (key: string, error: Error, attempt: number) => void;
}

/** How far the export of one kind of object is. */
export interface ExportStatus {
  readonly kind: MirroredKind;
  readonly desired: number;
  readonly pending: number;
  readonly failing: number;
  /** The canary is set: other clusters take what they read for complete. */
  readonly synced: boolean;
}

interface Part {
  readonly kind: MirroredKind;
  readonly table: ReadonlyTable<RawRow>;
  readonly target: EtcdTarget;
  readonly reconciler: Reconciler<RawRow>;
  /** Counts losses, so that a canary set for an older state is known to be old. */
  losses: number;
}

/**
 * Keeps the local mesh etcd equal to what the cluster exports, or to what a mirror knows of another one: objects of
 * each kind, then the canary that says the kind is complete, the cluster's configuration, and a heartbeat. When etcd lost keys, the canary of their
 * kind goes first and comes back when everything is written again, so that no reader takes half for all.
 */
export class Exporter {
  readonly #options: ExporterOptions;
  readonly #parts: readonly Part[];
  readonly #meta: Table<EtcdRow>;
  readonly #metaTarget: EtcdTarget;
  readonly #signal: AbortSignal;

  constructor(options: ExporterOptions, signal: AbortSignal) {
    this.#options = options;
    this.#signal = signal;
    const { cluster, cached = false, rows, onError } = options;
    const ttl = options.ttl ?? 900;
    const reconcilerOptions = {
      signal,
      batch: 128,
      backoff: { first: 20, max: 2000 },
      ...(onError ? { onError } : {}),
    };
    this.#meta = new Table<EtcdRow>({ name: 'export-meta', keyOf: row => row.key });
    this.#metaTarget = new EtcdTarget({
      ttl,
      prefixes: [syncedPrefix(cluster)],
      keys: cached ? [clusterConfigKey(cluster)] : [clusterConfigKey(cluster), blindKey],
    });
    const metaReconciler = new Reconciler(this.#meta, this.#metaTarget, reconcilerOptions);
    this.#metaTarget.onLost = () => void metaReconciler.repair();
    this.#parts = mirroredKinds.flatMap(kind => {
      const table = rows[kind];
      if (!table) return [];
      const target = new EtcdTarget({ ttl, prefixes: [objectPrefix(kind, cluster, cached)] });
      const reconciler = new Reconciler(table, target, reconcilerOptions);
      const part: Part = { kind, table, target, reconciler, losses: 0 };
      target.onLost = () => void this.#recover(part);
      return part;
    });
    if (options.config) this.configure(options.config);
    if (!cached) {
      this.#beat();
      const timer = setInterval(() => this.#beat(), options.heartbeat ?? 60_000);
      signal.addEventListener('abort', () => clearInterval(timer), { once: true });
    }
    void this.#start();
  }

  /** Says from now on what the cluster is. */
  configure(config: ClusterConfig): void {
    this.#put(clusterConfigKey(this.#options.cluster), formatClusterConfig(config));
  }

  /** Says from now on whether this cluster can see its own nodes die. */
  blind(blind: boolean): void {
    if (blind) this.#put(blindKey, timestamp());
    else this.#meta.delete(blindKey);
  }

  /** Resolves when everything that is known now has been written, or has failed once. */
  async settled(): Promise<void> {
    await Promise.all(this.#parts.map(part => part.reconciler.whenSettled()));
  }

  /** Everything this cluster exports is in its etcd. */
  get synced(): boolean {
    return this.status.every(each => each.synced);
  }

  get status(): readonly ExportStatus[] {
    return this.#parts.map(({ kind, table, reconciler }) => ({
      kind,
      desired: table.size,
      pending: reconciler.status.pending,
      failing: reconciler.status.failing.size,
      synced: this.#meta.has(this.#canary(kind)),
    }));
  }

  /** Writes through `connection` until `signal` aborts or it fails: the body of keepSession. */
  async serve(connection: EtcdConnection, signal: AbortSignal): Promise<void> {
    // Losses of objects are found, and their canaries withdrawn, before any canary can be written.
    for (const { target } of this.#parts) await target.attach(connection, signal);
    await this.#metaTarget.attach(connection, signal);
    await Promise.all(
      [...this.#parts.map(each => each.target), this.#metaTarget].map(each => each.keep(connection, signal)),
    );
  }

  async #start(): Promise<void> {
    await Promise.all(this.#parts.map(part => this.#announce(part)));
    // Only now: canaries of an earlier process stay as long as the objects they speak of.
    this.#meta.markSynced();
  }

  async #recover(part: Part): Promise<void> {
    part.losses++;
    this.#meta.delete(this.#canary(part.kind));
    await part.reconciler.repair();
    await this.#announce(part);
  }

  /** Sets the canary once everything desired is stored. */
  async #announce(part: Part): Promise<void> {
    const { losses } = part;
    for (;;) {
      await part.reconciler.whenSettled();
      if (part.losses !== losses || this.#signal.aborted) return;
      const { pending, failing } = part.reconciler.status;
      if (!pending && !failing.size) break;
      await pause(20, this.#signal);
    }
    this.#put(this.#canary(part.kind), timestamp());
  }

  #canary(kind: MirroredKind): string {
    return canaryKey(kind, this.#options.cluster, this.#options.cached);
  }

  #beat(): void {
    this.#put(heartbeatKey, timestamp());
  }

  #put(key: string, value: string): void {
    this.#meta.upsert({ key, value });
  }
}
