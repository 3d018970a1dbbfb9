import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addBacklog, nextTurn, sourceTurn, turnIsOver } from './turn.ts';

const work = (milliseconds: number): void => {
  for (const until = performance.now() + milliseconds; performance.now() < until; );
};

test('a turn is over when its time is, for all who share it, and another begins with the next round', async () => {
  await nextTurn();
  turnIsOver();
  work(20);
  assert.equal(turnIsOver(), true);
  assert.equal(turnIsOver(), true, 'for whoever comes after');
  let later = false;
  await new Promise<void>(resolve =>
    setImmediate(() => {
      // On a busy machine the kernel may stop us here for longer than a turn: then it is over again.
      const began = performance.now();
      later = !turnIsOver() || performance.now() - began > 8;
      resolve();
    }),
  );
  assert.ok(later);
});

test('sources wait while what they told before is not computed, and then go on in the order they came', async () => {
  await nextTurn();
  assert.equal(sourceTurn(), undefined);
  addBacklog(5000);
  const seen: string[] = [];
  const sources = ['a', 'b', 'c'].map(async name => {
    await sourceTurn();
    seen.push(name);
  });
  for (let round = 0; round < 20; round++) await nextTurn();
  assert.deepEqual(seen, []);
  addBacklog(-5000);
  await Promise.all(sources);
  assert.deepEqual(seen, ['a', 'b', 'c']);
});
