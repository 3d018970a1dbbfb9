import type { MaxClusters } from '../api/identity-number.ts';
import type { EtcdConnection } from '../kvstore/connection.ts';
import { type Endpoint, formatEndpoint } from '../kvstore/endpoint.ts';
import { EtcdFailure, type Failure } from '../kvstore/failure.ts';
import { keepSession, pause, type SessionOptions } from '../kvstore/session.ts';
import { PrefixFollower } from '../kvstore/watch.ts';
import { expiryWarnings } from './certificate-end.ts';
import { type ClusterConfig, parseClusterConfig } from './cluster-config.ts';
import { readConfigEntry } from './config-entry.ts';
import {
  blindKey,
  canaryKey,
  heartbeatKey,
  type MirroredKind,
  reportKey,
  reportPrefix,
  syncedPrefix,
} from './layout.ts';
import { Liveness } from './liveness.ts';
import { parseReport, Relay } from './mirror-report.ts';
import type { RemoteConfig } from './remote-config.ts';
import type { RemoteConsumer } from './remote-consumer.ts';
import { RemoteEntries } from './remote-entries.ts';
import { describeState, laterOutage, probeWarnings, type RemoteFacts, stateOf } from './remote-state.ts';
import type { Outage, RemoteClusterStatus } from './remote-status.ts';
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

/**
 * One remote cluster: follows its etcd, or the copy that a mirror keeps of it, read only, and hands what it says to
 * the consumer. What is known stays while the cluster cannot be heard; it goes when the cluster is removed, or is
 * another one under the old name.
 */
export class RemoteCluster {
  readonly #options: RemoteClusterOptions;
  readonly #stop = new AbortController();
  readonly #synced = new Set<MirroredKind>();
  /** Kinds that it tells of in place of others, which are used until all of theirs is known. */
  readonly #replaced = new Map<MirroredKind, MirroredKind>();
  readonly #kinds: readonly MirroredKind[];
  readonly #silence: number;
  readonly #entries: RemoteEntries;
  readonly #liveness: Liveness;
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
  #lastFailure: (Failure & { readonly at: number }) | undefined;
  #heartbeat: { readonly value: string; readonly at: number } | undefined;
  /** The etcd that is read says so of the cluster that it is of. */
  #saidBlind = false;
  #lostAt: number | undefined;
  /** Since the connection was lost on which everything had been read. */
  #outdatedAt: number | undefined;
  /** When everything had been read again after that, and how long it took. */
  #outage: { readonly milliseconds: number; readonly end: number } | undefined;
  /** Kinds that were listed whole on the present connection. */
  readonly #confirmed = new Set<MirroredKind>();
  readonly done: Promise<void>;

