import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ServiceExport } from '../api/crds/service-export.ts';
import { serviceSchema, toService } from '../api/service.ts';
import { exportedService } from '../mcsapi/exported-service.ts';
import { formatServiceExport, parseServiceExport } from './service-export.ts';

const eu = { cluster: 'eu', clusterId: 2, maxClusters: 255 } as const;
const parse = (value: object): ReturnType<typeof parseServiceExport> =>
  parseServiceExport('k', 'bank/ledger', JSON.stringify(value), eu);

/** As a real Cilium 1.19.0 writes it. */
const fromCilium = {
  cluster: 'eu',
  name: 'ledger',
  namespace: 'bank',
  annotations: { note: 'a' },
  labels: { team: 'money' },
  Labels: { team: 'money' },
  Annotations: { note: 'a' },
  exportCreationTimestamp: '2026-02-03T04:05:06Z',
  ports: [{ name: 'grpc', protocol: 'TCP', appProtocol: 'kubernetes.io/h2c', port: 9000 }],
  type: 'ClusterSetIP',
  sessionAffinity: 'ClientIP',
  sessionAffinityConfig: { clientIP: { timeoutSeconds: 10 } },
  ipFamilies: ['IPv4'],
  internalTrafficPolicy: 'Cluster',
  trafficDistribution: 'PreferClose',
};

const service = (spec: object) =>
  toService(serviceSchema.parse({ metadata: { name: 'ledger', namespace: 'bank' }, spec }));
const serviceExport: ServiceExport = {
  namespace: 'bank',
  name: 'ledger',
  uid: 'u',
  generation: 1,
  created: '2026-02-03T04:05:06Z',
  labels: { team: 'money' },
  annotations: { note: 'a' },
  conditions: [],
};

test('a Service and its ServiceExport become the value that Cilium writes, and read back the same', () => {
  const row = exportedService(
    'eu',
    service({
      clusterIP: '10.96.0.7',
      ports: [{ name: 'grpc', protocol: 'TCP', appProtocol: 'kubernetes.io/h2c', port: 9000 }],
      sessionAffinity: 'ClientIP',
      sessionAffinityConfig: { clientIP: { timeoutSeconds: 10 } },
      ipFamilies: ['IPv4'],
      trafficDistribution: 'PreferClose',
    }),
    serviceExport,
  );
  assert.equal(formatServiceExport(row), JSON.stringify(fromCilium));
  assert.deepEqual(parse(fromCilium), row);
});

test('what is not there is not written, and has the defaults when read', () => {
  const bare = { ...serviceExport, labels: {}, annotations: {} };
  const row = exportedService('eu', service({ clusterIP: 'None', ports: [{ port: 80 }] }), bare);
  const value = JSON.parse(formatServiceExport(row));
  assert.deepEqual(value, {
    cluster: 'eu',
    name: 'ledger',
    namespace: 'bank',
    exportCreationTimestamp: '2026-02-03T04:05:06Z',
    ports: [{ protocol: 'TCP', port: 80 }],
    type: 'Headless',
    sessionAffinity: 'None',
    internalTrafficPolicy: 'Cluster',
  });
  assert.deepEqual(parse(value), row);
});

test('labels and annotations of Cilium before 1.19 are read', () => {
  const { labels, annotations, ...older } = fromCilium;
  assert.deepEqual(parse(older).labels, labels);
  assert.deepEqual(parse(older).annotations, annotations);
});

const bad: readonly (readonly [object, RegExp])[] = [
  [{ cluster: 'ap' }, /^k: cluster: found "ap", expected "eu"$/],
  [{ name: 'other' }, /^k: namespace\/name: found "bank\/other", expected "bank\/ledger"$/],
  [{ namespace: '../kube-system' }, /^k: namespace: found "..\/kube-system", expected 1 to 63 of a-z/],
  [{ exportCreationTimestamp: '' }, /^k: exportCreationTimestamp: found "", expected a time as 2026-/],
  [{ exportCreationTimestamp: null }, /^k: exportCreationTimestamp: found null, expected a time/],
  [{ type: 'ExternalName' }, /^k: type: found "ExternalName", expected one of ClusterSetIP, Headless$/],
  [{ sessionAffinity: '' }, /^k: sessionAffinity: found "", expected one of ClientIP, None$/],
  [{ trafficDistribution: 'Random' }, /^k: trafficDistribution: found "Random", expected one of PreferClose/],
  [{ internalTrafficPolicy: 'x' }, /^k: internalTrafficPolicy: found "x", expected one of Cluster, Local$/],
  [{ ports: [{ port: 0 }] }, /^k: ports.0.port: found 0, expected /],
  [{ labels: { 'a b': 'c' } }, /^k: labels: found "a b", expected the name of a label$/],
  [{ labels: { a: 'b c' } }, /^k: labels: found "b c", expected the value of a label$/],
  [{ annotations: { '-a': 'c' } }, /^k: annotations: found "-a", expected the name of an annotation$/],
];
for (const [change, message] of bad)
  test(`refused: ${JSON.stringify(change)}`, () => {
    assert.throws(() => parse({ ...fromCilium, ...change }), { message });
  });
