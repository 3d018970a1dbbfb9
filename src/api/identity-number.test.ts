import assert from 'node:assert/strict';
import { test } from 'node:test';
import { allocationRange, clusterOf, mayClaim } from './identity-number.ts';

test('ranges of the 24-bit space by cluster', () => {
  assert.deepEqual(allocationRange(0), { min: 256, max: 65_535 });
  assert.deepEqual(allocationRange(1), { min: 65_792, max: 131_071 });
  assert.deepEqual(allocationRange(255), { min: 16_711_936, max: 16_777_215 });
  assert.deepEqual(allocationRange(1, 511), { min: 33_024, max: 65_535 });
  assert.deepEqual(allocationRange(511, 511), { min: 16_744_704, max: 16_777_215 });
  assert.throws(() => allocationRange(256), /expected 0 to 255/);
});

test('whose an identity is, and who may claim it', () => {
  assert.equal(clusterOf(131_075), 2);
  assert.equal(clusterOf(6), 0);
  assert.equal(clusterOf(65_535, 511), 1);
  assert.equal(mayClaim(131_075, 2), true);
  assert.equal(mayClaim(131_075, 1), false);
  assert.equal(mayClaim(6, 2), true);
});
