import type { MaxClusters } from '../api/identity-number.ts';
import { logOf } from '../log.ts';
import { nextTurn, turnIsOver } from '../table/turn.ts';
import { followConfigFolder } from './config-folder.ts';
import type { MirroredKind } from './layout.ts';
import { RemoteCluster, type Resolve, type Timing } from './remote-cluster.ts';
import { parseRemoteConfig, type RemoteConfig } from './remote-config.ts';
import type { RemoteConsumer } from './remote-consumer.ts';
import type { RemoteClusterStatus } from './remote-status.ts';
import type { Verdicts } from './verdict-tables.ts';

export interface ReadersOptions {
  /** Folder of configuration files, one per remote cluster and named after it. */
  readonly folder: string;
  /** This cluster. */
  readonly cluster: string;
  readonly clusterId: number;
  readonly maxClusters: MaxClusters;
  readonly resolve?: Resolve | undefined;
  readonly timing?: Timing | undefined;
  readonly silence?: number | undefined;
  readonly signal: AbortSignal;
}

/** What whoever reads remote clusters does about each of them. */
export interface ClusterHooks {
  /** There is a file of its name, usable or not; there is none any more. */
  appeared?(name: string): void;
  vanished?(name: string): void;
  /** It was configured: what is to become of what it says. */
  added(name: string): RemoteConsumer;
  /** It was taken off; what came from it is still there. */
  leaving?(name: string): void;
  /** It was taken off, and its consumer was told to delete all that came from it. */
  removed(name: string): void;
  synced?(name: string, kind: MirroredKind): void;
  /** It will not come: it was taken off, or its configuration cannot be used. */
  forgiven?(name: string): void;
  dead?(name: string, dead: boolean): void;
  changed?(name: string): void;
}

const log = logOf('clustermesh');

/**
 * The remote clusters of a configuration folder: one reader for each file, as files come, change and go. No two
 * clusters have one ID. When `signal` aborts nothing is drained: a restart is no failure.
 */
export class ClusterFolder {
  readonly #options: ReadersOptions;
  readonly #hooks: ClusterHooks;
  readonly #clusters = new Map<string, RemoteCluster>();
  readonly #names = new Set<string>();
  /** Of the files that have been read. */
  readonly #texts = new Map<string, string>();
  /** What is in the folder, while it is being read. */
  #files: ReadonlyMap<string, string> | undefined;
  /** Files that are no usable configuration: name → why. */
  readonly #broken = new Map<string, string>();
  readonly #ids = new Map<number, string>();
  readonly #leaving = new Map<string, Promise<void>>();
  #verdicts: Pick<Verdicts, 'clusters' | 'remoteNodes'> | undefined;

  constructor(options: ReadersOptions, hooks: ClusterHooks) {
    this.#options = options;
    this.#hooks = hooks;
  }

