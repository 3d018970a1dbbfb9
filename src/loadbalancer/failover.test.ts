import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Affinity, Failover } from '../api/annotations.ts';
import { parseServiceAnnotations } from '../api/annotations.ts';
import { divideSlots, type ServingCluster, sharesOf, slotsOf, tiersOf } from './failover.ts';

/** us is asking; it and west are in america, eu is in europe. */
const clusters = (counts: Record<string, string | number>): ServingCluster[] =>
  Object.entries(counts).map(([name, count]) => {
    const [ready = 0, expected = ready] = String(count).split('/').map(Number);
    const region = { us: 'america', west: 'america', eu: 'europe' }[name] ?? '';
    return { name, own: name === 'us', region, ready, expected };
  });
const failover = (text: Record<string, string>): Failover => {
  const annotations = Object.entries(text).map(([name, value]) => [`service.isthmus.dev/${name}`, value]);
  const parsed = parseServiceAnnotations({
    'service.cilium.io/global': 'true',
    ...Object.fromEntries(annotations),
  });
  assert.deepEqual(parsed.problems, []);
  return parsed.failover;
};
const shares = (affinity: Affinity, rules: Record<string, string>, counts: Record<string, string | number>) =>
  Object.fromEntries(
    sharesOf(clusters(counts), affinity, failover(rules)).map(({ cluster, share }) => [
      cluster.name,
      Math.round(share * 1000) / 10,
    ]),
  );

describe('the order of clusters', () => {
  const tiers = (affinity: Affinity, order?: string[]) =>
    tiersOf(clusters({ us: 1, eu: 1, west: 1, asia: 1 }), affinity, order).map(tier =>
      tier.map(each => each.name),
    );
  it('without one, local and remote prefer the own region; none prefers nobody', () => {
    assert.deepEqual(tiers('none'), [['us', 'eu', 'west', 'asia']]);
    assert.deepEqual(tiers('local'), [['us'], ['west'], ['eu', 'asia']]);
    assert.deepEqual(tiers('remote'), [['west'], ['eu', 'asia'], ['us']]);
  });
  it('names clusters and regions; who is not named is last', () => {
    assert.deepEqual(tiers('none', ['eu', 'us']), [['eu'], ['us'], ['west', 'asia']]);
    assert.deepEqual(tiers('none', ['europe', 'america']), [['eu'], ['us', 'west'], ['asia']]);
    assert.deepEqual(tiers('none', ['west', 'america']), [['west'], ['us'], ['eu', 'asia']]);
  });
  it('affinity says where the own cluster stands', () => {
    assert.deepEqual(tiers('local', ['eu', 'west']), [['us'], ['eu'], ['west'], ['asia']]);
    assert.deepEqual(tiers('remote', ['us', 'eu']), [['eu'], ['west', 'asia'], ['us']]);
  });
});

