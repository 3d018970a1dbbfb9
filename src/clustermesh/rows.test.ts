import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nearInside, nearOf } from './rows.ts';

test('whatever is inside a pod range is found near it, and nothing is looked at twice', () => {
  for (const [range, inside] of [
    ['10.2.7.0/24', ['10.2.7.1/32', '10.2.7.128/25', '10.2.7.0/24']],
    ['10.2.0.0/22', ['10.2.3.255/32', '10.2.2.0/23', '10.2.1.0/24', '10.2.0.0/22']],
    ['10.2.0.0/16', ['10.2.255.9/32', '10.2.128.0/17', '10.2.64.0/20']],
    ['fd00:2::/64', ['fd00:2::9/128', 'fd00:2::/80']],
    ['fd00:2::/60', ['fd00:2:0:f::9/128', 'fd00:2:0:8::/61']],
  ] as const) {
    const names = nearInside(range)!;
    assert.equal(new Set(names).size, names.length);
    for (const each of inside) assert.ok(names.includes(nearOf(each)), `${each} in ${range}`);
  }
  assert.ok(!nearInside('10.2.7.0/24')!.includes(nearOf('10.2.8.1/32')));
  assert.equal(nearInside('10.0.0.0/8'), undefined, 'all are looked at');
});
