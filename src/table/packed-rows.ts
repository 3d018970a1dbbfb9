import { type Column, type ColumnKind, growth } from './columns.ts';
import { hashOf, SlotIndex } from './slot-index.ts';
import type { RowStore } from './table.ts';

/** A column for every field of a row. */
export type Columns<Row> = { readonly [Field in keyof Row]-?: ColumnKind<Row[Field]> };

type IndexKeys<Row> = (row: Row) => readonly string[];

export interface PackedRowsOptions<Row> {
  readonly keyOf: (row: Row) => string;
  readonly columns: Columns<Row>;
  readonly indexes?: Readonly<Record<string, IndexKeys<Row>>> | undefined;
  /**
   * An index by which few rows are looked up, over and over: those are held as objects from then on, and whoever reads one
   * again, in whatever way, gets the same object for as long as the row is the same.
   */
  readonly held?: string | undefined;
  /** Rows that are held as objects from the start: in columns each change of them would cost what they have. */
  readonly isLarge?: ((row: Row) => boolean) | undefined;
}

/** Keeps a table's rows in these columns: see {@link PackedRows}. */
export function packed<Row extends object>(
  columns: Columns<Row>,
  hold: Pick<PackedRowsOptions<Row>, 'held' | 'isLarge'> = {},
) {
  return (options: Pick<PackedRowsOptions<Row>, 'keyOf' | 'indexes'>): PackedRows<Row> =>
    new PackedRows({ ...options, columns, ...hold });
}

/**
 * Rows of which there are hundreds of thousands, in columns. What is read is a new object each time, made of the
 * columns: whoever keeps it keeps it as it was. Keys are not kept but computed, so `keyOf` must need nothing but the
 * row's fields.
 */
export class PackedRows<Row extends object> implements RowStore<Row> {
  readonly #keyOf: (row: Row) => string;
  readonly #columns: readonly (readonly [field: string, column: Column<unknown>])[];
  readonly #cursor: Cursor<Row>;
  readonly #keys = new SlotIndex();
  readonly #indexes: ReadonlyMap<string, { of: IndexKeys<Row>; slots: SlotIndex }>;
  readonly #heldIndex: string | undefined;
  readonly #isLarge: (row: Row) => boolean;
  /** By slot. Nothing of them is in the columns. */
  readonly #held = new Map<number, Row>();
  /** 1: the slot has a row. */
  #taken = new Uint8Array(0);
  #free: number[] = [];
  #end = 0;
  #size = 0;

