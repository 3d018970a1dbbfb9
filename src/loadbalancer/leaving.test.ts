import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { EndpointObjectRow } from '../api/crds/cilium-endpoint.ts';
import type { NodeRow } from '../api/crds/cilium-node.ts';
import { type EndpointSlice, endpointSliceTable } from '../api/endpoint-slice.ts';
import { type PodRow, podsTable } from '../identity/pod.ts';
import { settled } from '../table/settled.fixture.ts';
import { Table } from '../table/table.ts';
import { deriveCurrentSlices, deriveLeaving } from './leaving.ts';

const pod = (name: string, address: string, leaving: boolean, namespace = 'shop'): EndpointObjectRow => ({
  namespace,
  name,
  uid: name,
  podUid: name,
  identity: 1,
  addresses: [address],
  nodeIp: '192.0.2.1',
  encryptionKey: 0,
  serviceAccount: '',
  leaving,
});

type Conditions = Pick<EndpointSlice['endpoints'][number], 'ready' | 'serving' | 'terminating'>;
const ready: Conditions = { ready: true, serving: true, terminating: false };

/** A slice of shop/cart, with endpoints on node a. */
const slice = (endpoints: Readonly<Record<string, Conditions>>, name = 'cart-1'): EndpointSlice => ({
  namespace: 'shop',
  name,
  service: 'shop/cart',
  addressType: 'IPv4',
  ports: [{ name: '', protocol: 'TCP', port: 8080 }],
  endpoints: Object.entries(endpoints).map(([address, conditions]) => ({
    address,
    ...conditions,
    ...{ node: 'a', hostname: '', zone: '', forZones: [], forNodes: [] },
  })),
});

function world(pods?: Table<PodRow>) {
  const endpoints = new Table<EndpointObjectRow>({
    name: 'endpoints',
    keyOf: row => `${row.namespace}/${row.name}`,
    indexes: { address: row => row.addresses },
  });
  const nodes = new Table<NodeRow>({ name: 'nodes', keyOf: row => row.name });
  const node: NodeRow = {
    ...{ name: 'a', uid: '', labels: {}, annotations: {}, podCidrs: [], healthIp: '', ingressIp: '' },
    ...{ encryptionKey: 0, bootId: '', addresses: [{ type: 'InternalIP', ip: '192.0.2.1' }] },
  };
  nodes.upsert(node);
  const slices = new Table<EndpointSlice>(endpointSliceTable);
  const current = deriveCurrentSlices({ slices, leaving: deriveLeaving(endpoints, pods), nodes });
  /** Addresses of shop/cart-1 and their state. */
  const states = async (): Promise<string> => {
    await settled();
    return (current.get('shop/cart-1')?.endpoints ?? [])
      .map(each => `${each.address} ${each.ready ? 'ready' : each.terminating ? 'terminating' : 'not ready'}`)
      .join(', ');
  };
  return { endpoints, nodes, node, slices, current, states };
}

test('a pod that has been told to end is terminating before its slice says so, and no other is', async () => {
  const { endpoints, slices, current, states } = world();
  endpoints.upsert(pod('one', '10.1.0.1', false));
  endpoints.upsert(pod('two', '10.1.0.2', false));
  slices.upsert(slice({ '10.1.0.1': ready, '10.1.0.2': ready }));
  slices.upsert(slice({ '10.1.0.9': ready }, 'cart-2'));
  assert.equal(await states(), '10.1.0.1 ready, 10.1.0.2 ready');
  const other = current.get('shop/cart-2');
  const changed: string[] = [];
  current.subscribe(({ key }) => changed.push(key));

  endpoints.upsert(pod('two', '10.1.0.2', true));
  assert.equal(await states(), '10.1.0.1 ready, 10.1.0.2 terminating');
  assert.deepEqual(
    current.get('shop/cart-1')!.endpoints.map(each => each.serving),
    [true, true],
    'it serves what it has, and new ones where there is no other',
  );
  assert.deepEqual(changed, ['shop/cart-1']);
  assert.equal(current.get('shop/cart-2'), other);

  // Kubernetes has written another change first.
  slices.upsert(slice({ '10.1.0.1': ready, '10.1.0.2': ready, '10.1.0.3': ready }));
  assert.equal(await states(), '10.1.0.1 ready, 10.1.0.2 terminating, 10.1.0.3 ready');
});

test('once its slice says that it terminates the slice is believed, whatever else it says', async () => {
  const { endpoints, slices, current, states } = world();
  endpoints.upsert(pod('one', '10.1.0.1', true));
  slices.upsert(slice({ '10.1.0.1': { ready: false, serving: false, terminating: true } }));
  await settled();
  assert.equal(current.get('shop/cart-1')!.endpoints[0]!.serving, false);
  // publishNotReadyAddresses
  slices.upsert(slice({ '10.1.0.1': { ready: true, serving: true, terminating: true } }));
  assert.equal(await states(), '10.1.0.1 ready');
  slices.upsert(slice({ '10.1.0.1': { ready: false, serving: false, terminating: false } }));
  assert.equal(await states(), '10.1.0.1 not ready');
});

test('an address that a new pod has is not held against it, nor one of the same text in another namespace', async () => {
  const { endpoints, slices, states } = world();
  endpoints.upsert(pod('old', '10.1.0.1', true));
  slices.upsert(slice({ '10.1.0.1': ready }));
  assert.equal(await states(), '10.1.0.1 terminating');
  endpoints.upsert(pod('new', '10.1.0.1', false));
  assert.equal(await states(), '10.1.0.1 ready');
  endpoints.delete('shop/new');
  assert.equal(await states(), '10.1.0.1 terminating');
  endpoints.delete('shop/old');
  assert.equal(await states(), '10.1.0.1 ready');
  endpoints.upsert(pod('old', '10.1.0.1', true, 'other'));
  assert.equal(await states(), '10.1.0.1 ready');
});

test('the order in which nodes, pods and slices become known makes no difference', async () => {
  const { endpoints, nodes, node, slices, states } = world();
  nodes.delete('a');
  slices.upsert(slice({ '10.1.0.1': ready }));
  await settled();
  endpoints.upsert(pod('one', '10.1.0.1', true));
  await settled();
  nodes.upsert(node);
  assert.equal(await states(), '10.1.0.1 terminating');
});

test('on its own node a pod is terminating as soon as it is told to end, and one that had its name before is not meant', async () => {
  const pods = podsTable();
  const { endpoints, slices, states } = world(pods);
  const told = (uid: string, leaving: boolean): PodRow => ({
    ...{ namespace: 'shop', name: 'one', uid, node: 'a', hostNetwork: false, labels: {}, annotations: {} },
    ...{ serviceAccount: '', ports: [], phase: 'Running', addresses: ['10.1.0.1'], leaving },
  });
  endpoints.upsert(pod('one', '10.1.0.1', false));
  slices.upsert(slice({ '10.1.0.1': ready }));
  pods.upsert(told('one', false));
  assert.equal(await states(), '10.1.0.1 ready');
  pods.upsert(told('another', true));
  assert.equal(await states(), '10.1.0.1 ready');
  pods.upsert(told('one', true));
  assert.equal(await states(), '10.1.0.1 terminating');
  pods.delete('shop/one');
  endpoints.delete('shop/one');
  assert.equal(await states(), '10.1.0.1 ready');
});
