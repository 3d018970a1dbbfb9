import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ExportedPort, ExportedService } from './exported-service.ts';
import { mergeExports } from './merge-exports.ts';

const port = (name: string, number: number, more: Partial<ExportedPort> = {}): ExportedPort => ({
  name,
  protocol: 'TCP',
  appProtocol: '',
  port: number,
  ...more,
});
/** Exports are made in the order of their clusters here: us is the oldest. */
const age: Record<string, number> = { us: 1, eu: 2, ap: 3 };
const of = (cluster: string, change: Partial<ExportedService> = {}): ExportedService => ({
  cluster,
  namespace: 'bank',
  name: 'ledger',
  created: `2026-02-03T04:05:0${age[cluster]}Z`,
  ports: [port('grpc', 9000)],
  type: 'ClusterSetIP',
  sessionAffinity: 'None',
  affinityTimeout: undefined,
  ipFamilies: ['IPv4'],
  internalTrafficPolicy: 'Cluster',
  trafficDistribution: undefined,
  labels: {},
  annotations: {},
  ...change,
});
const merge = (...exports: ExportedService[]) => mergeExports(exports.reverse());
const reasons = (...exports: ExportedService[]): string[] =>
  merge(...exports).conflicts.map(each => each.reason);
const portsOf = (...exports: ExportedService[]): string[] =>
  merge(...exports).ports.map(each => `${each.name}:${each.port}/${each.protocol}`);

test('one export is what it is; equal exports agree', () => {
  const { clusters, conflicts, ...alone } = merge(of('us'));
  const { cluster, namespace, name, created, ...spec } = of('us');
  assert.deepEqual([alone, clusters, conflicts], [spec, ['us'], []]);
  const both = merge(of('us'), of('eu'));
  assert.deepEqual([both.clusters, both.conflicts], [['eu', 'us'], []]);
});

test('each field: the oldest export is in force, and the conflict is named', () => {
  const rows: readonly (readonly [string, Partial<ExportedService>, keyof ExportedService])[] = [
    ['TypeConflict', { type: 'Headless' }, 'type'],
    ['SessionAffinityConflict', { sessionAffinity: 'ClientIP' }, 'sessionAffinity'],
    ['SessionAffinityConfigConflict', { affinityTimeout: 10 }, 'affinityTimeout'],
    ['AnnotationsConflict', { annotations: { a: 'b' } }, 'annotations'],
    ['LabelsConflict', { labels: { a: 'b' } }, 'labels'],
    ['InternalTrafficPolicyConflict', { internalTrafficPolicy: 'Local' }, 'internalTrafficPolicy'],
    ['TrafficDistributionConflict', { trafficDistribution: 'PreferClose' }, 'trafficDistribution'],
  ];
  for (const [reason, change, field] of rows) {
    const newer = merge(of('us'), of('eu', change));
    assert.deepEqual(
      newer.conflicts.map(each => each.reason),
      [reason],
    );
    assert.deepEqual(newer[field as 'type'], of('us')[field as 'type'], field);
    const older = merge(of('us', change), of('eu'));
    assert.deepEqual(
      older.conflicts.map(each => each.reason),
      [reason],
    );
    assert.deepEqual(older[field as 'type'], change[field as 'type'], field);
  }
});

test('who disagrees is said, with the value in force', () => {
  const found = merge(of('us'), of('eu', { type: 'Headless' }), of('ap', { type: 'Headless' }));
  assert.equal(
    found.conflicts[0]?.message,
    'type: "ClusterSetIP" of the oldest export, that of us, is in force; 2 of 3 clusters have another: eu, ap',
  );
});

test('exports of the same second: the first cluster by name is the oldest', () => {
  const created = '2026-02-03T04:05:06Z';
  const found = merge(of('us', { created, type: 'Headless' }), of('eu', { created }));
  assert.equal(found.type, 'ClusterSetIP');
  assert.equal(
    merge(of('us'), of('eu', { created: '2026-02-03T06:05:00+02:00', type: 'Headless' })).type,
    'Headless',
  );
});

test('order of keys and of annotations is no conflict', () => {
  assert.deepEqual(
    reasons(of('us', { labels: { a: '1', b: '2' } }), of('eu', { labels: { b: '2', a: '1' } })),
    [],
  );
});

