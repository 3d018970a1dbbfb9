import assert from 'node:assert/strict';
import { test } from 'node:test';
import { latestOutage } from './mesh-status.ts';

test('of several silences the one that ended last, and none of a cluster that is silent again', () => {
  const outage = (seconds: number, age: number) => ({ seconds, age });
  assert.equal(latestOutage([]), undefined);
  assert.equal(latestOutage([{ ready: true }]), undefined);
  assert.deepEqual(
    latestOutage([
      { ready: true, lastOutage: outage(3, 40) },
      { ready: true, lastOutage: outage(4, 30) },
      { ready: false, lastOutage: outage(5, 20) },
    ]),
    outage(4, 30),
  );
  assert.equal(latestOutage([{ ready: false, lastOutage: outage(21, 27) }]), undefined);
});
