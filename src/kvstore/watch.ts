import { create } from '@bufbuild/protobuf';
import type { EtcdConnection } from './connection.ts';
import { EtcdFailure } from './failure.ts';
import { type WatchRequest, WatchRequestSchema } from './gen/etcd/api/etcdserverpb/rpc_pb.js';
import { Event_EventType } from './gen/etcd/api/mvccpb/kv_pb.js';
import { decodeText, type Entry, encodeKey, entryOf, listPrefix, prefixEnd } from './range.ts';

/** What becomes of the entries below one prefix. Callbacks are called in etcd's order and must not throw. */
export interface PrefixSink {
  put(entry: Entry): void;
  delete(key: string): void;
  /** A complete list was delivered and what it lacked was deleted. Called after every list. */
  listed(): void;
}

/**
 * Follows the entries below a prefix: lists them, then watches from the revision after the list. It may be
 * called again for the same sink with a new connection: the difference to what the sink was told before is
 * delivered, so that nothing known flaps. A compacted or cancelled watch is listed again on the spot.
 */
export class PrefixFollower {
  readonly prefix: string;
  readonly #sink: PrefixSink;
  readonly #known = new Set<string>();

  constructor(prefix: string, sink: PrefixSink) {
    this.prefix = prefix;
    this.#sink = sink;
  }

  /** Number of keys the sink holds now. */
  get size(): number {
    return this.#known.size;
  }

  /** Runs until `signal` aborts (resolves) or the connection fails (rejects); what is known stays. */
  async follow(connection: EtcdConnection, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const revision = await this.#list(connection, signal);
      await this.#watch(connection, revision + 1n, signal);
    }
  }

  /** Deletes everything known: what follows the end of a configuration. */
  drain(): void {
    for (const key of this.#known) this.#sink.delete(key);
    this.#known.clear();
  }

  async #list(connection: EtcdConnection, signal: AbortSignal): Promise<bigint> {
    const stale = new Set(this.#known);
    const take = (entries: readonly Entry[]): void => {
      for (const entry of entries) {
        stale.delete(entry.key);
        this.#known.add(entry.key);
        this.#sink.put(entry);
      }
    };
    const revision = await listPrefix(connection, this.prefix, take, { signal });
    for (const key of stale) this.#forget(key);
    this.#sink.listed();
    return revision;
  }

  /** Resolves when the watch must be started from a list again. */
  async #watch(connection: EtcdConnection, startRevision: bigint, signal: AbortSignal): Promise<void> {
    const stop = new AbortController();
    const responses = connection.watch.watch(watchRequests(this.prefix, startRevision, stop.signal), {
      signal: AbortSignal.any([signal, stop.signal]),
      timeoutMs: 0,
    });
    try {
      for await (const response of responses) {
        connection.check(response.header);
        if (response.canceled) {
          if (response.compactRevision > 0n) return;
          throw new EtcdFailure('etcd', `watch of ${this.prefix} cancelled: ${response.cancelReason}`);
        }
        for (const { type, kv } of response.events) {
          if (!kv) continue;
          if (type === Event_EventType.DELETE) this.#forget(decodeText(kv.key));
          else {
            const entry = entryOf(kv);
            this.#known.add(entry.key);
            this.#sink.put(entry);
          }
        }
      }
      if (!signal.aborted) throw new EtcdFailure('etcd', `watch of ${this.prefix} ended`);
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      stop.abort();
    }
  }

  #forget(key: string): void {
    if (this.#known.delete(key)) this.#sink.delete(key);
  }
}

/** One creation request, then silence until the watch is stopped. */
async function* watchRequests(
  prefix: string,
  startRevision: bigint,
  stop: AbortSignal,
): AsyncGenerator<WatchRequest> {
  yield create(WatchRequestSchema, {
    requestUnion: {
      case: 'createRequest',
      value: { key: encodeKey(prefix), rangeEnd: prefixEnd(prefix), startRevision, fragment: true },
    },
  });
  await new Promise<void>(resolve => stop.addEventListener('abort', () => resolve(), { once: true }));
}
