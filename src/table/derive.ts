import type { Change, ReadonlyTable } from './table.ts';
import { Table, type TableOptions } from './table.ts';
import { addBacklog, turnIsOver } from './turn.ts';

/** One table a derivation reads, and which groups a change of it touches. */
export interface Input {
  readonly table: { readonly synced: boolean; readonly current: boolean; whenSynced(): Promise<void> };
  /** Registers interest; calls `touch` with the group keys a change concerns, first for every present row. */
  connect(touch: (group: string) => void): void;
}

/** Declares that a row of `table` concerns the groups `groupsOf` names. */
export function input<Row>(
  table: ReadonlyTable<Row>,
  groupsOf: (row: Row, change: Change<Row>) => Iterable<string>,
): Input {
  return {
    table,
    connect(touch) {
      table.subscribe(change => {
        if (change.before !== undefined) for (const group of groupsOf(change.before, change)) touch(group);
        if (change.after !== undefined) for (const group of groupsOf(change.after, change)) touch(group);
      });
      for (const key of table.keys()) {
        const row = table.get(key)!;
        for (const group of groupsOf(row, { key, before: undefined, after: row })) touch(group);
      }
    },
  };
}

export interface Derivation<Out> extends TableOptions<Out> {
  readonly inputs: readonly Input[];
  /** Pure: all output rows of one group, from the present state of the inputs. */
  readonly compute: (group: string) => Iterable<Out>;
  /** Each group has one row at most, whose key is the group's: nothing need be remembered of who made which row. */
  readonly rowPerGroup?: boolean;
}

/** Groups computed before the clock is asked: a few changes are in the table as soon as they are known. */
const PIECE = 4;

/**
 * Keeps an output table equal to `compute` over all groups, recomputing only the groups an input
 * change touches, so that cost follows the change. Output keys of different groups must differ.
 * The output is synced when all inputs are and no group is waiting.
 */
export function derive<Out>(spec: Derivation<Out>): ReadonlyTable<Out> {
  const dirty = new Set<string>();
  const out = new DerivedTable<Out>(
    spec,
    () => dirty.size === 0 && spec.inputs.every(each => each.table.current),
  );
  const produced = new Map<string, readonly string[]>();
  let scheduled = false;

  const replaceRows = (group: string): void => {
    const rows = [...spec.compute(group)];
    const keys = rows.map(spec.keyOf);
    const before = produced.get(group);
    if (before) {
      const present = new Set(keys);
      for (const key of before) if (!present.has(key)) out.delete(key);
    }
    for (const row of rows) out.upsert(row);
    if (keys.length) produced.set(group, keys);
    else produced.delete(group);
  };
  const run = (): void => {
    scheduled = false;
    turnIsOver();
    let done = 0;
    for (const group of dirty) {
      dirty.delete(group);
      addBacklog(-1);
      if (spec.rowPerGroup) {
        const [row] = spec.compute(group);
        if (row === undefined) out.delete(group);
        else out.upsert(row);
      } else replaceRows(group);
      if (++done >= PIECE && turnIsOver() && dirty.size) {
        scheduled = true;
        setImmediate(run);
        return;
      }
    }
    if (!out.synced && spec.inputs.every(each => each.table.synced)) out.markSynced();
  };
  const schedule = (): void => {
    if (scheduled) return;
    scheduled = true;
    queueMicrotask(run);
  };
  for (const each of spec.inputs) {
    each.connect(group => {
      const before = dirty.size;
      addBacklog(dirty.add(group).size - before);
      schedule();
    });
    void each.table.whenSynced().then(schedule);
  }
  schedule();
  return out;
}

class DerivedTable<Row> extends Table<Row> {
  readonly #isCurrent: () => boolean;

  constructor(options: TableOptions<Row>, isCurrent: () => boolean) {
    super(options);
    this.#isCurrent = isCurrent;
  }

  override get current(): boolean {
    return this.#isCurrent();
  }
}
