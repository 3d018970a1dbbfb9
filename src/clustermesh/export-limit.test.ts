import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { EtcdRow } from '../kvstore/target.ts';
import { Table } from '../table/table.ts';
import { limitValues } from './export-limit.ts';

test('a value that etcd would not take is refused, and the last good one stays exported', async () => {
  const source = new Table<EtcdRow>({ name: 'export-services', keyOf: row => row.key });
  const { rows, refused } = limitValues(source, 100);
  const of = (key: string): string | undefined => rows.get(key)?.value;
  source.upsert({ key: 'shop/cart', value: 'small' });
  source.upsert({ key: 'shop/cart', value: 'x'.repeat(101) });
  source.upsert({ key: 'shop/new', value: 'é'.repeat(51) });
  assert.equal(of('shop/cart'), 'small');
  assert.equal(of('shop/new'), undefined);
  assert.deepEqual(
    [...refused.values()],
    [
      { key: 'shop/cart', bytes: 101, kept: true },
      { key: 'shop/new', bytes: 102, kept: false },
    ],
  );
  source.upsert({ key: 'shop/cart', value: 'y'.repeat(100) });
  assert.equal(of('shop/cart')?.length, 100);
  assert.deepEqual([...refused.keys()], ['shop/new']);
  source.delete('shop/cart');
  source.delete('shop/new');
  assert.deepEqual([rows.size, refused.size], [0, 0]);
  source.markSynced();
  await rows.whenSynced();
});
