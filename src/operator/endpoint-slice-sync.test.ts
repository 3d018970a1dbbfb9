import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Service, serviceKey, serviceSchema, toService } from '../api/service.ts';
import { DEAD_NODES_BY_CLUSTER, type DeadRemoteNode } from '../clustermesh/dead-nodes.ts';
import { remoteTables } from '../clustermesh/rows.ts';
import { derivedName } from '../mcsapi/derived-name.ts';
import { settled } from '../table/settled.fixture.ts';
import { Table } from '../table/table.ts';
import {
  deriveSliceFixes,
  type MeshSlice,
  meshSliceSchema,
  meshSliceTable,
  type OwnRanges,
  toMeshSlice,
  wantsSlices,
} from './endpoint-slice-sync.ts';
import type { ObjectFix } from './object-fixes.ts';

const globally = { 'service.cilium.io/global': 'true' };
const service = (
  name: string,
  spec: object = { clusterIP: 'None' },
  annotations: object = globally,
): Service =>
  toService(
    serviceSchema.parse({
      metadata: { name, namespace: 'shop', uid: `uid-${name}`, annotations, labels: { team: 'basket' } },
      spec: { ports: [{ name: 'http', port: 80 }], ...spec },
    }),
  );

/** Tables as the operator has them, and an API server that does what it is told. */
function world() {
  const services = new Table<Service>({ name: 'services', keyOf: serviceKey });
  const present = new Table<MeshSlice>(meshSliceTable);
  const remote = remoteTables();
  const nodes = new Table<OwnRanges>({ name: 'nodes', keyOf: row => row.name });
  nodes.upsert({ name: 'us-worker', podCidrs: ['10.1.0.0/24', 'fd00:10:1::/64'] });
  services.markSynced();
  present.markSynced();
  const deadNodes = new Table<DeadRemoteNode>({
    name: 'dead-nodes',
    keyOf: row => `${row.cluster}/${row.node}`,
    indexes: { [DEAD_NODES_BY_CLUSTER]: row => [row.cluster] },
  });
  const fixes = deriveSliceFixes(
    { services, present, remote, deadNodes, nodes },
    { global: true, derived: false },
  );
  const offer = (cluster: string, name: string, ...addresses: string[]): void =>
    remote.services.upsert({
      cluster,
      clusterId: 2,
      namespace: 'shop',
      name,
      backends: addresses.map(each => ({ [each]: { http: { protocol: 'TCP', port: 8080 } } })),
      hostnames: { '10.2.0.7': 'cart-0' },
    });
  /** Applies all fixes as the watch would tell of it; gives what was done, in short. */
  const apply = async (): Promise<string[]> => {
    await settled();
    const done = [...fixes.values()];
    for (const fix of done) take(present, fix);
    await settled();
    assert.deepEqual([...fixes.values()], []);
    return done.map(fix => `${fix.apply ? 'apply' : 'remove'} ${fix.path.split('/').at(-1)}`);
  };
  return { services, present, remote, deadNodes, nodes, fixes, offer, apply };
}

function take(present: Table<MeshSlice>, { path, apply }: ObjectFix): void {
  if (apply) present.upsert(toMeshSlice(meshSliceSchema.parse(apply))!);
  else present.delete(`shop/${path.split('/').at(-1)}`);
}

/** Without the end of each name, which only tells slices of one service and cluster apart. */
const shown = (present: Table<MeshSlice>): string[] =>
  [...present.values()].map(
    ({ name, slice }) => `${name.slice(0, -6)}: ${slice.endpoints.map(each => each.address).join(' ')}`,
  );