test('ports: the union, and a conflict where a cluster lacks one', () => {
  const cases: readonly (readonly [string, ExportedPort[], ExportedPort[], string[], RegExp])[] = [
    ['same', [port('a', 80)], [port('a', 80)], ['a:80/TCP'], /^$/],
    [
      'same in another order',
      [port('a', 80), port('b', 81)],
      [port('b', 81), port('a', 80)],
      ['a:80/TCP', 'b:81/TCP'],
      /^$/,
    ],
    [
      'one more',
      [port('a', 80)],
      [port('a', 80), port('b', 81)],
      ['a:80/TCP', 'b:81/TCP'],
      /^ports: us does not have b 81\/TCP$/,
    ],
    [
      'one less',
      [port('a', 80), port('b', 81)],
      [port('a', 80)],
      ['a:80/TCP', 'b:81/TCP'],
      /^ports: eu does not have b 81\/TCP$/,
    ],
    [
      'another name',
      [port('a', 80)],
      [port('b', 80)],
      ['a:80/TCP'],
      /^ports: port b 80\/TCP of eu is named "a", as by the older export of us$/,
    ],
    [
      'another number',
      [port('a', 80)],
      [port('a', 81)],
      ['a:80/TCP'],
      /port a 81\/TCP of eu is left out: the older export of us has a 80\/TCP under its name; eu does not have a 80\/TCP$/,
    ],
    [
      'another protocol',
      [port('a', 80)],
      [port('a', 80, { protocol: 'UDP' })],
      ['a:80/TCP'],
      /a 80\/UDP of eu is left out/,
    ],
    [
      'both protocols',
      [port('a', 80)],
      [port('a', 80), port('u', 80, { protocol: 'UDP' })],
      ['a:80/TCP', 'u:80/UDP'],
      /us does not have u 80\/UDP$/,
    ],
    [
      'another appProtocol',
      [port('a', 80)],
      [port('a', 80, { appProtocol: 'h2c' })],
      ['a:80/TCP'],
      /has the appProtocol "", as by/,
    ],
    ['unnamed, same', [port('', 80)], [port('', 80)], [':80/TCP'], /^$/],
    [
      'unnamed beside named',
      [port('', 80)],
      [port('b', 81)],
      [':80/TCP'],
      /b 81\/TCP of eu is left out: a port without a name stands alone/,
    ],
    [
      'named beside unnamed',
      [port('b', 81)],
      [port('', 80)],
      ['b:81/TCP'],
      /port 80\/TCP of eu is left out: a port without a name/,
    ],
    ['none and one', [], [port('a', 80)], ['a:80/TCP'], /us does not have/],
  ];
  for (const [what, ours, theirs, expected, message] of cases) {
    const found = merge(of('us', { ports: ours }), of('eu', { ports: theirs }));
    assert.deepEqual(portsOf(of('us', { ports: ours }), of('eu', { ports: theirs })), expected, what);
    assert.match(found.conflicts[0]?.message ?? '', message, what);
    assert.equal(found.conflicts.length, message.source === '^$' ? 0 : 1, what);
  }
});

test('families: those that all have', () => {
  const both = ['IPv4', 'IPv6'] as const;
  const cases: readonly (readonly [ExportedService['ipFamilies'][], string[], string[]])[] = [
    [[['IPv4'], ['IPv4']], ['IPv4'], []],
    [[both, ['IPv6']], ['IPv6'], []],
    [[['IPv6', 'IPv4'], both], ['IPv6', 'IPv4'], []],
    [[['IPv4'], ['IPv6'], both], ['IPv4'], ['IPFamilyConflict']],
    [[[], ['IPv6']], ['IPv6'], []],
    [[[], []], [], []],
  ];
  for (const [families, expected, conflicts] of cases) {
    const exports = families.map((ipFamilies, n) => of(['us', 'eu', 'ap'][n]!, { ipFamilies }));
    assert.deepEqual(merge(...exports).ipFamilies, expected);
    assert.deepEqual(
      merge(...exports).conflicts.map(each => each.reason),
      conflicts,
    );
  }
});

test('the gravest conflict is the first', () => {
  assert.deepEqual(
    reasons(
      of('us'),
      of('eu', { labels: { a: 'b' }, type: 'Headless', ports: [port('x', 1)], ipFamilies: ['IPv6'] }),
    ),
    ['PortConflict', 'IPFamilyConflict', 'TypeConflict', 'LabelsConflict'],
  );
});
