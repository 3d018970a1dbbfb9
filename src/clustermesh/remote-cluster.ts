import { Code, ConnectError } from '@connectrpc/connect';
import type { MaxClusters } from '../api/identity-number.ts';
import type { EtcdConnection } from '../kvstore/connection.ts';
import { formatEndpoint } from '../kvstore/endpoint.ts';
import { EtcdFailure, type Failure } from '../kvstore/failure.ts';
import { type Entry, encodeKey, getKey } from '../kvstore/range.ts';
import { keepSession, pause, type SessionOptions } from '../kvstore/session.ts';
import { PrefixFollower, type PrefixSink } from '../kvstore/watch.ts';
import type { Table } from '../table/table.ts';
import { certificateEnd } from './certificate-end.ts';
import { type ClusterConfig, parseClusterConfig } from './cluster-config.ts';
import {
  canaryKey,
  clusterConfigKey,
  heartbeatKey,
  type Kind,
  objectPrefix,
  syncedPrefix,
} from './layout.ts';
import type { RemoteConfig } from './remote-config.ts';
import type { RemoteClusterStatus, RemoteState } from './remote-status.ts';
import type { WritableRemoteTables } from './rows.ts';
import { parseServiceExport } from './service-export.ts';
import { type Origin, parseAddress, parseIdentity, parseNode, parseService } from './values.ts';
import type { ClusterVerdict } from './verdicts.ts';

export type Timing = Pick<
  SessionOptions,
  'dialTimeout' | 'pingInterval' | 'pingTimeout' | 'requestTimeout' | 'backoff' | 'stagger'
>;

export interface RemoteClusterOptions {
  readonly cluster: string;
  /** This cluster's own name. */
  readonly reader: string;
  readonly maxClusters: MaxClusters;
  /** What is followed of it. */
  readonly kinds: readonly Kind[];
  readonly tables: WritableRemoteTables;
  /** Claims a cluster ID for this cluster. @throws Error when another has it */
  readonly reserve: (id: number) => void;
  readonly release: () => void;
  /** A kind of object was listed completely for the first time. */
  readonly onSynced: (kind: Kind) => void;
  /** It is dead, or is not any more. */
  readonly onDead?: (dead: boolean) => void;
  readonly onFailure?: (failure: Failure, attempt: number) => void;
  readonly onRefused?: (key: string, error: Error) => void;
  readonly timing?: Timing | undefined;
  /** Entries were not as in its etcd though the watch was alive, and have been mended. */
  readonly onRepaired?: (keys: readonly string[]) => void;
  /** Milliseconds between comparisons of what is known with what its etcd has. Default 5 minutes. */
  readonly verify?: number;
  /** Seconds without a heartbeat after which the cluster is silent and another endpoint is tried. Default 120. */
  readonly silence?: number;
}

/** Milliseconds within which a control plane has to answer a question while none of its nodes answers probes. */
const answerWithin = 500;
/** Milliseconds between looks at a cluster that is dead or may be. */
const lookEvery = 250;
/** Milliseconds after the first attempt to connect before which an absent connection means nothing. */
const grace = 3000;
/** Milliseconds for which nodes of a cluster that was dead answer again until it is used without its control plane. */
const trustNodesAfter = 30_000;

/** At most so many refused values are kept for status: one bad writer must not fill the memory. */
const refusedKept = 100;

/**
 * One remote cluster: follows its etcd, read only, and writes what it says into the tables. What is known stays
 * while the cluster cannot be heard; it goes when the cluster is removed, or is another one under the old name.
 */
