import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PressureNews, pressureWarnings } from './map-pressure.ts';

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

test('the log hears of a map once, and again after it had room in between', () => {
  const news = new PressureNews();
  const heard = (rows: number): string[] =>
    news.of([{ map: 'nat', rows, maxEntries: 100 }]).map(each => each.split(':')[0]!);
  assert.deepEqual(heard(50), []);
  assert.deepEqual(heard(90), ['map nat is 90 % full (90 of 100 rows)']);
  assert.deepEqual(heard(95), []);
  assert.deepEqual(heard(85), []);
  assert.deepEqual(heard(95), [], 'it has been at the edge all the time');
  assert.deepEqual(heard(79), []);
  assert.deepEqual(heard(91), ['map nat is 91 % full (91 of 100 rows)']);
});
