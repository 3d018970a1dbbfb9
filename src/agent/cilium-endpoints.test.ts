import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CiliumEndpoint, type EndpointObjectRow, endpointObjectRow } from '../api/crds/cilium-endpoint.ts';
import { identitiesTable } from '../identity/identities.ts';
import { podsTable } from '../identity/pod.ts';
import type { KubeClient } from '../kube/client.ts';
import { settled } from '../table/settled.fixture.ts';
import { Table } from '../table/table.ts';
import { ciliumEndpointObject, derivePublishedEndpoints, publishTarget } from './cilium-endpoints.ts';
import { testEndpoint } from './endpoint.fixture.ts';
import { type Endpoint, endpointTable } from './endpoint.ts';

const endpoint = (containerId: string, ipv4: string, fields: Partial<Endpoint> = {}): Endpoint =>
  testEndpoint({ containerId, ipv4, podUid: 'u1', identity: 65_800, ...fields });

function world() {
  const endpoints = endpointTable();
  const pods = podsTable();
  const identities = identitiesTable();
  const rows = derivePublishedEndpoints({ endpoints, pods, identities, nodeIp: '172.18.1.2' });
  const addPod = (uid: string, leaving = false) =>
    pods.upsert({
      namespace: 'ns',
      name: 'web',
      uid,
      node: 'n1',
      hostNetwork: false,
      labels: {},
      annotations: {},
      serviceAccount: 'default',
      ports: [],
      phase: 'Running',
      addresses: [],
      leaving,
    });
  return { endpoints, pods, identities, rows, addPod };
}

test('a pod with endpoint and identity is published, with labels as soon as they are known', async () => {
  const { endpoints, identities, rows, addPod } = world();
  endpoints.upsert(endpoint('c1', '10.1.0.5'));
  await settled();
  assert.equal(rows.size, 0);
  addPod('u1');
  await settled();
  assert.equal(rows.get('ns/web')?.identity, 65_800);
  identities.upsert({
    identity: 65_800,
    labels: { 'k8s:app': 'web' },
    text: 'k8s:app=web;',
    uid: '',
    resourceVersion: '',
    created: '',
    unusedSince: '',
  });
  await settled();
  assert.deepEqual(rows.get('ns/web')?.labels, ['k8s:app=web']);
  const parsed = endpointObjectRow(
    CiliumEndpoint.parse({
      ...ciliumEndpointObject(rows.get('ns/web')!),
      metadata: { namespace: 'ns', name: 'web', uid: 'x', resourceVersion: '1' },
    }),
  );
  assert.deepEqual([parsed.addresses, parsed.identity, parsed.nodeIp], [['10.1.0.5'], 65_800, '172.18.1.2']);
});

test('of two attachments the newest of this very pod counts', async () => {
  const { endpoints, rows, addPod } = world();
  addPod('u2');
  endpoints.upsert(endpoint('c1', '10.1.0.5', { podUid: 'u1', createdAt: '2026-01-03T00:00:00.000Z' }));
  endpoints.upsert(endpoint('c2', '10.1.0.6', { podUid: 'u2', createdAt: '2026-01-01T00:00:00.000Z' }));
  endpoints.upsert(endpoint('c3', '10.1.0.7', { podUid: 'u2', createdAt: '2026-01-02T00:00:00.000Z' }));
  await settled();
  assert.equal(rows.get('ns/web')?.ipv4, '10.1.0.7');
});

test('that a pod has been told to end is said at once', async () => {
  const { endpoints, rows, addPod } = world();
  endpoints.upsert(endpoint('c1', '10.1.0.5'));
  addPod('u1');
  await settled();
  const metadata = { namespace: 'ns', name: 'web', uid: 'x', resourceVersion: '1' };
  const isLeaving = (): boolean =>
    endpointObjectRow(CiliumEndpoint.parse({ ...ciliumEndpointObject(rows.get('ns/web')!), metadata }))
      .leaving;
  assert.equal(isLeaving(), false);
  addPod('u1', true);
  await settled();
  assert.equal(isLeaving(), true);
});

test('an object that another node wrote meanwhile is left alone', async () => {
  const calls: string[] = [];
  const client = {
    apply: async (path: string) => calls.push(`apply ${path}`),
    delete: async (path: string) => calls.push(`delete ${path}`) > 0,
  } as unknown as KubeClient;
  const present = new Table<EndpointObjectRow>({
    name: 'ceps',
    keyOf: row => `${row.namespace}/${row.name}`,
  });
  const object = (name: string, nodeIp: string): EndpointObjectRow => ({
    namespace: 'ns',
    name,
    uid: name,
    podUid: '',
    identity: 1,
    addresses: [],
    nodeIp,
    encryptionKey: 0,
    serviceAccount: '',
    leaving: false,
  });
  present.upsert(object('ours', '172.18.1.2'));
  present.upsert(object('moved', '172.18.1.3'));
  present.markSynced();
  const target = publishTarget({ client, present, nodeIp: '172.18.1.2' });
  assert.deepEqual([...((await target.existing?.()) ?? [])], ['ns/ours']);
  const failed = await target.apply([
    { key: 'ns/ours', row: undefined },
    { key: 'ns/moved', row: undefined },
  ]);
  assert.equal(failed.size, 0);
  assert.deepEqual(calls, ['delete /apis/cilium.io/v2/namespaces/ns/ciliumendpoints/ours']);
});
