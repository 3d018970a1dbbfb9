import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lockPlanning } from './state.ts';

test('two labs that come up together choose their addresses one after the other', async () => {
  const order: string[] = [];
  const first = await lockPlanning();
  const second = lockPlanning().then(lock => {
    order.push('second');
    return lock;
  });
  await new Promise(setImmediate);
  order.push('first done');
  first[Symbol.dispose]();
  (await second)[Symbol.dispose]();
  assert.deepEqual(order, ['first done', 'second']);
});