test('which services want slices', () => {
  const sync = (value: string) => ({ ...globally, 'service.cilium.io/global-sync-endpoint-slices': value });
  const cluster = { clusterIP: '10.96.0.7' };
  const headless = { clusterIP: 'None' };
  const cases: readonly (readonly [object, object, boolean])[] = [
    [headless, globally, true],
    [headless, {}, false],
    [headless, sync('false'), false],
    [cluster, globally, false],
    [cluster, sync('true'), true],
    [{ type: 'ExternalName' }, sync('true'), false],
  ];
  const all = { global: true, derived: true };
  for (const [spec, annotations, expected] of cases) {
    const row = service('cart', spec, annotations);
    assert.equal(wantsSlices(row, all), expected, JSON.stringify([spec, annotations]));
    assert.equal(wantsSlices(row, { global: false, derived: true }), false);
    const derived = {
      ...row,
      name: derivedName('shop', 'cart'),
      labels: { 'multicluster.kubernetes.io/service-name': 'cart' },
    };
    // DNS answers for a headless import from slices alone; for another one they are left out where that is asked for.
    const isGlobal = 'service.cilium.io/global' in row.annotations;
    assert.equal(
      wantsSlices(derived, { global: false, derived: true }),
      isGlobal && row.type !== 'ExternalName',
    );
    const refused = { ...derived, annotations: { ...row.annotations, ...sync('false') } };
    assert.equal(
      wantsSlices(refused, { global: false, derived: true }),
      row.headless && row.type !== 'ExternalName',
    );
    assert.equal(wantsSlices(derived, { global: true, derived: false }), false);
  }
});

test("a slice of each cluster's endpoints appears, follows and goes with its service", async () => {
  const { services, present, remote, offer, apply } = world();
  offer('eu', 'cart', '10.2.0.7', '10.2.0.8');
  offer('ap', 'cart', '10.3.0.7');
  offer('eu', 'other', '10.2.0.9');
  assert.deepEqual(await apply(), []);
  services.upsert(service('cart'));
  assert.equal((await apply()).length, 2);
  assert.deepEqual(shown(present), ['cart-eu: 10.2.0.7 10.2.0.8', 'cart-ap: 10.3.0.7']);
  offer('eu', 'cart', '10.2.0.7', '10.2.0.10');
  assert.equal((await apply()).length, 1);
  remote.services.delete('ap/shop/cart');
  assert.match((await apply()).join(), /^remove cart-ap-/);
  services.upsert(service('cart', { clusterIP: 'None' }, {}));
  assert.match((await apply()).join(), /^remove cart-eu-/);
  assert.equal(present.size, 0);
});

test('a slice carries the labels of Cilium and KEP-1645, its owner, and names of hosts', async () => {
  const { services, fixes, offer } = world();
  services.upsert(service('cart'));
  offer('eu', 'cart', '10.2.0.7');
  await settled();
  const [fix] = fixes.values();
  const name = fix!.path.split('/').at(-1)!;
  assert.match(
    fix!.path,
    /^\/apis\/discovery.k8s.io\/v1\/namespaces\/shop\/endpointslices\/cart-eu-[0-9a-f]{5}$/,
  );
  assert.deepEqual(fix!.apply, {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      name,
      namespace: 'shop',
      labels: {
        team: 'basket',
        'service.kubernetes.io/headless': '',
        'kubernetes.io/service-name': 'cart',
        'endpointslice.kubernetes.io/managed-by': 'endpointslice-mesh-controller.cilium.io',
        'multicluster.kubernetes.io/source-cluster': 'eu',
      },
      ownerReferences: [
        { apiVersion: 'v1', kind: 'Service', name: 'cart', uid: 'uid-cart', controller: true },
      ],
    },
    addressType: 'IPv4',
    ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
    endpoints: [
      {
        addresses: ['10.2.0.7'],
        conditions: { ready: true, serving: true, terminating: false },
        hostname: 'cart-0',
      },
    ],
  });
});

test('slices of a cluster that has not been heard yet stay; of one that is disconnected they go', async () => {
  const { services, present, remote, offer, apply } = world();
  services.upsert(service('cart'));
  offer('eu', 'cart', '10.2.0.7');
  await apply();
  // The operator starts anew, and eu does not answer.
  remote.pending.upsert({ cluster: 'eu' });
  remote.services.delete('eu/shop/cart');
  assert.deepEqual(await apply(), []);
  assert.equal(present.size, 1);
  remote.pending.delete('eu');
  assert.match((await apply()).join(), /^remove cart-eu-/);
});