  constructor({ keyOf, columns, indexes = {}, held, isLarge }: PackedRowsOptions<Row>) {
    this.#keyOf = keyOf;
    this.#heldIndex = held;
    this.#isLarge = isLarge ?? (() => false);
    this.#columns = Object.entries<ColumnKind<unknown>>(columns).map(([field, kind]) => [field, kind()]);
    this.#cursor = cursorOver<Row>(this.#columns);
    this.#indexes = new Map(
      Object.entries(indexes).map(([name, of]) => [name, { of, slots: new SlotIndex() }]),
    );
  }

  get size(): number {
    return this.#size;
  }

  get(key: string): Row | undefined {
    const slot = this.#slotOf(key);
    return slot < 0 ? undefined : this.#read(slot);
  }

  has(key: string): boolean {
    return this.#slotOf(key) >= 0;
  }

  *keys(): IterableIterator<string> {
    for (let slot = 0; slot < this.#end; slot++) if (this.#taken[slot]) yield this.#keyOf(this.#at(slot));
  }

  *values(): IterableIterator<Row> {
    for (let slot = 0; slot < this.#end; slot++) if (this.#taken[slot]) yield this.#read(slot);
  }

  by(index: string, value: string): Iterable<Row> | undefined {
    const found = this.#indexes.get(index);
    if (!found) return undefined;
    const slots = found.slots.all(hashOf(value));
    const hold = index === this.#heldIndex;
    // Most questions are about an address, which has one row or none.
    if (slots.length > 1) return this.#all(slots, found.of, value, hold);
    const only = slots.length === 0 ? undefined : this.#under(slots[0]!, found.of, value, hold);
    return only === undefined ? noRows : [only];
  }

  set(key: string, row: Row, before: Row | undefined): void {
    const slot = before === undefined ? this.#allocate() : this.#slotOf(key);
    if (this.#held.has(slot)) this.#held.set(slot, row);
    else if (this.#isLarge(row)) this.#hold(slot, row);
    else this.#write(slot, row, before);
    if (before === undefined) this.#keys.add(hashOf(key), slot);
    this.#reindex(slot, before, row);
  }

  delete(key: string, before: Row): void {
    const slot = this.#slotOf(key);
    this.#keys.remove(hashOf(key), slot);
    this.#reindex(slot, before, undefined);
    this.#release(slot);
  }

  /** A row is under each of its index keys once, however often it names it. What stays keeps its place among their rows. */
  #reindex(slot: number, before: Row | undefined, after: Row | undefined): void {
    for (const { of, slots } of this.#indexes.values()) {
      const old = before === undefined ? none : of(before);
      const next = after === undefined ? none : of(after);
      for (let at = 0; at < old.length; at++)
        if (!next.includes(old[at]!) && old.indexOf(old[at]!) === at) slots.remove(hashOf(old[at]!), slot);
      for (let at = 0; at < next.length; at++)
        if (!old.includes(next[at]!) && next.indexOf(next[at]!) === at) slots.add(hashOf(next[at]!), slot);
    }
  }

  #write(slot: number, row: Row, before: Row | undefined): void {
    try {
      for (const [field, column] of this.#columns) column.write(slot, row[field as keyof Row]);
    } catch (error) {
      if (before === undefined) this.#release(slot);
      else for (const [field, column] of this.#columns) column.write(slot, before[field as keyof Row]);
      throw error;
    }
  }

  /** Reads as far as is asked for. */
  *#all(slots: readonly number[], of: IndexKeys<Row>, value: string, hold: boolean): Iterable<Row> {
    for (const slot of slots) {
      const row = this.#under(slot, of, value, hold);
      if (row !== undefined) yield row;
    }
  }

  /** The row of a slot, if it is under this index key. */
  #under(slot: number, of: IndexKeys<Row>, value: string, hold: boolean): Row | undefined {
    if (!this.#taken[slot] || !of(this.#at(slot)).includes(value)) return undefined;
    const row = this.#read(slot);
    if (hold) this.#hold(slot, row);
    return row;
  }

  #hold(slot: number, row: Row): void {
    if (this.#held.has(slot)) return;
    this.#held.set(slot, row);
    for (const [, column] of this.#columns) column.clear(slot);
  }

  /** To be looked at until the next one is. */
  #at(slot: number): Row {
    return this.#held.get(slot) ?? this.#cursor(slot);
  }

  #slotOf(key: string): number {
    return this.#keys.find(hashOf(key), slot => this.#keyOf(this.#at(slot)) === key);
  }

  #read(slot: number): Row {
    const held = this.#held.get(slot);
    if (held) return held;
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
    this.#held.delete(slot);
    this.#free.push(slot);
    this.#size--;
  }
}

const none: readonly string[] = [];
const noRows: readonly never[] = [];

/** The one row that stands for each slot in turn: of its fields only those are read that are asked for. */
type Cursor<Row> = (slot: number) => Row;

function cursorOver<Row>(
  columns: readonly (readonly [field: string, column: Column<unknown>])[],
): Cursor<Row> {
  let at = 0;
  const row = {};
  for (const [field, column] of columns)
    Object.defineProperty(row, field, { enumerable: true, get: () => column.read(at) });
  return slot => {
    at = slot;
    return row as Row;
  };
}
