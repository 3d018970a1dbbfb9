import type { ReadonlyTable } from './table.ts';
import { nextTurn, turnIsOver } from './turn.ts';

/** One difference between desired and actual state. `row` is absent when the key must go. */
export interface Operation<Row> {
  readonly key: string;
  readonly row: Row | undefined;
}

/** What a reconciler writes to: a BPF map, an etcd, Kubernetes objects. */
export interface Target<Row> {
  /** Applies a batch; resolves to the keys that failed with the reason. Throwing fails the whole batch. */
  apply(batch: readonly Operation<Row>[]): Promise<ReadonlyMap<string, Error>> | ReadonlyMap<string, Error>;
  /** Keys that exist outside at start: those not desired are removed once the table is synced. */
  existing?(): Promise<Iterable<string>> | Iterable<string>;
  /** Keys of which the outside is not as the table says, found now: what a repair writes again. Default: all. */
  differing?(table: ReadonlyTable<Row>): AsyncIterable<string>;
}

export interface ReconcilerOptions<Row> {
  /** Largest batch handed to the target at once. */
  readonly batch?: number;
  /** What a row costs the target, in rows; a batch is cut where it costs `batch`. Default: 1. */
  readonly costOf?: (row: Row) => number;
  /** First and largest retry delay in milliseconds; doubles between. */
  readonly backoff?: { readonly first: number; readonly max: number };
  readonly onError?: (key: string, error: Error, attempt: number) => void;
  readonly signal?: AbortSignal;
}

/** The state of one reconciler, for status pages and metrics. */
export interface ReconcilerStatus {
  readonly pending: number;
  /** All that is known now has been applied, or has failed once: nothing waits, is in work or is still derived. */
  readonly quiet: boolean;
  readonly failing: ReadonlyMap<string, Error>;
  readonly applied: number;
}

const FEW = 16;

/**
 * Makes the outside equal to `table` by the smallest difference, in batches, with retry and backoff.
 * First sync, update and repair are one code path. Returns when `signal` aborts nothing more is applied.
 */
export class Reconciler<Row> {
  readonly #table: ReadonlyTable<Row>;
  readonly #target: Target<Row>;
  readonly #options: ReconcilerOptions<Row>;
  readonly #dirty = new Set<string>();
  readonly #failing = new Map<string, Error>();
  readonly #attempts = new Map<string, number>();
  #applied = 0;
  #running = false;
  #unsubscribe: () => void;
  #idle = Promise.withResolvers<void>();
  #pruned = false;

  constructor(table: ReadonlyTable<Row>, target: Target<Row>, options: ReconcilerOptions<Row> = {}) {
    this.#table = table;
    this.#target = target;
    this.#options = options;
    this.#unsubscribe = table.subscribe(change => this.#touch(change.key));
    for (const key of table.keys()) this.#touch(key);
    void this.#pruneOnceSynced();
    options.signal?.addEventListener('abort', () => this.#unsubscribe());
  }

  get status(): ReconcilerStatus {
    return {
      pending: this.#dirty.size,
      quiet: this.#table.current && this.#dirty.size === 0 && !this.#running,
      failing: this.#failing,
      applied: this.#applied,
    };
  }

  /** Resolves when the table is synced, stale rows are gone and everything desired has been tried once. */
  async whenSettled(): Promise<void> {
    await this.#table.whenSynced();
    while (!this.#pruned || this.#dirty.size || this.#running) await this.#idle.promise;
  }

  /** Compares again with what exists outside: removes what is not desired, rewrites what is. */
  async repair(): Promise<void> {
    if (this.#target.differing) {
      for await (const key of this.#target.differing(this.#table)) this.#touch(key);
      return;
    }
    for (const key of (await this.#target.existing?.()) ?? []) if (!this.#table.has(key)) this.#touch(key);
    for (const key of this.#table.keys()) this.#touch(key);
  }

  async #pruneOnceSynced(): Promise<void> {
    await this.#table.whenSynced();
    if (this.#options.signal?.aborted) return;
    const existing = (await this.#target.existing?.()) ?? [];
    // What is outside may be closed by now.
    if (this.#options.signal?.aborted) return;
    for (const key of existing) {
      if (!this.#table.has(key)) this.#dirty.add(key);
      if (!turnIsOver()) continue;
      await nextTurn();
      if (this.#options.signal?.aborted) return;
    }
    this.#pruned = true;
    this.#schedule();
  }

  #touch(key: string): void {
    this.#dirty.add(key);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#running || this.#options.signal?.aborted) return;
    this.#running = true;
    queueMicrotask(() => void this.#run());
  }

  async #run(): Promise<void> {
    const size = this.#options.batch ?? 512;
    const costOf = this.#options.costOf ?? (() => 1);
    while (this.#dirty.size && !this.#options.signal?.aborted) {
      // A target may be synchronous: a backlog leaves others their turn; a few rows are not worth the wait.
      if (turnIsOver() && this.#dirty.size > FEW) await nextTurn();
      const batch: Operation<Row>[] = [];
      let cost = 0;
      for (const key of this.#dirty) {
        this.#dirty.delete(key);
        const row = this.#table.get(key);
        batch.push({ key, row });
        cost += row === undefined ? 1 : costOf(row);
        if (cost >= size) break;
      }
      let failed: ReadonlyMap<string, Error>;
      try {
        failed = await this.#target.apply(batch);
      } catch (error) {
        const reason = error instanceof Error ? error : new Error(String(error));
        failed = new Map(batch.map(each => [each.key, reason]));
      }
      for (const { key } of batch) {
        const error = failed.get(key);
        if (error) this.#retry(key, error);
        else {
          this.#applied++;
          this.#failing.delete(key);
          this.#attempts.delete(key);
        }
      }
    }
    this.#running = false;
    this.#idle.resolve();
    this.#idle = Promise.withResolvers<void>();
  }

  #retry(key: string, error: Error): void {
    const attempt = (this.#attempts.get(key) ?? 0) + 1;
    this.#attempts.set(key, attempt);
    this.#failing.set(key, error);
    this.#options.onError?.(key, error, attempt);
    const { first, max } = this.#options.backoff ?? { first: 100, max: 30_000 };
    setTimeout(() => this.#touch(key), Math.min(max, first * 2 ** Math.min(attempt - 1, 20))).unref();
  }
}
