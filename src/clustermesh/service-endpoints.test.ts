import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type EndpointSlice, endpointSliceTable } from '../api/endpoint-slice.ts';
import { type Service, serviceKey, serviceSchema, toService } from '../api/service.ts';
import { Table } from '../table/table.ts';
import { podsOfService } from './service-endpoints.ts';

const endpoint = (host: string, port = 2379) => ({ host, port, serverName: host });
const own = endpoint('clustermesh-apiserver.kube-system.svc');

test('a Service of the own cluster is its ready pods, under its own name', () => {
  const services = new Table<Service>({ name: 'services', keyOf: serviceKey });
  const slices = new Table<EndpointSlice>(endpointSliceTable);
  const pods = (each = own) => podsOfService({ services, slices }, each);
  assert.equal(pods(endpoint('eu.mesh.cilium.io')), undefined);
  assert.equal(pods(endpoint('172.18.2.2')), undefined);
  assert.throws(() => pods(), /^EtcdFailure: .*\.svc: the Services of this cluster are not known yet$/);
  services.markSynced();
  assert.throws(() => pods(), /: there is no Service kube-system\/clustermesh-apiserver$/);
  const metadata = { name: 'clustermesh-apiserver', namespace: 'kube-system' };
  services.upsert(
    toService(serviceSchema.parse({ metadata, spec: { ports: [{ name: 'etcd', port: 2379 }] } })),
  );
  assert.throws(() => pods(endpoint(own.host, 80)), /has no TCP port 80$/);
  assert.throws(() => pods(), /: no pod of Service kube-system\/clustermesh-apiserver is ready$/);
  const pod = {
    serving: true,
    terminating: false,
    node: 'a',
    hostname: '',
    zone: '',
    forZones: [],
    forNodes: [],
  };
  slices.upsert({
    namespace: 'kube-system',
    name: 'clustermesh-apiserver-x',
    service: 'kube-system/clustermesh-apiserver',
    addressType: 'IPv4',
    ports: [{ name: 'etcd', protocol: 'TCP', port: 12379 }],
    endpoints: [
      { ...pod, address: '10.1.0.7', ready: true },
      { ...pod, address: '10.1.0.8', ready: false },
      { ...pod, address: '10.1.0.9', ready: true },
    ],
  });
  const expected = ['10.1.0.7', '10.1.0.9'].map(host => ({ host, port: 12379, serverName: own.host }));
  assert.deepEqual(pods(), expected);
  assert.deepEqual(pods(endpoint('clustermesh-apiserver.kube-system.svc.cluster.local'))?.length, 2);
});
