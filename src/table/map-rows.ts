import type { RowStore } from './table.ts';

/** Rows as they came, in a map. */
export class MapRows<Row> implements RowStore<Row> {
  readonly #rows = new Map<string, Row>();
  readonly #indexes = new Map<
    string,
    { of: (row: Row) => readonly string[]; keys: Map<string, string | Set<string>> }
  >();

  constructor(indexes: Readonly<Record<string, (row: Row) => readonly string[]>> = {}) {
    for (const [name, of] of Object.entries(indexes)) this.#indexes.set(name, { of, keys: new Map() });
  }

  get size(): number {
    return this.#rows.size;
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

  by(index: string, value: string): Iterable<Row> | undefined {
    const found = this.#indexes.get(index);
    if (!found) return undefined;
    const keys = found.keys.get(value);
    return keys === undefined ? noRows : this.#all(keys);
  }

  set(key: string, row: Row, before: Row | undefined): void {
    this.#rows.set(key, row);
    this.#reindex(key, before, row);
  }

  delete(key: string, before: Row): void {
    this.#rows.delete(key);
    this.#reindex(key, before, undefined);
  }

  *#all(keys: string | ReadonlySet<string>): Iterable<Row> {
    if (typeof keys === 'string') yield this.#rows.get(keys)!;
    else for (const key of keys) yield this.#rows.get(key)!;
  }

  #reindex(key: string, before: Row | undefined, after: Row | undefined): void {
    for (const { of, keys } of this.#indexes.values()) {
      const old = before === undefined ? [] : of(before);
      const next = after === undefined ? [] : of(after);
      // What stays keeps its place among the rows of its index key.
      for (const value of old) if (!next.includes(value)) removeFrom(keys, value, key);
      for (const value of next) if (!old.includes(value)) addTo(keys, value, key);
    }
  }
}

const noRows: readonly never[] = [];

/** Most index keys lead to one row: a set for each would be most of a large table's memory. */
function addTo(index: Map<string, string | Set<string>>, value: string, key: string): void {
  const present = index.get(value);
  if (present === undefined) index.set(value, key);
  else if (typeof present !== 'string') present.add(key);
  else if (present !== key) index.set(value, new Set([present, key]));
}

function removeFrom(index: Map<string, string | Set<string>>, value: string, key: string): void {
  const present = index.get(value);
  if (present === key) index.delete(value);
  else if (present instanceof Set && present.delete(key) && present.size === 0) index.delete(value);
}
