import { Code, ConnectError } from '@connectrpc/connect';
import type { MaxClusters } from '../api/identity-number.ts';
import type { EtcdConnection } from '../kvstore/connection.ts';
import { type Endpoint, formatEndpoint } from '../kvstore/endpoint.ts';
import { EtcdFailure, type Failure } from '../kvstore/failure.ts';
import { type Entry, encodeKey, getKey } from '../kvstore/range.ts';
import { keepSession, pause, type SessionOptions } from '../kvstore/session.ts';
import { PrefixFollower, type PrefixSink } from '../kvstore/watch.ts';
import { certificateEnd } from './certificate-end.ts';
import { type ClusterConfig, parseClusterConfig } from './cluster-config.ts';
import {
  canaryKey,
  clusterConfigKey,
  heartbeatKey,
  type MirroredKind,
  objectPrefix,
  reportKey,
  reportPrefix,
  syncedPrefix,
} from './layout.ts';
import { parseReport, Relay } from './mirror-report.ts';
import type { RemoteConfig } from './remote-config.ts';
import type { EntryWriter, RemoteConsumer } from './remote-consumer.ts';
import type { Outage, RemoteClusterStatus, RemoteState } from './remote-status.ts';
import type { ClusterVerdict, RemoteNodeVerdict } from './verdicts.ts';

export type Timing = Pick<
  SessionOptions,
  'dialTimeout' | 'pingInterval' | 'pingTimeout' | 'requestTimeout' | 'backoff' | 'stagger'
>;

/** The endpoints that one endpoint of a configuration stands for; undefined: itself. */
export type Resolve = (endpoint: Endpoint) => readonly Endpoint[] | undefined;

export interface RemoteClusterOptions {
  readonly cluster: string;
  /** This cluster's own name. */
  readonly reader: string;
  readonly maxClusters: MaxClusters;
  readonly consumer: RemoteConsumer;
  /** Addresses of an endpoint that this process finds in another way than by DNS. @throws EtcdFailure */
  readonly resolve?: Resolve | undefined;
  /** Claims a cluster ID for this cluster. @throws Error when another has it */
  readonly reserve: (id: number) => void;
  readonly release: () => void;
  /** A kind of object was listed completely for the first time. */
  readonly onSynced: (kind: MirroredKind) => void;
  /** It is dead, or is not any more. */
  readonly onDead?: (dead: boolean) => void;
  /** Its state, or whether it answers, may have changed; or a heartbeat came. */
  readonly onChange?: () => void;
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
/** Milliseconds for which a control plane has to answer after a node of it fell silent, until it is believed to be well. */
const questionFor = 3000;
/** Milliseconds after the first attempt to connect before which an absent connection means nothing. */
const grace = 3000;
/** Milliseconds for which nodes of a cluster that was dead answer again until it is used without its control plane. */
const trustNodesAfter = 30_000;

/** At most so many refused values are kept for status: one bad writer must not fill the memory. */
const refusedKept = 100;

/**
 * One remote cluster: follows its etcd, or the copy that a mirror keeps of it, read only, and hands what it says to
 * the consumer. What is known stays while the cluster cannot be heard; it goes when the cluster is removed, or is
 * another one under the old name.
 */
export class RemoteCluster {
  readonly #options: RemoteClusterOptions;
  readonly #stop = new AbortController();
  readonly #followers = new Map<
    MirroredKind,
    { readonly entries: PrefixFollower; readonly writer: EntryWriter }
  >();
  readonly #synced = new Set<MirroredKind>();
  readonly #refused = new Map<string, string>();
  readonly #kinds: readonly MirroredKind[];
  readonly #silence: number;
  #remote: RemoteConfig;
  #restart = new AbortController();
  #config: ClusterConfig | undefined;
  /** What the mirror of the copy that is read says of the original; undefined where the original is read. */
  #relay: Relay | undefined;
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
  readonly #confirmed = new Set<MirroredKind>();
  /** Own nodes that say that no node of it answers. */
  #unheardBy: readonly string[] = [];
  /** At least one of our nodes says so. */
  #doubted = false;
  /** Nodes of it that ours do not hear. */
  #accused: readonly RemoteNodeVerdict[] = [];
  /** Until when its control plane is asked because one of them fell silent, and the connection that it may have held. */
  #questionedUntil = 0;
  #suspect: EtcdConnection | undefined;
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
    this.#kinds = options.consumer.kinds;
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

