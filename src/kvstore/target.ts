import { create } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import type { Operation, Target } from '../table/reconciler.ts';
import type { EtcdConnection } from './connection.ts';
import { type RequestOp, RequestOpSchema } from './gen/etcd/api/etcdserverpb/rpc_pb.js';
import { type LeaseOptions, Leases } from './lease.ts';
import { type Entry, encodeKey, getKey, listPrefix } from './range.ts';
import { pause } from './session.ts';
import { freeSpace, isOutOfSpace } from './space.ts';
import { TRANSACTION, type TransactionSize, transactions } from './transactions.ts';

/** A desired key of an etcd. */
export interface EtcdRow {
  readonly key: string;
  readonly value: string;
}

/** The same where the value need not be text. */
export interface RawRow {
  readonly key: string;
  readonly value: string | Uint8Array;
}

export interface EtcdTargetOptions extends LeaseOptions {
  /** Prefixes this target owns: keys below them that nobody desires are removed at start. */
  readonly prefixes: readonly string[];
  /** Single keys it owns besides. */
  readonly keys?: readonly string[];
  /** Most puts and deletes in one transaction. Default: etcd's own limit. */
  readonly operations?: number;
  /** Most bytes of keys and values in one transaction. Default: what etcd takes. */
  readonly bytes?: number;
}

/**
 * What a Reconciler writes rows to: an etcd, in transactions, every key bound to a lease. Connections come
 * and go (`serve`); when an etcd lost keys (a lease expired, its data is gone, it was restored from a backup), `onLost`
 * is called, and its listener has the reconciler put them again. An etcd that takes no more because it has reached its
 * quota is made to, by freeing the space of what it keeps of the past (space.ts). What an earlier process left is kept alive until it
 * is known whether it is still desired.
 */
export class EtcdTarget implements Target<RawRow> {
  readonly #options: EtcdTargetOptions;
  readonly #leases: Leases;
  #connected = Promise.withResolvers<EtcdConnection>();
  /** Of the last answer to a write. */
  #revision = 0n;
  /** Cluster ID of the etcd whose keys of an earlier process are known. */
  #adopted: bigint | undefined;
  onLost: ((keys: readonly string[]) => void) | undefined;

  constructor(options: EtcdTargetOptions) {
    this.#options = options;
    this.#leases = new Leases(options);
  }

  /** Uses `connection` until `signal` aborts (resolves) or it fails (rejects): the body of keepSession. */
  async serve(connection: EtcdConnection, signal: AbortSignal): Promise<void> {
    await this.attach(connection, signal);
    await this.keep(connection, signal);
  }

  /** First half of `serve`: finds out what this etcd has lost, then starts to write to it. */
  async attach(connection: EtcdConnection, signal: AbortSignal): Promise<void> {
    // The first response pins the etcd's identity.
    const { header } = await connection.maintenance.status({}, { signal });
    const lost = await this.#leases.keepAlive(connection, signal);
    // Revisions only rise: what this etcd knows is older than what was written, leases or not.
    const restored = header !== undefined && header.revision < this.#revision;
    this.#revision = 0n;
    this.#report(restored ? [...lost, ...this.#leases.forgetAll()] : lost);
    if (this.#adopted !== connection.clusterId) {
      await this.#owned(connection, ({ key, lease }) => this.#leases.adopt(connection, key, lease));
      this.#adopted = connection.clusterId;
    }
    this.#connected.resolve(connection);
    const detach = (): void => {
      this.#connected = Promise.withResolvers();
    };
    if (signal.aborted) detach();
    else signal.addEventListener('abort', detach, { once: true });
  }

