import assert from 'node:assert/strict';
import { test } from 'node:test';
import { derive, input } from './derive.ts';
import { type Operation, Reconciler, type Target } from './reconciler.ts';
import { Table } from './table.ts';

interface Row {
  readonly key: string;
  readonly value: number;
}

class Outside implements Target<Row> {
  readonly rows = new Map<string, number>();
  readonly batches: (readonly Operation<Row>[])[] = [];
  refuse = new Set<string>();
  /** What a batch takes. */
  milliseconds = 0;

  apply(batch: readonly Operation<Row>[]): ReadonlyMap<string, Error> {
    this.batches.push(batch);
    for (const until = performance.now() + this.milliseconds; performance.now() < until; );
    const failed = new Map<string, Error>();
    for (const { key, row } of batch) {
      if (this.refuse.has(key)) failed.set(key, new Error(`${key} refused`));
      else if (row) this.rows.set(key, row.value);
      else this.rows.delete(key);
    }
    return failed;
  }

  existing(): Iterable<string> {
    return [...this.rows.keys()];
  }
}

const table = (): Table<Row> => new Table<Row>({ name: 'rows', keyOf: row => row.key });

test('what is stale outside stays until the table is synced, then goes', async () => {
  const rows = table();
  const outside = new Outside();
  outside.rows.set('old', 1);
  outside.rows.set('kept', 2);
  const reconciler = new Reconciler(rows, outside);
  rows.upsert({ key: 'kept', value: 2 });
  rows.upsert({ key: 'new', value: 3 });
  await new Promise(setImmediate);
  assert.deepEqual([...outside.rows.keys()].sort(), ['kept', 'new', 'old']);
  rows.markSynced();
  await reconciler.whenSettled();
  assert.deepEqual([...outside.rows.keys()].sort(), ['kept', 'new']);
});

test('others have their turns while what is stale is looked for among many keys', async () => {
  const rows = table();
  const outside = new Outside();
  outside.existing = function* () {
    for (let at = 0; at < 40; at++) {
      for (const until = performance.now() + 1; performance.now() < until; );
      yield `old${at}`;
    }
  };
  for (let at = 0; at < 40; at++) outside.rows.set(`old${at}`, at);
  const reconciler = new Reconciler(rows, outside);
  rows.markSynced();
  let turns = 0;
  for (; outside.rows.size; turns++) await new Promise(setImmediate);
  await reconciler.whenSettled();
  assert.ok(turns >= 4, `${turns} turns`);
});

test('a burst of changes is one batch, and only the last state of a key is written', async () => {
  const rows = table();
  rows.markSynced();
  const outside = new Outside();
  const reconciler = new Reconciler(rows, outside);
  await reconciler.whenSettled();
  outside.batches.length = 0;
  for (let i = 0; i < 100; i++) rows.upsert({ key: `k${i % 10}`, value: i });
  await reconciler.whenSettled();
  assert.equal(outside.batches.length, 1);
  assert.equal(outside.batches[0]?.length, 10);
  assert.equal(outside.rows.get('k9'), 99);
});

test('a refused row is retried, is reported, and does not stop the others', async () => {
  const rows = table();
  rows.markSynced();
  const outside = new Outside();
  outside.refuse.add('bad');
  const errors: string[] = [];
  const accepted = Promise.withResolvers<void>();
  const reconciler = new Reconciler(rows, outside, {
    backoff: { first: 1, max: 2 },
    onError: (key, error, attempt) => {
      errors.push(`${key}: ${error.message}`);
      if (attempt === 3) {
        outside.refuse.clear();
        accepted.resolve();
      }
    },
  });
  rows.upsert({ key: 'bad', value: 1 });
  rows.upsert({ key: 'good', value: 2 });
  await reconciler.whenSettled();
  assert.equal(outside.rows.get('good'), 2);
  assert.equal(reconciler.status.failing.get('bad')?.message, 'bad refused');
  const keepAlive = setInterval(() => {}, 10);
  await accepted.promise;
  while (reconciler.status.failing.size) await new Promise(setImmediate);
  clearInterval(keepAlive);
  assert.equal(outside.rows.get('bad'), 1);
  assert.equal(errors.length, 3);
});

test('repair rewrites what somebody else changed outside', async () => {
  const rows = table();
  rows.upsert({ key: 'a', value: 1 });
  rows.markSynced();
  const outside = new Outside();
  const reconciler = new Reconciler(rows, outside);
  await reconciler.whenSettled();
  outside.rows.delete('a');
  outside.rows.set('foreign', 9);
  await reconciler.repair();
  await reconciler.whenSettled();
  assert.deepEqual([...outside.rows], [['a', 1]]);
});

test('a long backlog leaves the event loop a turn between batches', async () => {
  const rows = table();
  const outside = new Outside();
  outside.milliseconds = 5;
  const reconciler = new Reconciler(rows, outside, { batch: 10 });
  for (let n = 0; n < 100; n++) rows.upsert({ key: String(n), value: n });
  const seen: number[] = [];
  const look = (): void => {
    seen.push(outside.rows.size);
    if (outside.rows.size < 100) setImmediate(look);
  };
  setImmediate(look);
  rows.markSynced();
  await reconciler.whenSettled();
  assert.ok(
    seen.some(size => size > 0 && size < 100),
    `saw ${seen}`,
  );
});

test('a batch is cut where its rows cost as much as a batch may', async () => {
  const rows = table();
  const outside = new Outside();
  for (const [key, value] of [
    ['a', 1],
    ['b', 9],
    ['c', 30],
    ['d', 1],
  ] as const)
    rows.upsert({ key, value });
  rows.markSynced();
  const reconciler = new Reconciler(rows, outside, { batch: 10, costOf: row => row.value });
  await reconciler.whenSettled();
  assert.deepEqual(
    outside.batches.map(each => each.length),
    [2, 1, 1],
  );
});

test('a reconciler is not quiet while its table is derived', async () => {
  const rows = table();
  for (let n = 0; n < 50; n++) rows.upsert({ key: String(n), value: n });
  const derived = derive<{ readonly key: string; readonly value: number }>({
    name: 'derived',
    keyOf: row => row.key,
    inputs: [input(rows, row => [row.key])],
    compute(key) {
      for (const until = performance.now() + 1; performance.now() < until; );
      return [rows.get(key)!];
    },
  });
  const outside = new Outside();
  const reconciler = new Reconciler(derived, outside);
  while (!reconciler.status.quiet) await new Promise(setImmediate);
  assert.equal(outside.rows.size, 50);
});
