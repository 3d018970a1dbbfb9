import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { EndpointObjectRow } from '../api/crds/cilium-endpoint.ts';
import type { NodeRow } from '../api/crds/cilium-node.ts';
import type { ServiceExport } from '../api/crds/service-export.ts';
import { endpointSliceSchema, endpointSliceTable, toEndpointSlice } from '../api/endpoint-slice.ts';
import { isGlobalNamespace } from '../api/global-namespace.ts';
import { type Service, serviceKey, serviceSchema, toService } from '../api/service.ts';
import { identitiesTable } from '../identity/identities.ts';
import { settled } from '../table/settled.fixture.ts';
import { Table } from '../table/table.ts';
import {
  BY_NAMESPACE,
  deriveExport,
  ENDPOINTS_BY_ADDRESS,
  type ExportNamespace,
  namespaceOfIdentity,
} from './export.ts';

test('a namespace is global as its annotation says, in any case of letters, else as the cluster does', () => {
  const said = (value: string) => ({ 'clustermesh.cilium.io/global': value });
  assert.deepEqual(
    [
      isGlobalNamespace(undefined, true),
      isGlobalNamespace({}, false),
      isGlobalNamespace(said('True'), false),
      isGlobalNamespace(said('false'), true),
      isGlobalNamespace(said('yes'), true),
    ],
    [true, false, true, false, false],
  );
});

test('what is in a namespace that is not global is not exported, from the moment it is said', async () => {
  const namespaces = new Table<ExportNamespace>({ name: 'namespaces', keyOf: row => row.name });
  const services = new Table<Service>({
    name: 'services',
    keyOf: serviceKey,
    indexes: { [BY_NAMESPACE]: row => [row.namespace] },
  });
  const endpoints = new Table<EndpointObjectRow>({
    name: 'endpoints',
    keyOf: row => `${row.namespace}/${row.name}`,
    indexes: { [ENDPOINTS_BY_ADDRESS]: row => row.addresses, [BY_NAMESPACE]: row => [row.namespace] },
  });
  const identities = identitiesTable({ [BY_NAMESPACE]: row => [namespaceOfIdentity(row)] });
  const exported = deriveExport(
    {
      namespaces,
      services,
      endpoints,
      identities,
      serviceExports: new Table<ServiceExport>({ name: 'exports', keyOf: serviceKey }),
      slices: new Table(endpointSliceTable),
      nodes: new Table<NodeRow>({ name: 'nodes', keyOf: row => row.name }),
    },
    { cluster: 'us', clusterId: 1, maxClusters: 255 },
  );
  const sizes = async (): Promise<number[]> => {
    await settled();
    return [exported.services.size, exported.ip.size, exported.identities.size];
  };
  const global = { 'service.cilium.io/global': 'true' };
  for (const [n, namespace] of ['shop', 'dev'].entries()) {
    const metadata = { namespace, name: 'cart', uid: '', annotations: global };
    services.upsert(
      toService(serviceSchema.parse({ metadata, spec: { clusterIP: `10.96.0.${n}`, ports: [] } })),
    );
    endpoints.upsert({
      namespace,
      name: 'cart-1',
      uid: '',
      podUid: '',
      identity: 65_800 + n,
      addresses: [`10.1.0.${n}`],
      nodeIp: '192.0.2.1',
      encryptionKey: 0,
      serviceAccount: '',
      leaving: false,
    });
    const labels = { 'k8s:io.kubernetes.pod.namespace': namespace };
    identities.upsert({
      identity: 65_800 + n,
      labels,
      text: namespace,
      uid: '',
      resourceVersion: '',
      created: '',
      unusedSince: '',
    });
  }
  assert.deepEqual(await sizes(), [0, 0, 0], 'nothing is known of the namespaces yet');
  namespaces.upsert({ name: 'shop', global: true });
  namespaces.upsert({ name: 'dev', global: false });
  assert.deepEqual(await sizes(), [1, 1, 1]);
  assert.match([...exported.services.keys()].join(), /us\/shop\/cart$/);
  namespaces.upsert({ name: 'dev', global: true });
  assert.deepEqual(await sizes(), [2, 2, 2]);
  namespaces.upsert({ name: 'shop', global: false });
  assert.deepEqual(await sizes(), [1, 1, 1]);
});

test('a pod that has been told to end is exported as terminating before its EndpointSlice says so', async () => {
  const namespaces = new Table<ExportNamespace>({ name: 'namespaces', keyOf: row => row.name });
  const endpoints = new Table<EndpointObjectRow>({
    name: 'endpoints',
    keyOf: row => `${row.namespace}/${row.name}`,
    indexes: { [ENDPOINTS_BY_ADDRESS]: row => row.addresses, [BY_NAMESPACE]: row => [row.namespace] },
  });
  const services = new Table<Service>({
    name: 'services',
    keyOf: serviceKey,
    indexes: { [BY_NAMESPACE]: row => [row.namespace] },
  });
  const slices = new Table(endpointSliceTable);
  const nodes = new Table<NodeRow>({ name: 'nodes', keyOf: row => row.name });
  const exported = deriveExport(
    {
      namespaces,
      services,
      endpoints,
      slices,
      nodes,
      identities: identitiesTable({ [BY_NAMESPACE]: row => [namespaceOfIdentity(row)] }),
      serviceExports: new Table<ServiceExport>({ name: 'exports', keyOf: serviceKey }),
    },
    { cluster: 'us', clusterId: 1, maxClusters: 255 },
  );
  namespaces.upsert({ name: 'shop', global: true });
  const annotations = { 'service.cilium.io/global': 'true' };
  const metadata = { namespace: 'shop', name: 'cart', uid: '', annotations };
  services.upsert(
    toService(serviceSchema.parse({ metadata, spec: { clusterIP: '10.96.0.1', ports: [{ port: 80 }] } })),
  );
  nodes.upsert({
    ...{ name: 'a', uid: '', labels: {}, annotations: {}, podCidrs: [], healthIp: '', ingressIp: '' },
    ...{ encryptionKey: 0, bootId: '', addresses: [{ type: 'InternalIP', ip: '192.0.2.1' }] },
  });
  slices.upsert(
    toEndpointSlice(
      endpointSliceSchema.parse({
        metadata: { namespace: 'shop', name: 'cart-1', labels: { 'kubernetes.io/service-name': 'cart' } },
        addressType: 'IPv4',
        endpoints: ['10.1.0.1', '10.1.0.2'].map(address => ({ addresses: [address], nodeName: 'a' })),
        ports: [{ port: 8080 }],
      }),
    ),
  );
  const told = async (): Promise<string> => {
    await settled();
    const { backends, terminating = {} } = JSON.parse([...exported.services.values()][0]!.value);
    return `${Object.keys(backends)} / ${Object.keys(terminating)}`;
  };
  const pod = (name: string, address: string, leaving: boolean): EndpointObjectRow => ({
    ...{ namespace: 'shop', name, uid: '', podUid: '', identity: 65_800, addresses: [address] },
    ...{ nodeIp: '192.0.2.1', encryptionKey: 0, serviceAccount: '', leaving },
  });
  endpoints.upsert(pod('one', '10.1.0.1', false));
  assert.equal(await told(), '10.1.0.1,10.1.0.2 / ');
  endpoints.upsert(pod('one', '10.1.0.1', true));
  assert.equal(await told(), '10.1.0.2 / 10.1.0.1');
});
