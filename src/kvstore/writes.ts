import { type Client, Code, ConnectError } from '@connectrpc/connect';
import type { KV, RequestOp, TxnResponse } from './gen/etcd/api/etcdserverpb/rpc_pb.js';
import { type TransactionSize, transactions } from './transactions.ts';

/** These say nothing of what was to be written. */
const unanswered: ReadonlySet<Code> = new Set([Code.Unavailable, Code.DeadlineExceeded, Code.Canceled]);

interface Part {
  readonly operations: readonly RequestOp[];
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
    if (this.#waiting.push({ operations, done }) === 1) setImmediate(() => this.#send());
    return done.promise;
  }

  #send(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const parts of transactions(waiting, sizeOf)) void this.#together(parts);
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

const sizeOf = ({ operations }: Part): TransactionSize => ({
  operations: operations.length,
  bytes: operations.reduce((sum, each) => sum + bytesOf(each), 0),
});

function bytesOf({ request }: RequestOp): number {
  if (request.case === 'requestPut') return request.value.key.length + request.value.value.length;
  return request.case === 'requestDeleteRange' ? request.value.key.length : 0;
}
