import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { Permits } from './permits.ts';

test('no more than so many hold a permit, and who came first gets the next one', async () => {
  const permits = new Permits(2);
  const holders: string[] = [];
  const give: Record<string, () => void> = {};
  for (const name of ['a', 'b', 'c', 'd'])
    void permits.take().then(release => {
      holders.push(name);
      give[name] = release;
    });
  await turn();
  assert.deepEqual(holders, ['a', 'b']);
  give.b!();
  give.b!();
  await turn();
  assert.deepEqual(holders, ['a', 'b', 'c']);
  for (const name of ['a', 'c']) give[name]!();
  await turn();
  give.d!();
  const again = [await permits.take(), await permits.take()];
  assert.equal(again.length, 2);
});
