import { MapRows } from './map-rows.ts';

/**
 * A typed in-memory collection with a primary key, indexes and a change feed: the middle of the
 * one-way street (sources → tables → derivations → reconcilers). One writer each. Rows are
 * immutable: a writer replaces them.
 */

/** One key's difference between two states of a table. `before` or `after` is absent on insert or delete. */
export interface Change<Row> {
  readonly key: string;
  readonly before: Row | undefined;
  readonly after: Row | undefined;
}

/** A read-only view of a table: what derivations and reconcilers get. */
export interface ReadonlyTable<Row> {
  readonly name: string;
  readonly size: number;
  /** True once the writer has delivered a complete first state. Nothing stale may be removed before. */
  readonly synced: boolean;
  /** False while a derived table lags behind its inputs: rows are to come from what is known already. */
  readonly current: boolean;
  get(key: string): Row | undefined;
  has(key: string): boolean;
  values(): IterableIterator<Row>;
  keys(): IterableIterator<string>;
  /** Rows whose index key equals `value`, those first that have had it longest. */
  by(index: string, value: string): Iterable<Row>;
  /** Calls back synchronously for every later change; returns the unsubscribe function. */
  subscribe(listener: (change: Change<Row>) => void): () => void;
  whenSynced(): Promise<void>;
}

/** Where a table keeps its rows. `before` is what `get` gives for the key now. */
export interface RowStore<Row> {
  readonly size: number;
  get(key: string): Row | undefined;
  has(key: string): boolean;
  keys(): IterableIterator<string>;
  values(): IterableIterator<Row>;
  /** Undefined where there is no such index. */
  by(index: string, value: string): Iterable<Row> | undefined;
  set(key: string, row: Row, before: Row | undefined): void;
  delete(key: string, before: Row): void;
}

export interface TableOptions<Row> {
  readonly name: string;
  readonly keyOf: (row: Row) => string;
  /** Index name → the index keys a row is found under. */
  readonly indexes?: Readonly<Record<string, (row: Row) => readonly string[]>>;
  /** True where two rows mean the same, so that no change is announced. Default: never equal. */
  readonly equal?: (a: Row, b: Row) => boolean;
  /** Where the rows are kept. Default: {@link MapRows}. For hundreds of thousands of them: `packed`. */
  readonly rows?: (options: Pick<TableOptions<Row>, 'keyOf' | 'indexes'>) => RowStore<Row>;
}

export class Table<Row> implements ReadonlyTable<Row> {
  readonly name: string;
  /** The primary key of a row, also of one that is not in the table. */
  readonly keyOf: (row: Row) => string;
  readonly #equal: ((a: Row, b: Row) => boolean) | undefined;
  readonly #rows: RowStore<Row>;
  readonly #listeners = new Set<(change: Change<Row>) => void>();
  #synced = Promise.withResolvers<void>();
  #isSynced = false;

  constructor(options: TableOptions<Row>) {
    this.name = options.name;
    this.keyOf = options.keyOf;
    this.#equal = options.equal;
    this.#rows = options.rows?.(options) ?? new MapRows(options.indexes);
  }

  get size(): number {
    return this.#rows.size;
  }

  get synced(): boolean {
    return this.#isSynced;
  }

  get current(): boolean {
    return true;
  }

  get(key: string): Row | undefined {
    return this.#rows.get(key);
  }

  has(key: string): boolean {
    return this.#rows.has(key);
  }

  values(): IterableIterator<Row> {
    return this.#rows.values();
  }

  keys(): IterableIterator<string> {
    return this.#rows.keys();
  }

  by(index: string, value: string): Iterable<Row> {
    const found = this.#rows.by(index, value);
    if (!found) throw new Error(`table ${this.name} has no index ${index}`);
    return found;
  }

  /** Inserts or replaces; announces nothing when the row equals the one it replaces. */
  upsert(row: Row): void {
    const key = this.keyOf(row);
    const before = this.#rows.get(key);
    if (before !== undefined && (before === row || this.#equal?.(before, row))) return;
    this.#rows.set(key, row, before);
    this.#announce({ key, before, after: row });
  }

  delete(key: string): void {
    const before = this.#rows.get(key);
    if (before === undefined) return;
    this.#rows.delete(key, before);
    this.#announce({ key, before, after: undefined });
  }

  /** Makes the table hold exactly these rows (of those `within` selects), by the smallest set of changes. */
  replace(rows: Iterable<Row>, within: (row: Row) => boolean = () => true): void {
    const keep = new Set<string>();
    for (const row of rows) {
      keep.add(this.keyOf(row));
      this.upsert(row);
    }
    for (const row of [...this.#rows.values()]) {
      const key = this.keyOf(row);
      if (!keep.has(key) && within(row)) this.delete(key);
    }
  }

  subscribe(listener: (change: Change<Row>) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Called by the one writer when its first complete state is in. */
  markSynced(): void {
    this.#isSynced = true;
    this.#synced.resolve();
  }

  whenSynced(): Promise<void> {
    return this.#synced.promise;
  }

  #announce(change: Change<Row>): void {
    for (const listener of this.#listeners) listener(change);
  }
}