  /**
   * Takes what our nodes say of single nodes of it: with each new one its control plane, which may have been there, is asked
   * whether it can still speak.
   */
  accused(nodes: readonly RemoteNodeVerdict[]): void {
    const known = new Set(this.#accused.map(({ node }) => node));
    this.#accused = nodes;
    if (nodes.every(({ node }) => known.has(node))) return;
    this.#questionedUntil = performance.now() + questionFor;
    this.#suspect = this.#connection;
    if (!this.#examining) void this.#examine();
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
    const relayed = this.#relay?.ages(now);
    const heartbeatAge = relayed ? relayed.heartbeat : this.#heartbeat && seconds(this.#heartbeat.at);
    const lost = this.#lostAt === undefined ? undefined : seconds(this.#lostAt);
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
      mirror: this.#relay?.report?.mirror,
      synced: byKind(this.#kinds, kind => this.#synced.has(kind)),
      counts: byKind(this.#kinds, kind => this.#followers.get(kind)?.entries.size ?? 0),
      failures: this.#failures,
      repaired: this.#repaired,
      lastFailure: this.#lastFailure && {
        layer: this.#lastFailure.layer,
        message: this.#lastFailure.message,
        age: seconds(this.#lastFailure.at),
      },
      heartbeatAge,
      disconnectedAge: this.#connection ? (relayed ? relayed.disconnected : 0) : lost,
      lastOutage: laterOf(this.#lastOutage(now), this.#relay?.lastOutage(now)),
      deadAge: this.#deadSince === undefined ? undefined : seconds(this.#deadSince),
      unheardBy: this.#unheardBy,
      refused: Object.fromEntries(this.#refused),
      warnings: [...this.#expiryWarnings(), ...this.#probeWarnings(), ...this.#nodeWarnings()],
    };
  }

  #state(now: number): RemoteState {
    if (this.#refusal !== undefined) return 'refused';
    if (this.#deadSince !== undefined) return 'dead';
    if (!this.#connection) return this.#synced.size && !this.#withdrawn ? 'stale' : 'disconnected';
    if (!this.complete) return this.#synced.size ? 'syncing' : 'connected';
    const told = this.#relay?.state;
    if (told) return told === 'stale' && this.#withdrawn ? 'disconnected' : told;
    return this.#silentSince(now) === undefined ? 'ready' : 'stale';
  }

  #describe(state: RemoteState, now: number): string {
    const failure = this.#lastFailure ? `${this.#lastFailure.layer}: ${this.#lastFailure.message}` : '';
    const missing = this.#kinds.filter(kind => !this.#synced.has(kind));
    if (state === 'refused') return this.#refusal ?? this.#relay?.describe(now) ?? '';
    if (state === 'dead') return this.#describeDeath(now, failure);
    if (state === 'ready') return 'ready';
    if (this.#relay && this.#connection && !missing.length) return this.#relay.describe(now);
    if (state === 'disconnected' && !this.#withdrawn) return failure || 'not connected yet';
    if (state === 'connected' || state === 'syncing')
      return `synchronization in progress for ${missing.map(kind => shown[kind]).join(', ')}`;
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
    const why = this.#relay && this.#connection ? this.#relay.describe(now) : failure;
    if (by) return `${what}; none of its nodes answers ${by}, nor its control plane: ${why}`;
    const back = Math.round((now - this.#unheardUntil) / 1000);
    return this.#connection && (this.#relay?.answers ?? true)
      ? `${what}; its nodes and its control plane answer again, what it says is being read`
      : `${what}; its nodes answer again for ${back} s, its control plane does not: ${why}`;
  }

  #probeWarnings(): string[] {
    if (!this.#unheardBy.length || this.#deadSince !== undefined) return [];
    return [
      `none of its nodes answers ${this.#unheardBy.join(', ')}, but its control plane does: its backends stay in service`,
    ];
  }

  #nodeWarnings(): string[] {
    if (!this.silent || this.#deadSince !== undefined) return [];
    return this.#accused.flatMap(({ node, by, agreed }) =>
      agreed
        ? [
            `its node ${node} does not answer ${by.join(', ')}, and its control plane cannot say whether it is dead`,
          ]
        : [],
    );
  }

  #lastOutage(now: number): Outage | undefined {
    if (!this.#outage) return undefined;
    const { milliseconds, end } = this.#outage;
    return { seconds: Math.round(milliseconds / 100) / 10, age: Math.round((now - end) / 100) / 10 };
  }

  /** Everything has been read on the present connection. */
  get #isConfirmed(): boolean {
    return this.#connection !== undefined && this.#kinds.every(kind => this.#confirmed.has(kind));
  }

  /** A cluster that is in a mesh tells of its nodes at the least. */
  get #withdrawn(): boolean {
    return this.#synced.has('nodes') && this.#followers.get('nodes')?.entries.size === 0;
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
          endpoints: () => remote.endpoints.flatMap(each => this.#options.resolve?.(each) ?? [each]),
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
      this.#setSilent(false);
      this.#refusal = undefined;
      this.#deniedSince = undefined;
      const told = this.#kinds.filter(kind => this.#tells(kind));
      for (const kind of this.#kinds) if (!told.includes(kind)) this.#hasNone(kind);
      if (this.#relay) follow(this.#reportFollower(connection, this.#relay));
      if (this.#config?.syncedCanaries)
        follow(this.#canaryFollower(told, kind => follow(this.#follower(kind))));
      else for (const kind of told) follow(this.#follower(kind));
      tasks.push(this.#watchSilence(running).catch(reject));
      this.#options.onChange?.();
      await Promise.race([failed, aborted(running)]);
    } finally {
      ended.abort();
      this.#lastEtcd = connection.clusterId;
      if (this.#connection) this.#lostAt = performance.now();
      if (this.#isConfirmed) this.#outdatedAt = this.#lostAt;
      this.#connection = undefined;
      this.#options.onChange?.();
      await Promise.all(tasks);
    }
  }

  /** Its control plane is asked: none of its nodes is heard, or one has just fallen silent that may have run it. */
  get #questioned(): boolean {
    // What a mirror says it says again when it changes.
    const unanswered = this.#isSilent && this.#relay === undefined;
    return this.#doubted || unanswered || performance.now() < this.#questionedUntil;
  }

  /** Runs while it is questioned, and until it is trusted again after that made it dead. */
  async #examine(): Promise<void> {
    this.#examining = true;
    while (!this.#stop.signal.aborted && (this.#questioned || this.#deadSince !== undefined)) {
      const connection = this.#connection;
      const answered = !this.#questioned || (await this.#etcdAnswers());
      this.#setSilent(this.#questioned && !(answered && (this.#relay?.answers ?? true)));
      // So that it is made anew at once, and with another replica if there is one, not when TCP has given up.
      if (!answered && connection && (this.#deadSince !== undefined || connection === this.#suspect))
        connection.close(new EtcdFailure('etcd', `no answer within ${answerWithin} ms`));
      if (!this.#unheardBy.length && this.#deadSince !== undefined) {
        const confirmed = this.#isConfirmed && (this.#relay === undefined || this.#relay.state === 'ready');
        if (confirmed || performance.now() - this.#unheardUntil > trustNodesAfter) this.#setDead(false);
      }
      await pause(lookEvery, this.#stop.signal);
    }
    this.#setSilent(false);
    this.#examining = false;
  }

  /**
   * It was heard once, and what is known now may have been overtaken: by the death of one of its nodes, too. Until all has
   * been read anew.
   */
  get silent(): boolean {
    if (!this.complete) return false;
    if (!this.answers || this.#outdatedAt !== undefined) return true;
    return this.#relay ? this.#relay.state === 'stale' : this.#silentSince(performance.now()) !== undefined;
  }

  /** Node that runs the etcd from which it was last heard; '' where it does not say, as Cilium. */
  get controlPlaneNode(): string {
    return this.#config?.node ?? '';
  }

  /** Its control plane, or a mirror's, answers as far as is known now. A process that has just begun knows nothing. */
  get answers(): boolean {
    if (this.#isSilent) return false;
    if (this.#connection) return this.#relay?.answers ?? true;
    return this.#lostAt === undefined && performance.now() - this.#startedAt < grace;
  }

  /** The last heartbeat, whatever it says: another one is another sign of life. */
  get heartbeat(): string {
    return this.#heartbeat?.value ?? '';
  }

  #setSilent(silent: boolean): void {
    const changed = silent !== this.#isSilent;
    this.#isSilent = silent;
    if (silent && this.#unheardBy.length) this.#setDead(true);
    if (changed) this.#options.onChange?.();
  }

  /** Whether the etcd that is read answers now. */
  async #etcdAnswers(): Promise<boolean> {
    const connection = this.#connection;
    if (!connection) return this.answers;
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
    this.#options.onChange?.();
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
    if (!entry) throw await this.#whyNoConfig(connection, key);
    try {
      return parseClusterConfig(cluster, entry.value, maxClusters);
    } catch (error) {
      this.#refusal = messageOf(error);
      throw error;
    }
  }

  /** A mirror that cannot copy a cluster says why. */
  async #whyNoConfig(connection: EtcdConnection, key: string): Promise<EtcdFailure> {
    const { cluster } = this.#options;
    try {
      const report = await getKey(connection, reportKey(cluster));
      if (report) {
        const { mirror, status } = parseReport(cluster, report.value);
        return new EtcdFailure('etcd', `its mirror ${mirror} has no copy of it yet: ${status}`);
      }
    } catch {
      // Another cluster's etcd does not let us look there.
    }
    return new EtcdFailure(
      'etcd',
      `remote cluster configuration required but not found (${key}): its clustermesh-apiserver, or our mirror of it, has not written it yet, or the cluster has another name`,
    );
  }

  /**
   * Takes a configuration over. A cluster that has another ID now is a different one, and starts empty; one that is
   * read as a copy now, or as the original, is the same.
   */
  #accept(config: ClusterConfig): void {
    const { consumer } = this.#options;
    const before = this.#config;
    if (before && before.id !== config.id) {
      this.#drain();
      this.#options.release();
    }
    try {
      consumer.check?.(config);
      this.#options.reserve(config.id);
    } catch (error) {
      this.#refusal = messageOf(error);
      this.#config = undefined;
      throw error;
    }
    this.#config = config;
    this.#relay = config.reported ? (this.#relay ?? new Relay()) : undefined;
    consumer.configured?.(config);
  }

  #heartbeatFollower(onListed: () => void): PrefixFollower {
    return new PrefixFollower(heartbeatKey, {
      put: ({ value }) => {
        // A list repeats what was heard before: only a new value is a sign of life.
        if (value === this.#heartbeat?.value) return;
        this.#heartbeat = { value, at: performance.now() };
        this.#options.onChange?.();
      },
      delete: () => undefined,
      listed: () => {
        // A cluster that never beat is silent from the day it was met.
        this.#heartbeat ??= { value: '', at: performance.now() };
        onListed();
      },
    });
  }

  /** Takes what the mirror says; ends the connection when that is of another configuration than the one that was read. */
  #reportFollower(connection: EtcdConnection, relay: Relay): PrefixFollower {
    const { cluster } = this.#options;
    const key = reportKey(cluster);
    const missing = (): void => {
      relay.missing(performance.now());
      this.#options.onChange?.();
    };
    return new PrefixFollower(reportPrefix(cluster), {
      put: entry => {
        if (entry.key !== key) return;
        try {
          relay.heard(parseReport(cluster, entry.value), performance.now());
        } catch (error) {
          this.#refuse(key, error);
          return missing();
        }
        this.#refused.delete(key);
        if (this.#doubted && !relay.answers) this.#setSilent(true);
        this.#options.onChange?.();
        const { clusterId } = relay.report!;
        if (clusterId !== 0 && clusterId !== this.#config?.id)
          connection.close(new EtcdFailure('etcd', `its ID is ${clusterId} now, it was ${this.#config?.id}`));
      },
      delete: missing,
      listed: () => {
        if (!relay.report) missing();
      },
    });
  }

  /** Rejects when the cluster, or its mirror, has been silent for long and this session has not changed that. */
  async #watchSilence(signal: AbortSignal): Promise<void> {
    const startedAt = performance.now();
    while (!signal.aborted) {
      const now = performance.now();
      const patience = this.#silence / 4;
      if (this.#relay) {
        // Another replica may have one that speaks.
        const since = Math.max(startedAt, this.#relay.silentSince ?? now);
        if (now - since > patience) throw new EtcdFailure('etcd', this.#relay.describe(now));
      } else {
        const silent = this.#silentSince(now);
        if (silent !== undefined && now > startedAt + patience)
          throw new EtcdFailure('etcd', `no heartbeat for ${Math.round((now - silent) / 1000)} s`);
      }
      await pause(this.#silence / 20, signal);
    }
  }

  /** A writer that knows nothing of MCS-API, or of slices, never says that these are complete: it has none. */
  #tells(kind: MirroredKind): boolean {
    if (kind === 'serviceexports') return this.#config?.serviceExportsEnabled !== undefined;
    return kind !== 'endpointslices' || this.#config?.endpointSlicesExportMode !== undefined;
  }

  #hasNone(kind: MirroredKind): void {
    this.#followers.get(kind)?.entries.drain();
    this.#followers.delete(kind);
    this.#listed(kind);
  }

  #listed(kind: MirroredKind): void {
    this.#confirmed.add(kind);
    if (this.#outdatedAt !== undefined && this.#isConfirmed) {
      const end = performance.now();
      this.#outage = { milliseconds: end - this.#outdatedAt, end };
      this.#outdatedAt = undefined;
    }
    this.#options.consumer.listed?.(kind);
    if (!this.#synced.has(kind)) {
      this.#synced.add(kind);
      this.#options.onSynced(kind);
    }
    this.#options.onChange?.();
  }

  #canaryFollower(kinds: readonly MirroredKind[], start: (kind: MirroredKind) => void): PrefixFollower {
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

  /** Follows a kind of object. Where copy and original take turns, the entries are the same under other keys. */
  #follower(kind: MirroredKind): PrefixFollower {
    const { cluster, consumer, maxClusters } = this.#options;
    const config = this.#config!;
    const prefix = objectPrefix(kind, cluster, config.cached);
    const known = this.#followers.get(kind);
    if (known?.entries.prefix === prefix) return known.entries;
    const writer = known?.writer ?? consumer.writer(kind, { cluster, clusterId: config.id, maxClusters });
    const entries = this.#entryFollower(kind, prefix, writer);
    if (known) {
      entries.adopt(known.entries.names());
      for (const key of this.#refused.keys())
        if (key.startsWith(known.entries.prefix)) this.#refused.delete(key);
    }
    this.#followers.set(kind, { entries, writer });
    return entries;
  }

  #entryFollower(kind: MirroredKind, prefix: string, writer: EntryWriter): PrefixFollower {
    const sink: PrefixSink = {
      put: entry => {
        try {
          writer.put(entry.key.slice(prefix.length), entry);
        } catch (error) {
          this.#refuse(entry.key, error);
          return;
        }
        this.#refused.delete(entry.key);
      },
      delete: key => {
        this.#refused.delete(key);
        writer.delete(key.slice(prefix.length));
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
    this.#options.onChange?.();
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
    for (const { entries } of this.#followers.values()) entries.drain();
    this.#followers.clear();
    this.#synced.clear();
    this.#refused.clear();
  }
}

const verifyEvery = 300_000;

/** Days before the end of our client certificate at which it is said. */
const warnDays = 30;

const shown: Readonly<Record<MirroredKind, string>> = {
  nodes: 'nodes',
  identities: 'identities',
  ip: 'endpoints',
  services: 'services',
  serviceexports: 'service exports',
  endpointslices: 'endpoint slices',
};

function byKind<V>(
  kinds: readonly MirroredKind[],
  value: (kind: MirroredKind) => V,
): Partial<Record<MirroredKind, V>> {
  return Object.fromEntries(kinds.map(kind => [kind, value(kind)]));
}

/** Of two outages, of the copy that is read and of the original, the one that ended last. */
function laterOf(a: Outage | undefined, b: Outage | undefined): Outage | undefined {
  return a && b ? (a.age < b.age ? a : b) : (a ?? b);
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
