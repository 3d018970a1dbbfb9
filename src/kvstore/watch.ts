import { sourceTurn } from '../table/turn.ts';
import type { EtcdConnection } from './connection.ts';
import { Event_EventType } from './gen/etcd/api/mvccpb/kv_pb.js';
import { decodeText, type Entry, entryOf, getKey, listPrefix, prefixRange } from './range.ts';
import { Revisions } from './revisions.ts';
import { pause } from './session.ts';

/** What becomes of the entries below one prefix. Callbacks are called in etcd's order and must not throw. */
export interface PrefixSink {
  put(entry: Entry): void;
  delete(key: string): void;
  /** A complete list was delivered and what it lacked was deleted. Called after every list. */
  listed(): void;
}

export interface FollowOptions {
  /**
   * Milliseconds between comparisons of what the sink was told with what etcd has, each up to a fifth earlier or later.
   * Default: never.
   */
  readonly verify?: number;
  /** Milliseconds that a change may be on its way before it counts as missed. Default 5000. */
  readonly grace?: number;
  /** So many entries were not as in etcd, and have been mended. */
  readonly onRepaired?: (keys: readonly string[]) => void;
}

/**
 * Follows the entries below a prefix: lists them, then watches from the revision after the list. It may be
 * called again for the same sink with a new connection: the difference to what the sink was told before is
 * delivered, so that nothing known flaps. A compacted or cancelled watch is listed again on the spot.
 */
export class PrefixFollower {
  readonly prefix: string;
  readonly #sink: PrefixSink;
  readonly #options: FollowOptions;
  /** By the key without the prefix. */
  #known = new Revisions();

  constructor(prefix: string, sink: PrefixSink, options: FollowOptions = {}) {
    this.prefix = prefix;
    this.#sink = sink;
    this.#options = options;
  }

  /** Number of keys the sink holds now. */
  get size(): number {
    return this.#known.size;
  }

  /** What the sink holds now, without the prefix. */
  names(): IterableIterator<string> {
    return this.#known.names();
  }

  /** The sink holds these already, from elsewhere: the first list says which are not there any more. */
  adopt(names: Iterable<string>): void {
    for (const name of names) this.#known.set(name, -1n);
  }

  /** Runs until `signal` aborts (resolves) or the connection fails (rejects); what is known stays. */
  async follow(connection: EtcdConnection, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const revision = await this.#list(connection, signal);
      const watched = new AbortController();
      const verifying = this.#verify(connection, AbortSignal.any([signal, watched.signal]));
      try {
        await this.#watch(connection, revision + 1n, signal);
      } finally {
        watched.abort();
        await verifying;
      }
    }
  }

  /** Deletes everything known: what follows the end of a configuration. */
  drain(): void {
    for (const name of this.#known.names()) this.#sink.delete(this.prefix + name);
    this.#known = new Revisions();
  }

  async #list(connection: EtcdConnection, signal: AbortSignal): Promise<bigint> {
    const stale = new Set(this.#known.names());
    const take = async (entries: Iterable<Entry>): Promise<void> => {
      for (const entry of entries) {
        const wait = sourceTurn();
        if (wait) await wait;
        stale.delete(this.#nameOf(entry.key));
        this.#take(entry);
      }
    };
    const revision = await listPrefix(connection, this.prefix, take, { signal });
    for (const name of stale) {
      await sourceTurn();
      this.#forget(this.prefix + name);
    }
    this.#sink.listed();
    return revision;
  }

  /** Resolves when the watch must be started from a list again. */
  async #watch(connection: EtcdConnection, startRevision: bigint, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    using watch = connection.watch(prefixRange(this.prefix), startRevision);
    const close = (): void => watch[Symbol.dispose]();
    signal.addEventListener('abort', close, { once: true });
    try {
      for (let events = await watch.next(); events; events = await watch.next())
        for (const { type, kv } of events) {
          if (!kv) continue;
          const wait = sourceTurn();
          if (wait) await wait;
          if (type === Event_EventType.DELETE) this.#forget(decodeText(kv.key));
          else this.#take(entryOf(kv));
        }
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      signal.removeEventListener('abort', close);
    }
  }

  /** Compares now and then, by keys and revisions alone, until `signal` aborts. Failures are the watch's to tell. */
  async #verify(connection: EtcdConnection, signal: AbortSignal): Promise<void> {
    const { verify, grace = 5000, onRepaired } = this.#options;
    if (verify === undefined) return;
    for (;;) {
      await pause(verify * (0.8 + 0.4 * Math.random()), signal);
      if (signal.aborted) return;
      try {
        const found = await this.#revisions(connection, signal);
        const suspects = await this.#suspects(found);
        if (suspects.length === 0) continue;
        await pause(grace, signal);
        if (signal.aborted) return;
        const repaired: string[] = [];
        for (const key of suspects) if (await this.#repair(connection, key)) repaired.push(key);
        if (repaired.length) onRepaired?.(repaired);
      } catch {
        // The next look will tell, or the connection ends.
      }
    }
  }

  /** Keys that are known otherwise than they were found. */
  async #suspects(found: ReadonlyMap<string, bigint>): Promise<string[]> {
    const suspects: string[] = [];
    for (const [key, revision] of found) {
      await sourceTurn();
      if (this.#known.get(this.#nameOf(key)) !== revision) suspects.push(key);
    }
    for (const name of this.#known.names())
      if (!found.has(this.prefix + name)) suspects.push(this.prefix + name);
    return suspects;
  }

  async #revisions(connection: EtcdConnection, signal: AbortSignal): Promise<Map<string, bigint>> {
    const found = new Map<string, bigint>();
    const take = (entries: Iterable<Entry>): void => {
      for (const { key, modRevision } of entries) found.set(key, modRevision);
    };
    await listPrefix(connection, this.prefix, take, { signal, keysOnly: true });
    return found;
  }

  /** True where a key was not as it has been for the time of grace. */
  async #repair(connection: EtcdConnection, key: string): Promise<boolean> {
    const name = this.#nameOf(key);
    const known = this.#known.get(name);
    const entry = await getKey(connection, key);
    // What changed meanwhile comes by the watch.
    if (known !== this.#known.get(name) || entry?.modRevision === known) return false;
    if (entry) this.#take(entry);
    else this.#forget(key);
    return true;
  }

  #nameOf(key: string): string {
    return key.slice(this.prefix.length);
  }

  #take(entry: Entry): void {
    this.#known.set(this.#nameOf(entry.key), entry.modRevision);
    this.#sink.put(entry);
  }

  #forget(key: string): void {
    if (this.#known.delete(this.#nameOf(key))) this.#sink.delete(key);
  }
}
