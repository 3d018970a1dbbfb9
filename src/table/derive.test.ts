import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { derive, input } from './derive.ts';
import { settled } from './settled.fixture.ts';
import { Table } from './table.ts';

interface Item {
  readonly id: string;
  readonly group: string;
  readonly weight: number;
}

function items(): Table<Item> {
  return new Table<Item>({ name: 'items', keyOf: row => row.id, indexes: { group: row => [row.group] } });
}

function sums(source: Table<Item>, computed: string[] = []) {
  return derive<{ group: string; sum: number }>({
    name: 'sums',
    keyOf: row => row.group,
    inputs: [input(source, row => [row.group])],
    equal: (a, b) => a.sum === b.sum,
    *compute(group) {
      computed.push(group);
      let sum = 0;
      let count = 0;
      for (const row of source.by('group', group)) {
        sum += row.weight;
        count++;
      }
      if (count) yield { group, sum };
    },
  });
}

test('rows present before the derivation are derived, later changes follow', async () => {
  const source = items();
  source.upsert({ id: 'a', group: 'x', weight: 1 });
  const out = sums(source);
  await settled();
  assert.equal(out.get('x')?.sum, 1);
  source.upsert({ id: 'b', group: 'x', weight: 2 });
  source.upsert({ id: 'a', group: 'y', weight: 5 });
  await settled();
  assert.deepEqual([out.get('x')?.sum, out.get('y')?.sum], [2, 5]);
  source.delete('b');
  await settled();
  assert.equal(out.has('x'), false);
});

test('a derivation of one row for each group follows as well', async () => {
  const source = items();
  const out = derive<{ group: string; count: number }>({
    name: 'counts',
    keyOf: row => row.group,
    rowPerGroup: true,
    inputs: [input(source, row => [row.group])],
    compute(group) {
      const count = [...source.by('group', group)].length;
      return count ? [{ group, count }] : [];
    },
  });
  source.upsert({ id: 'a', group: 'x', weight: 1 });
  source.upsert({ id: 'b', group: 'x', weight: 1 });
  await settled();
  assert.equal(out.get('x')?.count, 2);
  source.delete('a');
  source.upsert({ id: 'b', group: 'y', weight: 1 });
  await settled();
  assert.deepEqual([...out.keys()], ['y']);
});

test('only the groups a change touches are computed again, once for a burst', async () => {
  const source = items();
  for (let i = 0; i < 100; i++) source.upsert({ id: `i${i}`, group: `g${i % 10}`, weight: 1 });
  const computed: string[] = [];
  sums(source, computed);
  await settled();
  computed.length = 0;
  for (let i = 0; i < 50; i++) source.upsert({ id: 'i3', group: 'g3', weight: i });
  await settled();
  assert.deepEqual(computed, ['g3']);
});

test('the output is synced only when every input is and all groups are computed', async () => {
  const source = items();
  const out = sums(source);
  await turn();
  assert.equal(out.synced, false);
  source.upsert({ id: 'a', group: 'x', weight: 1 });
  source.markSynced();
  await out.whenSynced();
  assert.equal(out.get('x')?.sum, 1);
});

test('a derived table equals a recomputation from nothing after random changes', async () => {
  const source = items();
  const out = sums(source);
  let seed = 7;
  const random = (below: number): number => {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    return seed % below;
  };
  for (let round = 0; round < 200; round++) {
    for (let i = random(8); i >= 0; i--) {
      const id = `i${random(20)}`;
      if (random(3) === 0) source.delete(id);
      else source.upsert({ id, group: `g${random(5)}`, weight: random(100) });
    }
    if (random(2)) continue;
    await settled();
    const expected = new Map<string, number>();
    for (const row of source.values()) expected.set(row.group, (expected.get(row.group) ?? 0) + row.weight);
    assert.deepEqual(new Map([...out.values()].map(row => [row.group, row.sum])), expected);
  }
});

test('a long derivation gives the event loop its turns', async () => {
  const source = items();
  for (let i = 0; i < 200; i++) source.upsert({ id: `i${i}`, group: `g${i}`, weight: 1 });
  const out = derive<{ group: string }>({
    name: 'slow',
    keyOf: row => row.group,
    inputs: [input(source, row => [row.group])],
    *compute(group) {
      for (const until = performance.now() + 1; performance.now() < until; );
      yield { group };
    },
  });
  source.markSynced();
  let turns = 0;
  while (!out.synced) {
    turns++;
    await turn();
  }
  assert.ok(turns >= 10, `${turns} turns`);
  assert.equal(out.size, 200);
});

test('what is derived from a derived table is current only when both are', async () => {
  const source = items();
  for (let i = 0; i < 100; i++) source.upsert({ id: `i${i}`, group: `g${i}`, weight: i });
  const slow = derive<Item>({
    name: 'slow',
    keyOf: row => row.id,
    inputs: [input(source, row => [row.group])],
    *compute(group) {
      for (const until = performance.now() + 1; performance.now() < until; );
      yield* source.by('group', group);
    },
  });
  const out = derive<Item>({
    name: 'out',
    keyOf: row => row.id,
    inputs: [input(slow, row => [row.id])],
    *compute(id) {
      const found = slow.get(id);
      if (found) yield found;
    },
  });
  assert.equal(out.current, false);
  while (!out.current) await turn();
  assert.equal(out.size, 100);
});
