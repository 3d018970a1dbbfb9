import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nextTurn, turnIsOver } from './turn.ts';

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
