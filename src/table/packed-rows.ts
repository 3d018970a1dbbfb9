import { type Column, type ColumnKind, growth } from './columns.ts';
import { hashOf, SlotIndex } from './slot-index.ts';
import type { RowStore } from './table.ts';

/** A column for every field of a row. */
export type Columns<Row> = { readonly [Field in keyof Row]-?: ColumnKind<Row[Field]> };

export interface PackedRowsOptions<Row> {
  readonly keyOf: (row: Row) => string;
  readonly columns: Columns<Row>;
  readonly indexes?: Readonly<Record<string, (row: Row) => readonly string[]>> | undefined;
}

/** Keeps a table's rows in these columns: see {@link PackedRows}. */
export function packed<Row extends object>(columns: Columns<Row>) {
  return (options: Omit<PackedRowsOptions<Row>, 'columns'>): PackedRows<Row> =>
    new PackedRows({ ...options, columns });
}

/**
 * Rows of which there are hundreds of thousands, in columns. What is read is a new object each time, made of the
 * columns: whoever keeps it keeps it as it was. Keys are not kept but computed, so `keyOf` must need nothing but the
 * row's fields.
 */
export class PackedRows<Row extends object> implements RowStore<Row> {
  readonly #keyOf: (row: Row) => string;
  readonly #columns: readonly (readonly [field: string, column: Column<unknown>])[];
  readonly #keys = new SlotIndex();
  readonly #indexes: ReadonlyMap<string, { of: (row: Row) => readonly string[]; slots: SlotIndex }>;
  /** 1: the slot has a row. */
  #taken = new Uint8Array(0);
  #free: number[] = [];
  #end = 0;
  #size = 0;

  constructor({ keyOf, columns, indexes = {} }: PackedRowsOptions<Row>) {
    this.#keyOf = keyOf;
    this.#columns = Object.entries<ColumnKind<unknown>>(columns).map(([field, kind]) => [field, kind()]);
    this.#indexes = new Map(
      Object.entries(indexes).map(([name, of]) => [name, { of, slots: new SlotIndex() }]),
    );
  }

  get size(): number {
    return this.#size;
  }

  get(key: string): Row | undefined {
    let row: Row | undefined;
    this.#keys.find(hashOf(key), slot => {
      const found = this.#read(slot);
      if (this.#keyOf(found) !== key) return false;
      row = found;
      return true;
    });
    return row;
  }

  has(key: string): boolean {
    return this.#slotOf(key) >= 0;
  }

  *keys(): IterableIterator<string> {
    for (const row of this.values()) yield this.#keyOf(row);
  }

  *values(): IterableIterator<Row> {
    for (let slot = 0; slot < this.#end; slot++) if (this.#taken[slot]) yield this.#read(slot);
  }

  by(index: string, value: string): Iterable<Row> | undefined {
    const found = this.#indexes.get(index);
    return found && this.#all(found.slots.all(hashOf(value)), row => found.of(row).includes(value));
  }

  set(key: string, row: Row, before: Row | undefined): void {
    const slot = before === undefined ? this.#allocate() : this.#slotOf(key);
    try {
      for (const [field, column] of this.#columns) column.write(slot, row[field as keyof Row]);
    } catch (error) {
      if (before === undefined) this.#release(slot);
      else for (const [field, column] of this.#columns) column.write(slot, before[field as keyof Row]);
      throw error;
    }
    if (before === undefined) this.#keys.add(hashOf(key), slot);
    for (const { of, slots } of this.#indexes.values()) {
      const old = new Set(before && of(before));
      const next = new Set(of(row));
      // What stays keeps its place among the rows of its index key.
      for (const value of old) if (!next.has(value)) slots.remove(hashOf(value), slot);
      for (const value of next) if (!old.has(value)) slots.add(hashOf(value), slot);
    }
  }

  delete(key: string, before: Row): void {
    const slot = this.#slotOf(key);
    this.#keys.remove(hashOf(key), slot);
    for (const { of, slots } of this.#indexes.values())
      for (const value of new Set(of(before))) slots.remove(hashOf(value), slot);
    this.#release(slot);
  }

  /** Reads as far as is asked for. */
  *#all(slots: readonly number[], matches: (row: Row) => boolean): Iterable<Row> {
    for (const slot of slots) {
      const row = this.#taken[slot] ? this.#read(slot) : undefined;
      if (row && matches(row)) yield row;
    }
  }

  #slotOf(key: string): number {
    return this.#keys.find(hashOf(key), slot => this.#keyOf(this.#read(slot)) === key);
  }

  #read(slot: number): Row {
    const row: Record<string, unknown> = {};
    for (const [field, column] of this.#columns) row[field] = column.read(slot);
    return row as Row;
  }

  #allocate(): number {
    let slot = this.#free.pop();
    if (slot === undefined) {
      slot = this.#end++;
      if (slot >= this.#taken.length) {
        const slots = growth(slot);
        this.#taken = new Uint8Array(this.#taken.buffer.transfer(slots));
        for (const [, column] of this.#columns) column.grow(slots);
      }
    }
    this.#taken[slot] = 1;
    this.#size++;
    return slot;
  }

  #release(slot: number): void {
    for (const [, column] of this.#columns) column.clear(slot);
    this.#taken[slot] = 0;
    this.#free.push(slot);
    this.#size--;
  }
}
