import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findOverlaps } from './overlap.ts';

test('ranges of different clusters that overlap', async () => {
  const at = (cluster: string, cidr: string) => ({ cluster, node: `${cluster}-1`, cidr });
  const pairs = async (...ranges: ReturnType<typeof at>[]) =>
    (await findOverlaps(ranges)).map(({ a, b }) => `${a.cluster} ${a.cidr} ${b.cluster} ${b.cidr}`);
  assert.deepEqual(await pairs(at('us', '10.1.0.0/24'), at('eu', '10.2.0.0/24')), []);
  assert.deepEqual(await pairs(at('us', '10.1.0.0/24'), at('us', '10.1.0.0/16')), []);
  assert.deepEqual(await pairs(at('us', '10.1.0.0/16'), at('eu', '10.1.7.0/24')), [
    'eu 10.1.7.0/24 us 10.1.0.0/16',
  ]);
  assert.deepEqual(
    await pairs(
      at('us', '10.0.0.0/8'),
      at('ap', '10.1.0.0/24'),
      at('eu', '10.2.0.0/24'),
      at('eu', '10.3.0.0/24'),
    ),
    ['ap 10.1.0.0/24 us 10.0.0.0/8', 'eu 10.2.0.0/24 us 10.0.0.0/8'],
  );
  assert.deepEqual(await pairs(at('us', 'fd00::/8'), at('eu', 'fd00:2::/64'), at('ap', 'nonsense')), [
    'eu fd00:2::/64 us fd00::/8',
  ]);
});
