import assert from 'node:assert/strict';
import { test } from 'node:test';
import { patience, waitFor } from './process.ts';

test('a slow machine is given a multiple of every time limit, and the error says how long was waited', async t => {
  t.after(() => delete process.env.ISTHMUS_LAB_PATIENCE);
  process.env.ISTHMUS_LAB_PATIENCE = '20';
  const started = performance.now();
  await assert.rejects(
    waitFor(() => undefined, { timeout: 50, interval: 5, late: seconds => new Error(`after ${seconds} s`) }),
    /after 1 s/,
  );
  assert.ok(performance.now() - started >= 1000);
  assert.equal(patience(''), 1);
  for (const bad of ['0', '-1', 'much', '1e9'])
    assert.throws(() => patience(bad), new RegExp(`ISTHMUS_LAB_PATIENCE: found ${bad}, expected`));
});