export class RemoteCluster {
  readonly #options: RemoteClusterOptions;
  readonly #stop = new AbortController();
  readonly #followers = new Map<Kind, PrefixFollower>();
  readonly #synced = new Set<Kind>();
  readonly #refused = new Map<string, string>();
  readonly #kinds: readonly Kind[];
  readonly #silence: number;
  #remote: RemoteConfig;
  #restart = new AbortController();
  #config: ClusterConfig | undefined;
  #connection: EtcdConnection | undefined;
  #lastEtcd: bigint | undefined;
  #refusal: string | undefined;
  /** Since when its etcd, reached and known by its CA, has told us nothing but that we may not read. */
  #deniedSince: number | undefined;
  #failures = 0;
  #repaired = 0;
  #lastFailure: (Failure & { readonly at: number }) | undefined;
  #heartbeat: { readonly value: string; readonly at: number } | undefined;
  #lostAt: number | undefined;
  /** Since the connection was lost on which everything had been read. */
  #outdatedAt: number | undefined;
  /** When everything had been read again after that, and how long it took. */
  #outage: { readonly milliseconds: number; readonly end: number } | undefined;
  readonly #startedAt = performance.now();
  /** Kinds that were listed whole on the present connection. */
  readonly #confirmed = new Set<Kind>();
  /** Own nodes that say that no node of it answers. */
  #unheardBy: readonly string[] = [];
  /** At least one of our nodes says so. */
  #doubted = false;
  /** While it is doubted: its control plane did not answer when it was last asked. */
  #isSilent = false;
  /** When nodes of it were last said not to answer. */
  #unheardUntil = 0;
  #deadSince: number | undefined;
  #examining = false;
  readonly done: Promise<void>;

  constructor(remote: RemoteConfig, options: RemoteClusterOptions) {
    this.#remote = remote;
    this.#options = options;
    this.#kinds = options.kinds;
    this.#silence = (options.silence ?? 120) * 1000;
    this.done = this.#run();
  }

  /** Follows a changed configuration: connects anew, and what is known does not flap. */
  configure(remote: RemoteConfig): void {
    this.#remote = remote;
    this.#restart.abort();
  }