/** affinity, annotations, ready (or ready/expected) backends → per cent. */
const table: readonly [
  string,
  Affinity,
  Record<string, string>,
  Record<string, string | number>,
  Record<string, number>,
][] = [
  [
    'the first that is ready takes all',
    'none',
    { 'affinity-order': 'eu,us' },
    { us: 3, eu: 1, west: 9 },
    { eu: 100 },
  ],
  ['then the next', 'none', { 'affinity-order': 'eu,us' }, { us: 3, eu: 0, west: 9 }, { us: 100 }],
  ['then who is not named', 'none', { 'affinity-order': 'eu,us' }, { us: 0, eu: 0, west: 9 }, { west: 100 }],
  ['nobody', 'none', { 'affinity-order': 'eu,us' }, { us: 0, eu: 0 }, {}],
  [
    'a region is divided by backends',
    'none',
    { 'affinity-order': 'america' },
    { us: 3, eu: 1, west: 1 },
    { us: 75, west: 25 },
  ],
  ['weights, not backends', 'none', { weights: 'us=3,eu=1' }, { us: 1, eu: 9 }, { us: 75, eu: 25 }],
  [
    'who has no weight is the last resort',
    'none',
    { weights: 'us=3,eu=1' },
    { us: 1, eu: 1, west: 9 },
    { us: 75, eu: 25 },
  ],
  ['and then gets all', 'none', { weights: 'us=3,eu=1' }, { us: 0, eu: 0, west: 9 }, { west: 100 }],
  ['a weight of one that is not ready', 'none', { weights: 'us=3,eu=1' }, { us: 0, eu: 2 }, { eu: 100 }],
  ['0 is drained', 'none', { weights: 'us=1,eu=0' }, { us: 1, eu: 5 }, { us: 100 }],
  ['unless nobody else is there', 'none', { weights: 'us=1,eu=0' }, { us: 0, eu: 5 }, { eu: 100 }],
  [
    'weights inside a region of an order',
    'none',
    { 'affinity-order': 'america,eu', weights: 'us=1,west=4' },
    { us: 5, west: 5, eu: 5 },
    { us: 20, west: 80 },
  ],
  [
    'healthy enough stays at home',
    'local',
    { 'min-healthy-local': '50%' },
    { us: '5/10', eu: 9 },
    { us: 100 },
  ],
  [
    'below that it spills by degree',
    'local',
    { 'min-healthy-local': '50%' },
    { us: '4/10', eu: 9 },
    { us: 80, eu: 20 },
  ],
  [
    'more of it',
    'local',
    { 'min-healthy-local': '50%' },
    { us: '1/10', eu: 9, west: 1 },
    { us: 20, west: 80 },
  ],
  ['to nothing', 'local', { 'min-healthy-local': '50%' }, { us: '0/10', eu: 9 }, { eu: 100 }],
  ['a number of backends', 'local', { 'min-healthy-local': '4' }, { us: '1/10', eu: 9 }, { us: 25, eu: 75 }],
  ['with nowhere to go', 'local', { 'min-healthy-local': '50%' }, { us: '1/10', eu: 0 }, { us: 100 }],
  [
    'a weight shrinks with health',
    'none',
    { weights: 'us=1,eu=1', 'min-healthy-local': '100%' },
    { us: '1/2', eu: 5 },
    { us: 33.3, eu: 66.7 },
  ],
  [
    'no more than the others can take',
    'local',
    { 'affinity-order': 'west,eu', 'min-healthy-local': '100%', spill: 'capacity' },
    { us: '2/10', west: 3, eu: 9 },
    { us: 20, west: 30, eu: 50 },
  ],
  [
    'what nobody can take is divided like the rest',
    'local',
    { 'affinity-order': 'west,eu', spill: 'capacity' },
    { us: '0/10', west: 1, eu: 3 },
    { west: 25, eu: 75 },
  ],
  [
    'a service without own backends has no capacity to compare with',
    'local',
    { 'affinity-order': 'west,eu', spill: 'capacity' },
    { us: '0/0', west: 1, eu: 3 },
    { west: 100 },
  ],
];
describe('shares', () => {
  for (const [name, affinity, rules, counts, expected] of table)
    it(`${name}: ${affinity} ${JSON.stringify(rules)} of ${JSON.stringify(counts)}`, () =>
      assert.deepEqual(shares(affinity, rules, counts), expected));

  it('are all of the connections and go only to who is ready, whatever is asked', () => {
    let seed = 7;
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fff_ffff;
      return seed % below;
    };
    const pick = <T>(...of: T[]): T => of[random(of.length)]!;
    for (let round = 0; round < 5000; round++) {
      const counts = clusters({
        us: `${random(4)}/${3 + random(8)}`,
        eu: random(40),
        west: random(3),
        asia: random(2),
      });
      const rules = failover({
        ...pick({}, { 'affinity-order': pick('eu,us', 'america', 'nobody,west') }),
        ...pick({}, { weights: pick('us=1,eu=1000', 'west=0,eu=2', 'nobody=1') }),
        ...pick({}, { 'min-healthy-local': pick('50%', '100%', '2') }),
        ...pick({}, { spill: pick('capacity', 'all') }),
      });
      const found = sharesOf(counts, pick<Affinity>('none', 'local', 'remote'), rules);
      const sum = found.reduce((total, { share }) => total + share, 0);
      if (!counts.some(each => each.ready)) assert.deepEqual(found, []);
      else assert.ok(Math.abs(sum - 1) < 1e-9, `${JSON.stringify(found)} is ${sum}`);
      assert.ok(found.every(({ cluster, share }) => cluster.ready > 0 && share > 0));
      const slots = slotsOf(found);
      const total = slots.values().reduce((all, number) => all + number, 0);
      assert.ok(total <= 1026, `${total} slots`);
      for (const { cluster, share } of found) {
        const got = slots.get(cluster.name)! / total;
        assert.ok(Math.abs(got - share) <= 0.002, `${JSON.stringify(found)}: ${cluster.name} got ${got}`);
      }
    }
  });
});

describe('slots', () => {
  const slots = (...of: [name: string, ready: number, share: number][]) =>
    Object.fromEntries(
      slotsOf(
        of.map(([name, ready, share]) => ({
          cluster: { name, own: false, region: '', ready, expected: ready },
          share,
        })),
      ),
    );
  it('one each where the shares are those of the backends', () => {
    assert.deepEqual(slots(['us', 3, 0.75], ['eu', 1, 0.25]), { us: 3, eu: 1 });
  });
  it('the smallest numbers that give the shares', () => {
    assert.deepEqual(slots(['us', 1, 0.75], ['eu', 1, 0.25]), { us: 3, eu: 1 });
    assert.deepEqual(slots(['us', 2, 0.5], ['eu', 3, 0.5]), { us: 6, eu: 6 });
  });
  it('stay as few as the backends where these are thousands', () => {
    assert.deepEqual(slots(['us', 10_000, 0.99], ['eu', 10_000, 0.01]), { us: 19_800, eu: 200 });
  });
  it('are divided evenly, from another backend on for each node', () => {
    assert.deepEqual(divideSlots(6, 3, 'n1'), [2, 2, 2]);
    assert.deepEqual(divideSlots(0, 3, 'n1'), [0, 0, 0]);
    const [one, two] = [divideSlots(5, 20, 'worker-a'), divideSlots(5, 20, 'worker-b')];
    for (const each of [one, two])
      assert.deepEqual([Math.max(...each), each.reduce((sum, number) => sum + number)], [1, 5]);
    assert.notDeepEqual(one, two);
  });
});
