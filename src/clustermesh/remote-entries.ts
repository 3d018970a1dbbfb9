import type { MaxClusters } from '../api/identity-number.ts';
import { PrefixFollower, type PrefixSink } from '../kvstore/watch.ts';
import type { ClusterConfig } from './cluster-config.ts';
import { type MirroredKind, objectPrefix } from './layout.ts';
import type { EntryWriter, RemoteConsumer } from './remote-consumer.ts';

export interface RemoteEntriesOptions {
  readonly cluster: string;
  readonly maxClusters: MaxClusters;
  readonly consumer: RemoteConsumer;
  /** A kind was listed completely, for the first time or once more. */
  readonly onListed: (kind: MirroredKind) => void;
  readonly onRefused?: ((key: string, error: Error) => void) | undefined;
  /** Entries were not as in its etcd though the watch was alive, and have been mended. */
  readonly onRepaired?: ((keys: readonly string[]) => void) | undefined;
  /** Milliseconds between comparisons of what is known with what its etcd has. Default 5 minutes. */
  readonly verify?: number | undefined;
}

const verifyEvery = 300_000;

/** At most so many refused values are kept for status: one bad writer must not fill the memory. */
const refusedKept = 100;

/** The entries of one remote cluster, kind by kind, on their way to the consumer, and those that it has refused. */
export class RemoteEntries {
  readonly #options: RemoteEntriesOptions;
  readonly #followers = new Map<
    MirroredKind,
    { readonly entries: PrefixFollower; readonly writer: EntryWriter }
  >();
  readonly #refused = new Map<string, string>();
  #refusals = 0;
  #repaired = 0;

  constructor(options: RemoteEntriesOptions) {
    this.#options = options;
  }

  /** Entries that were found to be not as in its etcd, and mended; since the start. */
  get repaired(): number {
    return this.#repaired;
  }

  /** Values that were refused, each as often as it was told anew; since the start. */
  get refusals(): number {
    return this.#refusals;
  }

  /** Key → why its value was refused: of those that are refused now the first hundred. */
  get refused(): Readonly<Record<string, string>> {
    return Object.fromEntries(this.#refused);
  }

  /** Entries of a kind that the consumer has; undefined where the kind is not followed. */
  count(kind: MirroredKind): number | undefined {
    return this.#followers.get(kind)?.entries.size;
  }

  /** Follows a kind of object. Where copy and original take turns, the entries are the same under other keys. */
  follower(kind: MirroredKind, config: ClusterConfig): PrefixFollower {
    const { cluster, consumer, maxClusters } = this.#options;
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

  /** The cluster has none of a kind. */
  forget(kind: MirroredKind): void {
    this.#followers.get(kind)?.entries.drain();
    this.#followers.delete(kind);
  }

  /** Takes everything back. */
  drain(): void {
    for (const { entries } of this.#followers.values()) entries.drain();
    this.#followers.clear();
    this.#refused.clear();
  }

  refuse(key: string, error: unknown): void {
    const reason = error instanceof Error ? error : new Error(String(error));
    if (this.#refused.get(key) === reason.message) return; // said before: a list repeats what a watch told
    this.#refusals++;
    if (this.#refused.size < refusedKept || this.#refused.has(key)) this.#refused.set(key, reason.message);
    this.#options.onRefused?.(key, reason);
  }

  /** The value of a key is good, or gone. */
  accept(key: string): void {
    this.#refused.delete(key);
  }

  #entryFollower(kind: MirroredKind, prefix: string, writer: EntryWriter): PrefixFollower {
    const sink: PrefixSink = {
      put: entry => {
        try {
          writer.put(entry.key.slice(prefix.length), entry);
        } catch (error) {
          this.refuse(entry.key, error);
          return;
        }
        this.accept(entry.key);
      },
      delete: key => {
        this.accept(key);
        writer.delete(key.slice(prefix.length));
      },
      listed: () => this.#options.onListed(kind),
    };
    return new PrefixFollower(prefix, sink, {
      verify: this.#options.verify ?? verifyEvery,
      onRepaired: keys => {
        this.#repaired += keys.length;
        this.#options.onRepaired?.(keys);
      },
    });
  }
}