  /**
   * Takes what our nodes say of its nodes; undefined: they are heard. Silent nodes are half of a verdict: the control
   * plane is asked for the other half, from the first word against them on.
   */
  unheard(verdict: ClusterVerdict | undefined): void {
    const by = verdict?.agreed ? verdict.by : [];
    if (this.#unheardBy.length && !by.length) this.#unheardUntil = performance.now();
    this.#unheardBy = by;
    this.#doubted = verdict !== undefined;
    if (this.#isSilent && by.length) this.#setDead(true);
    if (this.#doubted && !this.#examining) void this.#examine();
  }

  /** Ends without touching what is known: the process stops. */
  stop(): void {
    this.#stop.abort();
  }

  /** Ends and removes everything that came from this cluster. */
  async remove(): Promise<void> {
    this.#stop.abort();
    await this.done;
    this.#drain();
    this.#options.release();
  }

  /** Everything that is followed was read once, on this connection or an earlier one. */
  get complete(): boolean {
    return this.#kinds.every(kind => this.#synced.has(kind));
  }

  get status(): RemoteClusterStatus {
    const now = performance.now();
    const seconds = (at: number): number => Math.round((now - at) / 100) / 10;
    const heartbeatAge = this.#heartbeat && seconds(this.#heartbeat.at);
    const state = this.#state(now);
    return {
      name: this.#options.cluster,
      ready: state === 'ready',
      state,
      status: this.#describe(state, now),
      connected: this.#connection !== undefined,
      endpoint: this.#connection && formatEndpoint(this.#connection.endpoint),
      etcdClusterId: (this.#connection?.clusterId ?? this.#lastEtcd)?.toString(16),
      clusterId: this.#config?.id,
      cached: this.#config?.cached ?? false,
      synced: byKind(this.#kinds, kind => this.#synced.has(kind)),
      counts: byKind(this.#kinds, kind => this.#followers.get(kind)?.size ?? 0),
      failures: this.#failures,
      repaired: this.#repaired,
      lastFailure: this.#lastFailure && {
        layer: this.#lastFailure.layer,
        message: this.#lastFailure.message,
        age: seconds(this.#lastFailure.at),
      },
      heartbeatAge,
      disconnectedAge: this.#connection ? 0 : this.#lostAt === undefined ? undefined : seconds(this.#lostAt),
      lastOutage: this.#outage && {
        seconds: Math.round(this.#outage.milliseconds / 100) / 10,
        age: seconds(this.#outage.end),
      },
      deadAge: this.#deadSince === undefined ? undefined : seconds(this.#deadSince),
      unheardBy: this.#unheardBy,
      refused: Object.fromEntries(this.#refused),
      warnings: [...this.#expiryWarnings(), ...this.#probeWarnings()],
    };
  }

  #state(now: number): RemoteState {
    if (this.#refusal !== undefined) return 'refused';
    if (this.#deadSince !== undefined) return 'dead';
    if (!this.#connection) return this.#synced.size && !this.#withdrawn ? 'stale' : 'disconnected';
    if (!this.complete) return this.#synced.size ? 'syncing' : 'connected';
    return this.#silentSince(now) === undefined ? 'ready' : 'stale';
  }

  #describe(state: RemoteState, now: number): string {
    const failure = this.#lastFailure ? `${this.#lastFailure.layer}: ${this.#lastFailure.message}` : '';
    if (state === 'refused') return this.#refusal ?? '';
    if (state === 'dead') return this.#describeDeath(now, failure);
    if (state === 'disconnected' && !this.#withdrawn) return failure || 'not connected yet';
    if (state === 'connected' || state === 'syncing') {
      const missing = this.#kinds.filter(kind => !this.#synced.has(kind));
      return `synchronization in progress for ${missing.map(kind => shown[kind]).join(', ')}`;
    }
    if (state === 'ready') return 'ready';
    const silent = this.#silentSince(now);
    if (this.#connection && silent !== undefined)
      return `no heartbeat for ${Math.round((now - silent) / 1000)} s: what is known of it is that old`;
    const age = this.#lostAt === undefined ? 0 : Math.round((now - this.#lostAt) / 1000);
    if (this.#withdrawn)
      return `not connected for ${age} s; before, it took back all it had told, as with clustermesh disable or uninstall: ${failure}`;
    return `not connected for ${age} s, what is known of it is that old: ${failure}`;
  }

  #describeDeath(now: number, failure: string): string {
    const what = `dead for ${Math.round((now - this.#deadSince!) / 1000)} s: no new connections are sent to it`;
    const by = this.#unheardBy.join(', ');
    if (by) return `${what}; none of its nodes answers ${by}, nor its control plane: ${failure}`;
    const back = Math.round((now - this.#unheardUntil) / 1000);
    return this.#connection
      ? `${what}; its nodes and its control plane answer again, what it says is being read`
      : `${what}; its nodes answer again for ${back} s, its control plane does not: ${failure}`;
  }

  #probeWarnings(): string[] {
    if (!this.#unheardBy.length || this.#deadSince !== undefined) return [];
    return [
      `none of its nodes answers ${this.#unheardBy.join(', ')}, but its control plane does: its backends stay in service`,
    ];
  }

  /** Everything has been read on the present connection. */
  get #isConfirmed(): boolean {
    return this.#connection !== undefined && this.#kinds.every(kind => this.#confirmed.has(kind));
  }

  /** A cluster that is in a mesh tells of its nodes at the least. */
  get #withdrawn(): boolean {
    return this.#synced.has('nodes') && this.#followers.get('nodes')?.size === 0;
  }

  /** When the last heartbeat came, if that is too long ago. */
  #silentSince(now: number): number | undefined {
    return this.#heartbeat && now - this.#heartbeat.at > this.#silence ? this.#heartbeat.at : undefined;
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      this.#restart = new AbortController();
      const remote = this.#remote;
      await keepSession(
        {
          ...this.#options.timing,
          endpoints: () => remote.endpoints,
          tls: remote.tls,
          onFailure: (failure, attempt) => this.#failed(failure, attempt),
        },
        AbortSignal.any([this.#stop.signal, this.#restart.signal]),
        (connection, signal) => this.#session(connection, signal),
      );
    }
  }

  async #session(connection: EtcdConnection, signal: AbortSignal): Promise<void> {
    const ended = new AbortController();
    const running = AbortSignal.any([signal, ended.signal]);
    const tasks: Promise<void>[] = [];
    const { promise: failed, reject } = Promise.withResolvers<never>();
    failed.catch(() => undefined);
    const follow = (follower: PrefixFollower): void => {
      tasks.push(follower.follow(connection, running).catch(reject));
    };
    try {
      const heard = Promise.withResolvers<void>();
      follow(this.#heartbeatFollower(() => heard.resolve()));
      await Promise.race([heard.promise, failed, aborted(running)]);
      if (running.aborted) return;
      this.#accept(await this.#readConfig(connection));
      this.#confirmed.clear();
      this.#connection = connection;
      this.#refusal = undefined;
      this.#deniedSince = undefined;
      const told = this.#kinds.filter(kind => this.#tells(kind));
      for (const kind of this.#kinds) if (!told.includes(kind)) this.#hasNone(kind);
      if (this.#config?.syncedCanaries)
        follow(this.#canaryFollower(told, kind => follow(this.#follower(kind))));
      else for (const kind of told) follow(this.#follower(kind));
      tasks.push(this.#watchHeartbeat(running).catch(reject));
      await Promise.race([failed, aborted(running)]);
    } finally {
      ended.abort();
      this.#lastEtcd = connection.clusterId;
      if (this.#connection) this.#lostAt = performance.now();
      if (this.#isConfirmed) this.#outdatedAt = this.#lostAt;
      this.#connection = undefined;
      await Promise.all(tasks);
    }
  }

  /** Runs while it is doubted, and until it is trusted again after that made it dead. */
  async #examine(): Promise<void> {
    this.#examining = true;
    while (!this.#stop.signal.aborted && (this.#doubted || this.#deadSince !== undefined)) {
      this.#isSilent = this.#doubted && !(await this.#answers());
      if (this.#isSilent && this.#unheardBy.length) {
        this.#setDead(true);
        // So that it is made anew at once, not when TCP has given up.
        this.#connection?.close(new EtcdFailure('etcd', `no answer within ${answerWithin} ms`));
      }
      if (!this.#unheardBy.length && this.#deadSince !== undefined) {
        if (this.#isConfirmed || performance.now() - this.#unheardUntil > trustNodesAfter)
          this.#setDead(false);
      }
      await pause(lookEvery, this.#stop.signal);
    }
    this.#isSilent = false;
    this.#examining = false;
  }

  /** Whether its control plane answers now. */
  async #answers(): Promise<boolean> {
    const connection = this.#connection;
    if (!connection) return this.#lostAt === undefined && performance.now() - this.#startedAt < grace;
    try {
      await connection.kv.range(
        { key: encodeKey(clusterConfigKey(this.#options.cluster)) },
        { timeoutMs: answerWithin },
      );
      return true;
    } catch (error) {
      // A refusal is an answer.
      const code = error instanceof ConnectError ? error.code : undefined;
      return code !== Code.DeadlineExceeded && code !== Code.Unavailable && !connection.lost.aborted;
    }
  }

  #setDead(dead: boolean): void {
    if (dead === (this.#deadSince !== undefined)) return;
    this.#deadSince = dead ? performance.now() : undefined;
    this.#options.onDead?.(dead);
  }

  async #readConfig(connection: EtcdConnection): Promise<ClusterConfig> {
    const { cluster, maxClusters } = this.#options;
    const key = clusterConfigKey(cluster);
    let entry: Entry | undefined;
    try {
      entry = await getKey(connection, key);
    } catch (error) {
      if (!(error instanceof ConnectError) || error.code !== Code.PermissionDenied) throw error;
      throw new EtcdFailure(
        'authentication',
        `${key} may not be read: this cluster is not among the users of that etcd, or it belongs to a cluster of another name`,
        { cause: error },
      );
    }
    if (!entry)
      throw new EtcdFailure(
        'etcd',
        `remote cluster configuration required but not found (${key}): its clustermesh-apiserver has not written it yet, or the cluster has another name`,
      );
    try {
      return parseClusterConfig(cluster, entry.value, maxClusters);
    } catch (error) {
      this.#refusal = messageOf(error);
      throw error;
    }
  }

  /** Takes a configuration over; a cluster that has another ID now is a different one, and starts empty. */
  #accept(config: ClusterConfig): void {
    const before = this.#config;
    const moved = before && (before.id !== config.id || before.cached !== config.cached);
    if (moved) this.#drain();
    if (moved && before.id !== config.id) this.#options.release();
    try {
      this.#options.reserve(config.id);
    } catch (error) {
      this.#refusal = messageOf(error);
      this.#config = undefined;
      throw error;
    }
    this.#config = config;
  }

  #heartbeatFollower(onListed: () => void): PrefixFollower {
    return new PrefixFollower(heartbeatKey, {
      put: ({ value }) => {
        // A list repeats what was heard before: only a new value is a sign of life.
        if (value !== this.#heartbeat?.value) this.#heartbeat = { value, at: performance.now() };
      },
      delete: () => undefined,
      listed: () => {
        // A cluster that never beat is silent from the day it was met.
        this.#heartbeat ??= { value: '', at: performance.now() };
        onListed();
      },
    });
  }

  /** Rejects when the cluster has been silent for long and this session has not changed that. */
  async #watchHeartbeat(signal: AbortSignal): Promise<void> {
    const patience = performance.now() + this.#silence / 4;
    while (!signal.aborted) {
      const now = performance.now();
      const silent = this.#silentSince(now);
      if (silent !== undefined && now > patience)
        throw new EtcdFailure('etcd', `no heartbeat for ${Math.round((now - silent) / 1000)} s`);
      await pause(this.#silence / 20, signal);
    }
  }

  /** A writer that knows nothing of MCS-API never says that its exports are complete: it has none. */
  #tells(kind: Kind): boolean {
    return kind !== 'serviceexports' || this.#config?.serviceExportsEnabled !== undefined;
  }

  #hasNone(kind: Kind): void {
    this.#followers.get(kind)?.drain();
    this.#followers.delete(kind);
    this.#listed(kind);
  }

  #listed(kind: Kind): void {
    this.#confirmed.add(kind);
    if (this.#outdatedAt !== undefined && this.#isConfirmed) {
      const end = performance.now();
      this.#outage = { milliseconds: end - this.#outdatedAt, end };
      this.#outdatedAt = undefined;
    }
    if (this.#synced.has(kind)) return;
    this.#synced.add(kind);
    this.#options.onSynced(kind);
  }

  #canaryFollower(kinds: readonly Kind[], start: (kind: Kind) => void): PrefixFollower {
    const { cluster } = this.#options;
    const cached = this.#config?.cached ?? false;
    const waiting = new Map(kinds.map(kind => [canaryKey(kind, cluster, cached), kind]));
    return new PrefixFollower(syncedPrefix(cluster), {
      put: ({ key }) => {
        const kind = waiting.get(key);
        if (kind === undefined) return;
        waiting.delete(key);
        start(kind);
      },
      delete: () => undefined,
      listed: () => undefined,
    });
  }

  #follower(kind: Kind): PrefixFollower {
    const { cluster } = this.#options;
    const config = this.#config!;
    const prefix = objectPrefix(kind, cluster, config.cached);
    const known = this.#followers.get(kind);
    if (known?.prefix === prefix) return known;
    const origin: Origin = { cluster, clusterId: config.id, maxClusters: this.#options.maxClusters };
    const { tables } = this.#options;
    const follower = {
      nodes: () => this.#writer('nodes', prefix, origin, tables.nodes, parseNode),
      identities: () => this.#writer('identities', prefix, origin, tables.identities, parseIdentity),
      ip: () => this.#writer('ip', prefix, origin, tables.endpoints, parseAddress),
      services: () => this.#writer('services', prefix, origin, tables.services, parseService),
      serviceexports: () =>
        this.#writer('serviceexports', prefix, origin, tables.serviceExports, parseServiceExport),
    }[kind]();
    this.#followers.set(kind, follower);
    return follower;
  }

  /** A follower that parses values into rows of a table. */
  #writer<Row>(
    kind: Kind,
    prefix: string,
    origin: Origin,
    table: Table<Row>,
    parse: (key: string, rest: string, value: string, origin: Origin) => Row | undefined,
  ): PrefixFollower {
    const rowOf = new Map<string, string>();
    const forget = (key: string): void => {
      const row = rowOf.get(key);
      rowOf.delete(key);
      if (row !== undefined) table.delete(row);
    };
    const sink: PrefixSink = {
      put: ({ key, value }) => {
        let row: Row | undefined;
        try {
          row = parse(key, key.slice(prefix.length), value, origin);
        } catch (error) {
          this.#refuse(key, error);
          return;
        }
        this.#refused.delete(key);
        if (row === undefined) return forget(key);
        rowOf.set(key, table.keyOf(row));
        table.upsert(row);
      },
      delete: key => {
        this.#refused.delete(key);
        forget(key);
      },
      listed: () => this.#listed(kind),
    };
    return new PrefixFollower(prefix, sink, {
      verify: this.#options.verify ?? verifyEvery,
      onRepaired: keys => {
        this.#repaired += keys.length;
        this.#options.onRepaired?.(keys);
      },
    });
  }

  #refuse(key: string, error: unknown): void {
    const reason = error instanceof Error ? error : new Error(String(error));
    if (this.#refused.get(key) === reason.message) return; // said before: a list repeats what a watch told
    if (this.#refused.size < refusedKept || this.#refused.has(key)) this.#refused.set(key, reason.message);
    this.#options.onRefused?.(key, reason);
  }

  /**
   * Only the other cluster can sign a new certificate for us, and nobody there may write here: a person with rights in
   * both renews it, by another `connect`. Read for every question, so that a renewed one ends the warning at once.
   */
  #expiryWarnings(): string[] {
    const { cluster, reader } = this.#options;
    let ends: Date;
    try {
      ends = certificateEnd(this.#remote.tls.cert);
    } catch {
      return []; // that there is no certificate is an error of the connection, and told as such
    }
    const left = ends.getTime() - Date.now();
    if (left > warnDays * 86_400_000) return [];
    const day = ends.toISOString().slice(0, 10);
    return [
      `the client certificate ${left > 0 ? 'ends' : 'ended'} on ${day}: renew it with isthmus clustermesh connect --context ${reader} --destination-context ${cluster}`,
    ];
  }

  #failed(failure: Failure, attempt: number): void {
    this.#failures++;
    const now = performance.now();
    this.#lastFailure = { ...failure, at: now };
    this.#deniedSince = failure.layer === 'authentication' ? (this.#deniedSince ?? now) : undefined;
    if (this.#deniedSince !== undefined) this.#dismissed(failure, now - this.#deniedSince);
    this.#options.onFailure?.(failure, attempt);
  }

  /**
   * It has taken this cluster off its list, and no longer knows our nodes: what we know of it leads nowhere, and goes.
   * Not at once: an etcd that has just started may learn its users after its first clients have come.
   */
  #dismissed({ message }: Failure, milliseconds: number): void {
    if (milliseconds < this.#silence / 2 || this.#refusal !== undefined) return;
    this.#drain();
    this.#refusal = `not among the clusters it lets in, so nothing of it is used: ${message}`;
  }

  #drain(): void {
    for (const follower of this.#followers.values()) follower.drain();
    this.#followers.clear();
    this.#synced.clear();
    this.#refused.clear();
  }
}

const verifyEvery = 300_000;

/** Days before the end of our client certificate at which it is said. */
const warnDays = 30;

const shown: Readonly<Record<Kind, string>> = {
  nodes: 'nodes',
  identities: 'identities',
  ip: 'endpoints',
  services: 'services',
  serviceexports: 'service exports',
};

function byKind<V>(kinds: readonly Kind[], value: (kind: Kind) => V): Partial<Record<Kind, V>> {
  return Object.fromEntries(kinds.map(kind => [kind, value(kind)]));
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
