import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pressureWarnings } from './map-pressure.ts';

test('a map that is nearly full is named, with the option that sizes it', () => {
  assert.deepEqual(
    pressureWarnings([
      { map: 'nat', rows: 89, maxEntries: 100 },
      { map: 'conntrack', rows: 90, maxEntries: 100 },
      { map: 'endpoints', rows: 100, maxEntries: 100 },
    ]),
    [
      'map conntrack is 90 % full (90 of 100 rows): raise bpf.ctTcpMax; beyond that the flows unused longest are forgotten',
      'map endpoints is 100 % full (100 of 100 rows): report this: its size is fixed; beyond that new rows are refused, and those that are there stay',
    ],
  );
});
