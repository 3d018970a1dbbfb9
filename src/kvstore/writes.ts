import { type Client, Code, ConnectError } from '@connectrpc/connect';
import type { KV, RequestOp, TxnResponse } from './gen/etcd/api/etcdserverpb/rpc_pb.js';

/** What etcd takes in one transaction: operations (--max-txn-ops), and well below its 1.5 MiB. */
const MOST = { operations: 128, bytes: 1 << 20 };

/** These say nothing of what was to be written. */
const unanswered: ReadonlySet<Code> = new Set([Code.Unavailable, Code.DeadlineExceeded, Code.Canceled]);

interface Part {
  readonly operations: readonly RequestOp[];
  readonly bytes: number;
  readonly done: PromiseWithResolvers<TxnResponse>;
}

/**
 * Transactions on one connection. Those of one turn of the event loop go together, as far as etcd takes them: a pod that
 * is replaced is a change of a service and of addresses, which have writers of their own, and a question to etcd costs
 * more than all that is in it. Where etcd refuses it all, each is written by itself, so that nobody pays for another.
 * Their keys must not be the same.
 */
export class Writes {
  readonly #kv: Pick<Client<typeof KV>, 'txn'>;
  #waiting: Part[] = [];

  constructor(kv: Pick<Client<typeof KV>, 'txn'>) {
    this.#kv = kv;
  }

  /** @throws ConnectError of the transaction */
  commit(operations: readonly RequestOp[]): Promise<TxnResponse> {
    const done = Promise.withResolvers<TxnResponse>();
    const bytes = operations.reduce((sum, each) => sum + bytesOf(each), 0);
    if (this.#waiting.push({ operations, bytes, done }) === 1) setImmediate(() => this.#send());
    return done.promise;
  }

  #send(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    let parts: Part[] = [];
    let operations = 0;
    let bytes = 0;
    for (const part of waiting) {
      operations += part.operations.length;
      bytes += part.bytes;
      if (parts.length && (operations > MOST.operations || bytes > MOST.bytes)) {
        void this.#together(parts);
        parts = [];
        operations = part.operations.length;
        bytes = part.bytes;
      }
      parts.push(part);
    }
    void this.#together(parts);
  }

  async #together(parts: readonly Part[]): Promise<void> {
    try {
      const answer = await this.#kv.txn({ success: parts.flatMap(each => each.operations) });
      for (const { done } of parts) done.resolve(answer);
    } catch (error) {
      const refused = error instanceof ConnectError && !unanswered.has(error.code);
      if (refused && parts.length > 1) for (const part of parts) void this.#together([part]);
      else for (const { done } of parts) done.reject(error);
    }
  }
}

function bytesOf({ request }: RequestOp): number {
  if (request.case === 'requestPut') return request.value.key.length + request.value.value.length;
  return request.case === 'requestDeleteRange' ? request.value.key.length : 0;
}
