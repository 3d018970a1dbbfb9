import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseServiceAnnotations } from './annotations.ts';

const cases: readonly [
  string,
  Record<string, string>,
  { g: boolean; s: boolean; a: string; problems: number },
][] = [
  ['nothing', {}, { g: false, s: false, a: 'none', problems: 0 }],
  ['global', { 'service.cilium.io/global': 'true' }, { g: true, s: true, a: 'none', problems: 0 }],
  ['legacy global', { 'io.cilium/global-service': 'True' }, { g: true, s: true, a: 'none', problems: 0 }],
  [
    'new name wins over alias',
    { 'service.cilium.io/global': 'false', 'io.cilium/global-service': 'true' },
    { g: false, s: false, a: 'none', problems: 0 },
  ],
  [
    'global: anything else is false',
    { 'service.cilium.io/global': '1' },
    { g: false, s: false, a: 'none', problems: 1 },
  ],
  [
    'shared counts only when global',
    { 'service.cilium.io/shared': 'true' },
    { g: false, s: false, a: 'none', problems: 0 },
  ],
  [
    'not shared',
    { 'service.cilium.io/global': 'true', 'io.cilium/shared-service': 'false' },
    { g: true, s: false, a: 'none', problems: 0 },
  ],
  [
    'shared: anything else is false',
    { 'service.cilium.io/global': 'true', 'service.cilium.io/shared': 'yes' },
    { g: true, s: false, a: 'none', problems: 1 },
  ],
  [
    'affinity local, any case',
    { 'service.cilium.io/global': 'TRUE', 'service.cilium.io/affinity': 'Local' },
    { g: true, s: true, a: 'local', problems: 0 },
  ],
  [
    'legacy affinity',
    { 'io.cilium/global-service': 'true', 'io.cilium/service-affinity': 'remote' },
    { g: true, s: true, a: 'remote', problems: 0 },
  ],
  [
    'a literal none is none',
    { 'service.cilium.io/global': 'true', 'service.cilium.io/affinity': 'none' },
    { g: true, s: true, a: 'none', problems: 0 },
  ],
  [
    'an empty affinity is none',
    { 'service.cilium.io/global': 'true', 'service.cilium.io/affinity': '' },
    { g: true, s: true, a: 'none', problems: 0 },
  ],
  [
    'an unknown affinity is none, and said',
    { 'service.cilium.io/global': 'true', 'service.cilium.io/affinity': 'nearby' },
    { g: true, s: true, a: 'none', problems: 1 },
  ],
  [
    'affinity counts only when global',
    { 'service.cilium.io/affinity': 'nearby' },
    { g: false, s: false, a: 'none', problems: 0 },
  ],
];

for (const [name, annotations, want] of cases)
  test(name, () => {
    const got = parseServiceAnnotations(annotations);
    assert.deepEqual(
      { g: got.global, s: got.shared, a: got.affinity, problems: got.problems.length },
      want,
      JSON.stringify(got),
    );
  });

test('a problem names annotation, value and what is in force', () => {
  const { problems } = parseServiceAnnotations({
    'service.cilium.io/global': 'true',
    'io.cilium/service-affinity': 'nearby',
  });
  assert.equal(
    problems[0]?.message,
    'annotation io.cilium/service-affinity: found "nearby", expected local, remote or none; none is in force',
  );
});

const isthmus = (name: string, value: string) =>
  parseServiceAnnotations({ 'service.cilium.io/global': 'true', [`service.isthmus.dev/${name}`]: value });

test('what a user may say of failover', () => {
  assert.deepEqual(isthmus('affinity-order', ' us-east, us-west,eu').failover.order, [
    'us-east',
    'us-west',
    'eu',
  ]);
  // Regions are values of labels.
  assert.deepEqual(isthmus('affinity-order', 'RegionOne,east_us.2').failover.order, [
    'RegionOne',
    'east_us.2',
  ]);
  assert.deepEqual(
    [...(isthmus('weights', 'us=3, eu:0').failover.weights ?? [])],
    [
      ['us', 3],
      ['eu', 0],
    ],
  );
  assert.deepEqual(isthmus('min-healthy-local', '50%').failover.minHealthyLocal, {
    value: 50,
    unit: 'percent',
  });
  assert.deepEqual(isthmus('min-healthy-local', '3').failover.minHealthyLocal, {
    value: 3,
    unit: 'backends',
  });
  assert.equal(isthmus('spill', 'capacity').failover.spillByCapacity, true);
  assert.deepEqual(
    parseServiceAnnotations({ 'service.isthmus.dev/weights': 'us=1' }).failover,
    {},
    'not global',
  );
});