  /** Reads the folder now, and follows it; `onFirst` gets the names that are there at first. */
  start(onFirst: (names: readonly string[]) => void = () => undefined): void {
    const { folder, signal } = this.#options;
    let first = true;
    followConfigFolder(
      folder,
      files => {
        if (first) onFirst([...files.keys()]);
        first = false;
        this.#configure(files);
      },
      signal,
    );
    const stop = (): void => {
      for (const cluster of this.#clusters.values()) cluster.stop();
    };
    signal.addEventListener('abort', stop, { once: true });
  }

  get(name: string): RemoteCluster | undefined {
    return this.#clusters.get(name);
  }

  /** Names of all files that are, or should be, a configuration. */
  get names(): readonly string[] {
    return [...this.#names];
  }

  /** Tells each cluster what our nodes' probes found of it, from now on, also of those that are configured later. */
  follow(verdicts: Pick<Verdicts, 'clusters' | 'remoteNodes'>): void {
    this.#verdicts = verdicts;
    verdicts.clusters.subscribe(({ key }) => this.#tellVerdicts(key));
    verdicts.remoteNodes.subscribe(({ before, after }) => this.#tellVerdicts((after ?? before)!.cluster));
    for (const name of this.#clusters.keys()) this.#tellVerdicts(name);
  }

  #tellVerdicts(name: string): void {
    const cluster = this.#clusters.get(name);
    if (!cluster || !this.#verdicts) return;
    const { clusters, remoteNodes } = this.#verdicts;
    cluster.unheard(clusters.get(name));
    cluster.accused([...remoteNodes.values()].filter(each => each.cluster === name));
  }

  /** One entry per configured cluster, by name. */
  get status(): readonly RemoteClusterStatus[] {
    const running = Array.from(this.#clusters.values(), each => each.status);
    const broken = [...this.#broken].filter(([name]) => !this.#clusters.has(name));
    return [...running, ...broken.map(([name, reason]) => brokenStatus(name, reason))].sort((a, b) =>
      a.name < b.name ? -1 : 1,
    );
  }

  #configure(files: ReadonlyMap<string, string>): void {
    const isBusy = this.#files !== undefined;
    this.#files = files;
    for (const name of this.#clusters.keys()) if (!files.has(name)) this.#remove(name);
    for (const name of this.#broken.keys()) if (!files.has(name)) this.#broken.delete(name);
    for (const name of this.#names)
      if (!files.has(name)) {
        this.#names.delete(name);
        this.#texts.delete(name);
        this.#hooks.forgiven?.(name);
        this.#hooks.vanished?.(name);
      }
    for (const name of files.keys()) {
      if (!this.#names.has(name) && name !== this.#options.cluster) this.#hooks.appeared?.(name);
      this.#names.add(name);
    }
    if (!isBusy) void this.#read();
  }

  /** Takes up the files that are new or others now. There may be hundreds: the event loop gets its turns. */
  async #read(): Promise<void> {
    let files: ReadonlyMap<string, string>;
    do {
      files = this.#files!;
      for (const [name, text] of files) {
        if (turnIsOver()) await nextTurn();
        if (this.#options.signal.aborted || this.#files !== files) break;
        if (this.#texts.get(name) !== text) this.#readFile(name, text);
      }
    } while (this.#files !== files);
    this.#files = undefined;
  }

  #readFile(name: string, text: string): void {
    this.#texts.set(name, text);
    if (name === this.#options.cluster) {
      this.#broken.set(name, "its configuration is ignored: it has this cluster's own name");
      this.#hooks.forgiven?.(name);
      return;
    }
    try {
      const remote = parseRemoteConfig(name, text);
      this.#broken.delete(name);
      const present = this.#clusters.get(name);
      if (present) present.configure(remote);
      else this.#add(name, text, remote);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      log.error({ cluster: name, reason }, 'configuration of a remote cluster cannot be used');
      this.#broken.set(name, reason);
      this.#hooks.forgiven?.(name);
    }
  }

  #add(name: string, text: string, remote: RemoteConfig): void {
    const leaving = this.#leaving.get(name);
    if (leaving) {
      // Added again while it is being removed: first everything old goes.
      void leaving.then(() => {
        if (this.#texts.get(name) === text && !this.#clusters.has(name)) this.#add(name, text, remote);
      });
      return;
    }
    const { maxClusters, timing, silence, resolve } = this.#options;
    const hooks = this.#hooks;
    log.info({ cluster: name }, 'remote cluster configured');
    const cluster = new RemoteCluster(remote, {
      cluster: name,
      reader: this.#options.cluster,
      maxClusters,
      resolve,
      consumer: hooks.added(name),
      reserve: id => this.#reserve(name, id),
      release: () => this.#release(name),
      onSynced: kind => {
        log.info({ cluster: name, kind }, 'remote cluster synchronized');
        hooks.synced?.(name, kind);
      },
      onDead: dead => hooks.dead?.(name, dead),
      onChange: () => hooks.changed?.(name),
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
    this.#tellVerdicts(name);
  }

  #remove(name: string): void {
    const cluster = this.#clusters.get(name);
    if (!cluster) return;
    this.#clusters.delete(name);
    this.#hooks.forgiven?.(name);
    this.#hooks.leaving?.(name);
    log.info({ cluster: name }, 'remote cluster removed');
    const done = cluster.remove().finally(() => {
      this.#leaving.delete(name);
      this.#hooks.removed(name);
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
    mirror: undefined,
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
    refusals: 0,
    refused: {},
    warnings: [],
  };
}