  /** Second half of `serve`: renews leases. */
  async keep(connection: EtcdConnection, signal: AbortSignal): Promise<void> {
    for (;;) {
      await pause((this.#leases.ttl * 1000) / 3, signal);
      if (signal.aborted) return;
      this.#report(await this.#leases.keepAlive(connection, signal));
    }
  }

  /** Waits for a connection, so that what is desired meanwhile costs no retries. */
  async apply(batch: readonly Operation<RawRow>[]): Promise<ReadonlyMap<string, Error>> {
    const failed = new Map<string, Error>();
    const connection = await this.#connected.promise;
    const { operations = TRANSACTION.operations, bytes = TRANSACTION.bytes } = this.#options;
    for (const part of transactions(batch, sizeOf, { operations, bytes }))
      await this.#write(connection, part, failed);
    return failed;
  }

  /** Keys below the owned prefixes; waits for an etcd that answers. */
  async existing(): Promise<Iterable<string>> {
    for (;;) {
      const connection = await this.#connected.promise;
      try {
        const keys: string[] = [];
        await this.#owned(connection, ({ key }) => keys.push(key));
        return keys;
      } catch {
        await pause(100, connection.lost); // the session reports its failure and connects anew
      }
    }
  }

  /** Calls back with what is there of what this target owns, without values. */
  async #owned(connection: EtcdConnection, onEntry: (entry: Entry) => void): Promise<void> {
    const { prefixes, keys = [] } = this.#options;
    for (const prefix of prefixes) {
      const onPage = (page: Iterable<Entry>): void => {
        for (const entry of page) onEntry(entry);
      };
      await listPrefix(connection, prefix, onPage, { keysOnly: true });
    }
    for (const key of keys) {
      const entry = await getKey(connection, key);
      if (entry) onEntry(entry);
    }
  }

  /** Writes one transaction; one that etcd finds too large is cut in half until the value to blame stands alone. */
  async #write(
    connection: EtcdConnection,
    part: readonly Operation<RawRow>[],
    failed: Map<string, Error>,
  ): Promise<void> {
    try {
      await this.#commit(connection, part);
    } catch (error) {
      if (part.length > 1 && isTooLarge(error)) {
        const half = Math.ceil(part.length / 2);
        await this.#write(connection, part.slice(0, half), failed);
        await this.#write(connection, part.slice(half), failed);
        return;
      }
      if (isLeaseNotFound(error)) this.#report(this.#leases.forgetAll());
      if (isOutOfSpace(error)) await this.#freeSpace(connection);
      for (const { key } of part) failed.set(key, error instanceof Error ? error : new Error(String(error)));
    }
  }

  async #commit(connection: EtcdConnection, operations: readonly Operation<RawRow>[]): Promise<void> {
    const success: RequestOp[] = [];
    for (const { key, row } of operations) {
      if (row) {
        const lease = await this.#leases.bind(connection, key);
        success.push(putOp(row, lease));
      } else success.push(deleteOp(key));
    }
    const { header } = await connection.writes.commit(success);
    if (header) this.#revision = header.revision;
    for (const { key, row } of operations) if (!row) this.#leases.release(key);
  }

  /** That it cannot be done is the failure of the write, which is tried again. */
  async #freeSpace(connection: EtcdConnection): Promise<void> {
    try {
      await freeSpace(connection);
    } catch (error) {
      if (!(error instanceof ConnectError)) throw error;
    }
  }

  #report(lost: readonly string[]): void {
    if (lost.length) this.onLost?.(lost);
  }
}

/** At most three bytes are written of each unit of a text. */
const sizeOf = ({ key, row }: Operation<RawRow>): TransactionSize => ({
  operations: 1,
  bytes: 3 * (key.length + (row?.value.length ?? 0)),
});

function putOp({ key, value }: RawRow, lease: bigint): RequestOp {
  return create(RequestOpSchema, {
    request: {
      case: 'requestPut',
      value: {
        key: encodeKey(key),
        value: typeof value === 'string' ? encodeKey(value) : new Uint8Array(value),
        lease,
      },
    },
  });
}

function deleteOp(key: string): RequestOp {
  return create(RequestOpSchema, {
    request: { case: 'requestDeleteRange', value: { key: encodeKey(key) } },
  });
}

function isTooLarge(error: unknown): boolean {
  return error instanceof ConnectError && /too large|larger than max/.test(error.message);
}

function isLeaseNotFound(error: unknown): boolean {
  return error instanceof ConnectError && error.code === Code.NotFound && /lease/.test(error.message);
}