for (const [name, value] of [
  ['affinity-order', 'us,,eu'],
  ['affinity-order', 'us,us'],
  ['affinity-order', 'US East'],
  ['weights', 'us'],
  ['weights', 'us=0'],
  ['weights', 'us=1,us=2'],
  ['weights', 'us=1001'],
  ['weights', 'us=-1'],
  ['weights', 'us=0.5'],
  ['min-healthy-local', '0'],
  ['min-healthy-local', '101%'],
  ['min-healthy-local', 'half'],
  ['spill', 'yes'],
] as const)
  test(`service.isthmus.dev/${name}: ${JSON.stringify(value)} is refused whole, with what is expected`, () => {
    const { failover, problems } = isthmus(name, value);
    assert.deepEqual(
      Object.values(failover).filter(each => each !== undefined),
      [],
    );
    assert.equal(problems.length, 1);
    assert.ok(
      problems[0]!.message.startsWith(`annotation service.isthmus.dev/${name}: found "${value}", expected `),
    );
  });

test('EndpointSlices of other clusters: asked for, refused, or left to the kind of service', () => {
  const sync = 'service.cilium.io/global-sync-endpoint-slices';
  const of = (value: Record<string, string>) =>
    parseServiceAnnotations({ 'service.cilium.io/global': 'true', ...value });
  assert.deepEqual(
    [of({}), of({ [sync]: 'True' }), of({ [sync]: 'false' })].map(each => each.syncSlices),
    [undefined, true, false],
  );
  assert.equal(parseServiceAnnotations({ [sync]: 'true' }).syncSlices, undefined);
  assert.deepEqual(
    of({ [sync]: 'yes' }).problems.map(each => each.message),
    [`annotation ${sync}: found "yes", expected true or false; it counts as false`],
  );
});

test('what one service says of its balancing: in any case, but for the type; wrong values are told and not obeyed', () => {
  const read = (annotations: Record<string, string>) => {
    const { algorithm, forwardingMode, exposedType, sourceRangesPolicy, problems } =
      parseServiceAnnotations(annotations);
    return [
      algorithm,
      forwardingMode,
      exposedType,
      sourceRangesPolicy,
      ...problems.map(each => each.message),
    ];
  };
  assert.deepEqual(read({}), [undefined, undefined, undefined, 'allow']);
  assert.deepEqual(
    read({
      'service.cilium.io/lb-algorithm': 'Maglev',
      'service.cilium.io/forwarding-mode': 'DSR',
      'service.cilium.io/type': 'LoadBalancer',
      'service.cilium.io/src-ranges-policy': 'Deny',
    }),
    ['maglev', 'dsr', 'LoadBalancer', 'deny'],
  );
  const global = { 'service.cilium.io/global': 'true', 'service.cilium.io/forwarding-mode': 'snat' };
  assert.deepEqual(read(global), [undefined, 'snat', undefined, 'allow'], 'of a global service, too');
  assert.deepEqual(
    read({
      'service.cilium.io/forwarding-mode': 'hybrid',
      'service.cilium.io/type': 'loadbalancer',
      'service.cilium.io/src-ranges-policy': 'no',
    }),
    [
      undefined,
      undefined,
      undefined,
      'allow',
      'annotation service.cilium.io/forwarding-mode: found "hybrid", expected dsr or snat; the default of the configuration is in force',
      'annotation service.cilium.io/type: found "loadbalancer", expected ClusterIP, NodePort or LoadBalancer; all that the type of the service has is in force',
      'annotation service.cilium.io/src-ranges-policy: found "no", expected allow or deny; allow is in force',
    ],
  );
});
