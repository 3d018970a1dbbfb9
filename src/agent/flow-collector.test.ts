import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nextInterval } from './flow-collector.ts';

test('walks come as often as they are worth it', () => {
  const next = (rows: number, expired: number, last: number, maxEntries = 100_000): number =>
    nextInterval({ rows, expired, maxEntries, last, min: 10, max: 600 });
  assert.equal(next(0, 0, 100), 200, 'nothing there');
  assert.equal(next(1000, 10, 100), 200, 'next to nothing expired');
  assert.equal(next(1000, 100, 100), 100);
  assert.equal(next(500, 500, 100), 50, 'half of it expired');
  assert.equal(next(10, 990, 100), 10);
  assert.equal(next(0, 0, 599), 600);
  assert.equal(next(90_000, 0, 600), 10, 'the map is nearly full');
});
