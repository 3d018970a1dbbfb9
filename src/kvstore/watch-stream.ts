import { fromBinary } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { Call, type Carrier } from './call.ts';
import { EtcdFailure } from './failure.ts';
import {
  type ResponseHeader,
  type WatchRequestSchema,
  type WatchResponse,
  WatchResponseSchema,
  Watch as WatchService,
} from './gen/etcd/api/etcdserverpb/rpc_pb.js';
import type { Event } from './gen/etcd/api/mvccpb/kv_pb.js';
import { decodeText, type KeyRange } from './range.ts';

/** Bytes that may wait for the follower of one watch: more than the largest message, few enough for hundreds of watches. */
const BEHIND = 4 << 20;

/** One range of keys that is watched. Closed, it says nothing more. */
export interface Watch extends Disposable {
  /**
   * The next changes, in etcd's order. Undefined when the watch has ended and what it missed is to be found by a list: what
   * it began with is compacted, it fell behind, or was closed. @throws when it failed
   */
  next(): Promise<readonly Event[] | undefined>;
}

/**
 * All watches of one connection, on one stream: etcd tells them apart by a number. It lives as long as there is a watch.
 *
 * What comes is taken off the stream at once, whoever it is for, and waits at its watch: flow control would stop all
 * watches for the slowest, a heartbeat and a service behind ten thousand addresses. A watch at which too much waits is ended
 * instead: its follower lists the range again, page by page as it can take them, and gets only what differs. So memory has
 * a bound, nothing is lost, and nobody waits for anybody.
 */
export class WatchStream {
  readonly #session: Carrier;
  readonly #check: (header: ResponseHeader | undefined) => void;
  #call: Call<typeof WatchRequestSchema> | undefined;
  readonly #watches = new Map<bigint, RunningWatch>();
  /** Numbers that etcd has not confirmed, in the order of asking, which is that of its answers. */
  #asked: bigint[] = [];
  #lastId = 0n;

  /** `check` is told the header of whatever comes, and throws if it is another etcd's. */
  constructor(session: Carrier, check: (header: ResponseHeader | undefined) => void) {
    this.#session = session;
    this.#check = check;
  }

  /** Watches a range from a revision on. @throws ConnectError where the session has ended */
  open({ key, rangeEnd }: KeyRange, startRevision: bigint): Watch {
    this.#call ??= new Call(this.#session, WatchService.method.watch, 0, {
      onMessage: message => this.#take(message),
      onEnd: error => this.#ended(error),
    });
    // Never one that was used: what comes for a watch that is gone finds nobody.
    const id = ++this.#lastId;
    const watch = new RunningWatch(decodeText(key), () => this.#close(id));
    this.#watches.set(id, watch);
    this.#asked.push(id);
    this.#call.send({
      requestUnion: {
        case: 'createRequest',
        value: { key, ...(rangeEnd && { rangeEnd }), startRevision, watchId: id, fragment: true },
      },
    });
    return watch;
  }

  #close(id: bigint): void {
    if (!this.#watches.has(id)) return;
    this.#call?.send({ requestUnion: { case: 'cancelRequest', value: { watchId: id } } });
    this.#forget(id);
  }

  #forget(id: bigint): void {
    this.#watches.delete(id);
    if (this.#watches.size === 0) this.#call?.cancel(new ConnectError('no watch is left', Code.Canceled));
  }

  #take(message: Uint8Array): void {
    try {
      const response = fromBinary(WatchResponseSchema, message);
      this.#check(response.header);
      this.#deliver(response, message.length);
    } catch (error) {
      this.#call?.cancel(ConnectError.from(error, Code.Internal));
    }
  }

  #deliver(response: WatchResponse, bytes: number): void {
    // A watch that is refused has no number: the answer is to the question that has waited longest.
    const id = response.created ? (this.#asked.shift() ?? 0n) : response.watchId;
    const watch = this.#watches.get(id);
    if (!watch) return;
    if (response.canceled) {
      this.#forget(id);
      const { compactRevision, cancelReason } = response;
      watch.end(compactRevision > 0n ? undefined : cancelReason);
    } else if (response.events.length && !watch.add(response.events, bytes)) {
      this.#close(id);
      watch.end(undefined);
    }
  }

  #ended(error: ConnectError | undefined): void {
    const watches = [...this.#watches.values()];
    this.#watches.clear();
    this.#asked = [];
    this.#call = undefined;
    for (const watch of watches) watch.end(error ?? 'etcd ended all watches');
  }
}

class RunningWatch implements Watch {
  readonly #key: string;
  readonly #close: () => void;
  /** What came and was not asked for yet. */
  #waiting: { readonly events: readonly Event[]; readonly bytes: number }[] = [];
  #bytes = 0;
  #end: { readonly failure: Error | undefined } | undefined;
  #asking: PromiseWithResolvers<void> | undefined;

  constructor(key: string, close: () => void) {
    this.#key = key;
    this.#close = close;
  }

  /** False where it is too far behind. */
  add(events: readonly Event[], bytes: number): boolean {
    if (this.#bytes + bytes > BEHIND) return false;
    this.#waiting.push({ events, bytes });
    this.#bytes += bytes;
    this.#asking?.resolve();
    return true;
  }

  /** Says nothing more, not even what waits: a list will. A reason is a failure. */
  end(reason: Error | string | undefined): void {
    const failure =
      typeof reason === 'string' ? new EtcdFailure('etcd', `watch of ${this.#key} ended: ${reason}`) : reason;
    this.#end ??= { failure };
    this.#waiting = [];
    this.#asking?.resolve();
  }

  async next(): Promise<readonly Event[] | undefined> {
    if (!this.#waiting.length && !this.#end) {
      this.#asking = Promise.withResolvers();
      await this.#asking.promise;
      this.#asking = undefined;
    }
    if (this.#end?.failure) throw this.#end.failure;
    const next = this.#waiting.shift();
    if (next) this.#bytes -= next.bytes;
    return next?.events;
  }

  [Symbol.dispose](): void {
    this.#close();
    this.end(undefined);
  }
}
