import assert from 'node:assert/strict';
import { test } from 'node:test';
import { float64, json, optional, sharedText, text, texts, uint32 } from './columns.ts';
import { MapRows } from './map-rows.ts';
import { PackedRows, packed } from './packed-rows.ts';
import { SlotIndex } from './slot-index.ts';
import { Table } from './table.ts';

interface Item {
  readonly id: string;
  readonly group: string;
  readonly size: number;
  readonly weight: number;
  readonly tags: readonly string[];
}

const columns = { id: text, group: sharedText, size: uint32, weight: float64, tags: json<readonly string[]> };
const indexes = { group: (row: Item) => [row.group], tag: (row: Item) => row.tags };
const keyOf = (row: Item): string => row.id;

let seed = 11;
const random = (below: number): number => {
  seed = (seed * 1103515245 + 12345) % 2147483648;
  return seed % below;
};
const word = (): string => ['', 'ä', 'é…', '🙂', 'a'.repeat(random(40))][random(5)]! + random(12);

function compareWithMap(held: string | undefined): void {
  const rows = new PackedRows<Item>({ keyOf, columns, indexes, held });
  const model = new MapRows<Item>(indexes);
  for (let round = 0; round < 4000; round++) {
    const id = `${word()}/${random(150)}`;
    const before = model.get(id);
    assert.deepEqual(rows.get(id), before);
    // Now more come, now more go.
    if (random(10) < (round % 1000 < 500 ? 2 : 7)) {
      if (!before) continue;
      rows.delete(id, rows.get(id)!);
      model.delete(id, before);
    } else {
      const tags = Array.from({ length: random(3) }, () => `t${random(30)}`);
      const row = { id, group: word(), size: random(2 ** 31) * 2 + 1, weight: -random(100) / 7, tags };
      rows.set(id, row, rows.get(id));
      model.set(id, row, before);
    }
    if (round % 200) continue;
    const byId = (a: Item, b: Item): number => (a.id < b.id ? -1 : 1);
    assert.equal(rows.size, model.size);
    assert.deepEqual([...rows.values()].sort(byId), [...model.values()].sort(byId));
    assert.deepEqual([...rows.keys()].sort(), [...model.keys()].sort());
    for (let tag = 0; tag < 30; tag++)
      assert.deepEqual([...rows.by('tag', `t${tag}`)!], [...model.by('tag', `t${tag}`)!]);
    for (const { group } of model.values())
      assert.deepEqual([...rows.by('group', group)!], [...model.by('group', group)!]);
  }
}

test('packed rows say what a map of the rows says after random changes', () => compareWithMap(undefined));

test('packed rows of which some are held say what a map says, too', () => compareWithMap('tag'));

test('a row that was read stays as it was when its place has another one', () => {
  const table = new Table<Item>({ name: 'items', keyOf, indexes, rows: packed<Item>(columns) });
  const seen: string[] = [];
  table.subscribe(({ key, before, after }) => seen.push(`${key} ${before?.group} ${after?.group}`));
  const row = { id: 'a', group: 'x', size: 1, weight: 1, tags: ['t'] };
  table.upsert(row);
  const read = table.get('a');
  table.upsert({ ...row, group: 'y' });
  table.delete('a');
  table.upsert({ ...row, id: 'b', group: 'z' });
  assert.deepEqual(read, row);
  assert.deepEqual(seen, ['a undefined x', 'a x y', 'a y undefined', 'b undefined z']);
  assert.throws(() => table.by('colour', 'red'), /table items has no index colour/);
});

test('a number that a column cannot hold is refused, and leaves no row behind', () => {
  const rows = new PackedRows<Item>({ keyOf, columns, indexes });
  const bad = { id: 'a', group: 'x', size: -1, weight: 1, tags: [] };
  assert.throws(() => rows.set('a', bad, undefined), /found -1, expected 0 to 4294967295/);
  assert.deepEqual([rows.size, rows.get('a'), [...rows.values()]], [0, undefined, []]);
  rows.set('b', { ...bad, id: 'b', size: 7 }, undefined);
  assert.deepEqual([...rows.keys()], ['b']);
});

test('texts of one hash are found in the order they came, also after the index has grown', () => {
  const index = new SlotIndex();
  for (let slot = 0; slot < 100; slot++) index.add(slot % 3, slot);
  index.remove(0, 30);
  index.remove(0, 0);
  index.remove(0, 99);
  index.add(0, 1000);
  const expected = Array.from({ length: 33 }, (_, n) => n * 3).filter(each => each !== 30 && each !== 0);
  assert.deepEqual(index.all(0), [...expected, 1000]);
  assert.equal(
    index.find(1, slot => slot > 50),
    52,
  );
  assert.equal(
    index.find(7, () => true),
    -1,
  );
});

test('rows that are looked up by the held index are the same objects until they change, all others new ones', () => {
  const rows = new PackedRows<Item>({ keyOf, columns, indexes, held: 'group' });
  const row = { id: 'a', group: 'x', size: 1, weight: 1, tags: ['t'] };
  rows.set('a', row, undefined);
  rows.set('b', { ...row, id: 'b', group: 'y' }, undefined);
  const [found] = rows.by('group', 'x')!;
  assert.deepEqual(found, row);
  assert.equal(rows.get('a'), found);
  assert.equal([...rows.by('tag', 't')!][0], found);
  assert.notEqual(rows.get('b'), rows.get('b'));
  const next = { ...row, tags: ['u'], size: -1 };
  rows.set('a', next, rows.get('a'));
  assert.equal([...rows.by('group', 'x')!][0], next);
  assert.deepEqual([...rows.by('tag', 't')!].length, 1);
  assert.deepEqual([...rows.keys()], ['a', 'b']);
  rows.delete('a', rows.get('a')!);
  assert.deepEqual([...rows.by('group', 'x')!], []);
  rows.set('c', { ...row, id: 'c' }, undefined);
  assert.deepEqual(rows.get('c'), { ...row, id: 'c' });
});

test('a field that a row lacks is lacking when it is read, whatever its place had before', () => {
  interface Some {
    readonly id: string;
    readonly note: string | undefined;
  }
  const rows = new PackedRows<Some>({ keyOf: row => row.id, columns: { id: text, note: optional(text) } });
  for (const note of ['long enough to have a cell', undefined, '', undefined, 'again']) {
    rows.set('a', { id: 'a', note }, rows.get('a'));
    assert.deepEqual(rows.get('a'), { id: 'a', note });
  }
});

test('lists of texts are read as they were written, whatever is in them', () => {
  interface List {
    readonly id: string;
    readonly all: readonly string[];
  }
  const rows = new PackedRows<List>({ keyOf: row => row.id, columns: { id: text, all: texts } });
  const lists = [[], [''], ['a'], ['', ''], ['a', 'b c', '[1]'], ['a\n'], ['\n', '"'], ['[]']];
  for (const all of lists) {
    rows.set('a', { id: 'a', all }, rows.get('a'));
    assert.deepEqual(rows.get('a'), { id: 'a', all });
  }
});