test("this cluster's own pods are no other's to offer, also those of a node that comes later", async () => {
  const { services, present, nodes, offer, apply } = world();
  services.upsert(service('cart'));
  offer('eu', 'cart', '10.1.0.9', '10.2.0.7', '10.1.1.9', 'fd00:10:1::9', 'fd00:10:2::9');
  await apply();
  assert.deepEqual(shown(present).sort(), ['cart-eu: 10.1.1.9 10.2.0.7', 'cart-eu: fd00:10:2::9']);
  nodes.upsert({ name: 'us-worker2', podCidrs: ['10.1.1.0/24'] });
  await apply();
  assert.deepEqual(shown(present).sort(), ['cart-eu: 10.2.0.7', 'cart-eu: fd00:10:2::9']);
});

test('endpoints of a dead cluster are not ready, and are again when it is back', async () => {
  const { services, present, remote, offer, apply } = world();
  services.upsert(service('cart'));
  offer('eu', 'cart', '10.2.0.7');
  remote.clusters.upsert({ cluster: 'eu', dead: false, silent: false, controlPlaneNode: '', via: '' });
  await apply();
  const ready = () => [...present.values()].map(({ slice }) => slice.endpoints.map(each => each.ready));
  remote.clusters.upsert({ cluster: 'eu', dead: true, silent: true, controlPlaneNode: '', via: '' });
  await apply();
  assert.deepEqual(ready(), [[false]]);
  remote.clusters.upsert({ cluster: 'eu', dead: false, silent: false, controlPlaneNode: '', via: '' });
  await apply();
  assert.deepEqual(ready(), [[true]]);
});

test('endpoints of a dead node of a silent cluster are not ready, those of its other nodes are', async () => {
  const { services, present, deadNodes, offer, apply } = world();
  services.upsert(service('cart'));
  // Pods of two nodes, and one in the network of each.
  offer('eu', 'cart', '10.2.0.7', '10.2.1.7', '172.18.2.3', '172.18.2.4', 'fd00:10:2::7', 'fd00:10:2:1::7');
  offer('ap', 'cart', '10.2.1.9');
  await apply();
  const unready = () =>
    [...present.values()]
      .flatMap(({ slice }) => slice.endpoints.filter(each => !each.ready && !each.serving))
      .map(each => each.address)
      .sort();
  const podCidrs = ['10.2.1.0/24', 'fd00:10:2:1::/64'];
  deadNodes.upsert({ cluster: 'eu', node: 'eu-worker2', addresses: ['172.18.2.4'], podCidrs });
  await apply();
  assert.deepEqual(unready(), ['10.2.1.7', '172.18.2.4', 'fd00:10:2:1::7']);
  deadNodes.delete('eu/eu-worker2');
  await apply();
  assert.deepEqual(unready(), []);
});

test('an endpoint that terminates in its own cluster does so here', async () => {
  const { services, present, remote, offer, apply } = world();
  services.upsert(service('cart'));
  offer('eu', 'cart', '10.2.0.7');
  await apply();
  const offered = remote.services.get('eu/shop/cart')!;
  remote.services.upsert({ ...offered, terminating: offered.backends });
  await apply();
  const [{ slice } = assert.fail()] = present.values();
  assert.deepEqual(
    slice.endpoints.map(({ ready, serving, terminating }) => ({ ready, serving, terminating })),
    [{ ready: false, serving: true, terminating: true }],
  );
});

test('what somebody changed by hand is put right', async () => {
  const { services, present, offer, apply } = world();
  services.upsert(service('cart'));
  offer('eu', 'cart', '10.2.0.7');
  await apply();
  const [slice] = present.values();
  present.delete(`shop/${slice!.name}`);
  assert.deepEqual(await apply(), [`apply ${slice!.name}`]);
  const foreign = { name: slice!.name, namespace: 'shop', labels: { 'kubernetes.io/service-name': 'cart' } };
  assert.equal(toMeshSlice({ metadata: { ...foreign, uid: '' }, addressType: 'IPv4' }), undefined);
});