  constructor(remote: RemoteConfig, options: RemoteClusterOptions) {
    this.#remote = remote;
    this.#options = options;
    this.#kinds = options.consumer.kinds;
    this.#silence = (options.silence ?? 120) * 1000;
    this.#entries = new RemoteEntries({ ...options, onListed: kind => this.#listed(kind) });
    this.#liveness = new Liveness({
      cluster: options.cluster,
      hearing: () => ({
        connection: this.#connection,
        relay: this.#relay,
        wasLost: this.#lostAt !== undefined,
        isConfirmed: this.#isConfirmed,
      }),
      onDead: dead => options.onDead?.(dead),
      onChange: () => options.onChange?.(),
      signal: this.#stop.signal,
    });
    this.done = this.#run();
  }

  /** Follows a changed configuration: connects anew, and what is known does not flap. */
  configure(remote: RemoteConfig): void {
    this.#remote = remote;
    this.#restart.abort();
  }

  /** Takes what our nodes say of its nodes; undefined: they are heard. */
  unheard(verdict: ClusterVerdict | undefined): void {
    this.#liveness.unheard(verdict);
  }

  /** Takes what our nodes say of single nodes of it. */
  accused(nodes: readonly RemoteNodeVerdict[]): void {
    this.#liveness.accuse(nodes);
  }

  /** Its address at the other end of the connection (`via`) does not answer our probes. */
  unheardVia(): void {
    this.#liveness.question();
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
    const { cluster, reader } = this.#options;
    const now = performance.now();
    const seconds = (at: number): number => Math.round((now - at) / 100) / 10;
    const relayed = this.#relay?.ages(now);
    const heartbeatAge = relayed ? relayed.heartbeat : this.#heartbeat && seconds(this.#heartbeat.at);
    const lost = this.#lostAt === undefined ? undefined : seconds(this.#lostAt);
    const facts = this.#facts(now);
    const { deadSince, unheardBy } = facts;
    const state = stateOf(facts);
    return {
      name: cluster,
      ready: state === 'ready',
      state,
      status: describeState(facts),
      connected: facts.connected,
      endpoint: this.#connection && formatEndpoint(this.#connection.endpoint),
      etcdClusterId: (this.#connection?.clusterId ?? this.#lastEtcd)?.toString(16),
      clusterId: this.#config?.id,
      cached: this.#config?.cached ?? false,
      mirror: this.#relay?.report?.mirror,
      synced: byKind(facts.kinds, kind => facts.synced.has(kind)),
      counts: byKind(facts.kinds, kind => this.#entries.count(kind) ?? 0),
      failures: this.#failures,
      repaired: this.#entries.repaired,
      lastFailure: this.#lastFailure && {
        layer: this.#lastFailure.layer,
        message: this.#lastFailure.message,
        age: seconds(this.#lastFailure.at),
      },
      heartbeatAge,
      disconnectedAge: this.#connection ? (relayed ? relayed.disconnected : 0) : lost,
      lastOutage: laterOutage(this.#lastOutage(now), this.#relay?.lastOutage(now)),
      deadAge: deadSince === undefined ? undefined : seconds(deadSince),
      unheardBy,
      refusals: this.#entries.refusals,
      refused: this.#entries.refused,
      warnings: [...expiryWarnings(this.#remote.tls.cert, cluster, reader), ...probeWarnings(facts)],
    };
  }

  #facts(now: number): RemoteFacts {
    const { deadSince, unheardBy, unheardUntil, accused } = this.#liveness;
    const kinds = this.#told;
    return {
      now,
      kinds,
      synced: new Set(kinds.filter(kind => this.#synced.has(kind))),
      connected: this.#connection !== undefined,
      refusal: this.#refusal,
      relay: this.#relay,
      withdrawn: this.#withdrawn,
      silentSince: this.#silentSince(now),
      lostAt: this.#lostAt,
      failure: this.#lastFailure ? `${this.#lastFailure.layer}: ${this.#lastFailure.message}` : '',
      deadSince,
      unheardBy,
      unheardUntil,
      accused,
      silent: this.silent,
      blind: this.blind,
    };
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
    return this.#synced.has('nodes') && this.#entries.count('nodes') === 0;
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
      const config = this.#accept(await this.#readConfig(connection, running));
      this.#confirmed.clear();
      this.#connection = connection;
      this.#liveness.connected();
      this.#refusal = undefined;
      this.#deniedSince = undefined;
      const told = this.#told;
      this.#replaced.clear();
      for (const kind of this.#kinds) if (!told.includes(kind)) this.#hasNone(kind, told);
      if (this.#relay) follow(this.#reportFollower(connection, this.#relay));
      if (config.syncedCanaries)
        follow(this.#canaryFollower(told, kind => follow(this.#entries.follower(kind, config))));
      else for (const kind of told) follow(this.#entries.follower(kind, config));
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

  /**
   * It was heard once, and what is known now may have been overtaken: by the death of one of its nodes, too. Until all has
   * been read anew.
   */
  get silent(): boolean {
    if (!this.complete) return false;
    if (!this.answers || this.blind || this.#outdatedAt !== undefined) return true;
    return this.#relay ? this.#relay.state === 'stale' : this.#silentSince(performance.now()) !== undefined;
  }

  /** It says itself that its API server does not answer, and that it does not see its own nodes die. */
  get blind(): boolean {
    // A copy lies in the etcd of the cluster that reads it.
    return this.#config?.cached ? (this.#relay?.blind ?? false) : this.#saidBlind;
  }

  /** Node that runs the etcd from which it was last heard; '' where it does not say, as Cilium. */
  get controlPlaneNode(): string {
    return this.#config?.node ?? '';
  }

  /** Address at the other end of the connection by which it is read; '' while there is none. */
  get via(): string {
    return this.#connection?.peerAddress ?? '';
  }

  /** How it tells of its services, as its configuration has it; undefined where none was accepted. */
  get exportMode(): string | undefined {
    return this.#config && (this.#config.endpointSlicesExportMode ?? '');
  }

  /** Its control plane, or a mirror's, answers as far as is known now. A process that has just begun knows nothing. */
  get answers(): boolean {
    return this.#liveness.answers;
  }

  /** The last heartbeat, whatever it says: another one is another sign of life. */
  get heartbeat(): string {
    return this.#heartbeat?.value ?? '';
  }

  async #readConfig(connection: EtcdConnection, signal: AbortSignal): Promise<ClusterConfig> {
    const { cluster, maxClusters } = this.#options;
    const onMissing = ({ layer, message }: EtcdFailure): void => {
      this.#lastFailure = { layer, message, at: performance.now() };
      this.#options.onChange?.();
    };
    const { value } = await readConfigEntry(connection, cluster, onMissing, signal);
    try {
      return parseClusterConfig(cluster, value, maxClusters);
    } catch (error) {
      this.#refusal = messageOf(error);
      throw error;
    }
  }

  /**
   * Takes a configuration over. A cluster that has another ID now is a different one, and starts empty; one that is
   * read as a copy now, or as the original, is the same.
   */
  #accept(config: ClusterConfig): ClusterConfig {
    const { consumer } = this.#options;
    const before = this.#config;
    if (before && before.id !== config.id) {
      this.#drain();
      this.#options.release();
    }
    try {
      this.#options.reserve(config.id);
    } catch (error) {
      this.#refusal = messageOf(error);
      this.#config = undefined;
      throw error;
    }
    this.#config = config;
    this.#relay = config.reported ? (this.#relay ?? new Relay()) : undefined;
    consumer.configured?.(config);
    return config;
  }

  #heartbeatFollower(onListed: () => void): PrefixFollower {
    let blind = false;
    const setBlind = (value: boolean): void => {
      blind = value;
      this.#saidBlind = value;
      this.#options.onChange?.();
    };
    return new PrefixFollower(heartbeatKey, {
      put: ({ key, value }) => {
        if (key === blindKey) return setBlind(true);
        // A list repeats what was heard before: only a new value is a sign of life.
        if (value === this.#heartbeat?.value) return;
        this.#heartbeat = { value, at: performance.now() };
        this.#options.onChange?.();
      },
      delete: key => {
        if (key === blindKey) setBlind(false);
      },
      listed: () => {
        this.#saidBlind = blind;
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
          this.#entries.refuse(key, error);
          return missing();
        }
        this.#entries.accept(key);
        this.#liveness.reported(relay);
        this.#options.onChange?.();
        const { clusterId, exportMode } = relay.report!;
        if (clusterId !== 0 && clusterId !== this.#config?.id)
          connection.close(new EtcdFailure('etcd', `its ID is ${clusterId} now, it was ${this.#config?.id}`));
        else if (exportMode !== undefined && exportMode !== this.exportMode)
          connection.close(new EtcdFailure('etcd', `it exports ${exportMode || 'services'} now`));
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

  /** The kinds that it tells of, and that are of use. */
  get #told(): readonly MirroredKind[] {
    const config = this.#config;
    const { needs } = this.#options.consumer;
    return this.#kinds.filter(kind => !config || (tells(config, kind) && (needs?.(kind, config) ?? true)));
  }

  #hasNone(kind: MirroredKind, told: readonly MirroredKind[]): void {
    const instead = alternatives[kind];
    if (instead && told.includes(instead)) this.#replaced.set(instead, kind);
    else this.#entries.forget(kind);
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
    this.#forgetReplaced(kind);
    if (!this.#synced.has(kind)) {
      this.#synced.add(kind);
      this.#options.onSynced(kind);
    }
    this.#options.onChange?.();
  }

  #forgetReplaced(by: MirroredKind): void {
    const replaced = this.#replaced.get(by);
    if (replaced === undefined) return;
    const forget = (): void => {
      if (this.#replaced.get(by) !== replaced || this.#stop.signal.aborted) return;
      this.#replaced.delete(by);
      this.#entries.forget(replaced);
    };
    const { replacedFor = 0 } = this.#options.consumer;
    if (replacedFor === 0) forget();
    else setTimeout(forget, replacedFor).unref();
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
    this.#entries.drain();
    this.#synced.clear();
    this.#replaced.clear();
  }
}

/** A writer that knows nothing of MCS-API, or of slices, never says that these are complete: it has none. */
function tells(config: ClusterConfig, kind: MirroredKind): boolean {
  const { serviceExportsEnabled, endpointSlicesExportMode: mode } = config;
  if (kind === 'serviceexports') return serviceExportsEnabled !== undefined;
  if (kind === 'services') return mode !== 'endpointslices-only';
  return kind !== 'endpointslices' || mode !== undefined;
}

/** A cluster may come to tell of its services in the other way. */
const alternatives: Partial<Record<MirroredKind, MirroredKind>> = {
  services: 'endpointslices',
  endpointslices: 'services',
};

function byKind<V>(
  kinds: readonly MirroredKind[],
  value: (kind: MirroredKind) => V,
): Partial<Record<MirroredKind, V>> {
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
