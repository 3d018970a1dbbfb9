import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Table } from './table.ts';

interface Item {
  readonly id: string;
  readonly groups: readonly string[];
  readonly size?: number;
}

function items(): Table<Item> {
  return new Table<Item>({ name: 'items', keyOf: row => row.id, indexes: { group: row => row.groups } });
}

const idsOf = (table: Table<Item>, group: string): string[] =>
  Array.from(table.by('group', group), row => row.id);

test('an index finds no row, one, or several', () => {
  const table = items();
  assert.deepEqual(idsOf(table, 'a'), []);
  table.upsert({ id: '1', groups: ['a'] });
  assert.deepEqual(idsOf(table, 'a'), ['1']);
  table.upsert({ id: '2', groups: ['a', 'b'] });
  assert.deepEqual([idsOf(table, 'a'), idsOf(table, 'b')], [['1', '2'], ['2']]);
  table.delete('1');
  assert.deepEqual(idsOf(table, 'a'), ['2']);
  table.delete('2');
  assert.deepEqual([idsOf(table, 'a'), idsOf(table, 'b')], [[], []]);
});

test('a row is found under its present index keys only, each once', () => {
  const table = items();
  table.upsert({ id: '1', groups: ['a', 'a'] });
  table.upsert({ id: '1', groups: ['a', 'b'] });
  assert.deepEqual([idsOf(table, 'a'), idsOf(table, 'b')], [['1'], ['1']]);
  table.upsert({ id: '1', groups: ['b'] });
  assert.deepEqual([idsOf(table, 'a'), idsOf(table, 'b')], [[], ['1']]);
});

test('a row that is replaced keeps its place among those of its index key', () => {
  const table = items();
  table.upsert({ id: '1', groups: ['a'] });
  table.upsert({ id: '2', groups: ['a'] });
  table.upsert({ id: '1', groups: ['a'], size: 2 });
  assert.deepEqual(idsOf(table, 'a'), ['1', '2']);
});
