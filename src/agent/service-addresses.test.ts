import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Service, serviceKey, serviceSchema, toService } from '../api/service.ts';
import { settled } from '../table/settled.fixture.ts';
import { Table } from '../table/table.ts';
import { addressOfServiceKey, deriveServiceAddresses, serviceAddressKey } from './service-addresses.ts';

const service = (name: string, spec: object, labels: object = {}, ingress: object[] = []) =>
  toService(
    serviceSchema.parse({
      metadata: { namespace: 'ns', name, labels },
      spec: { clusterIP: '', ...spec },
      status: { loadBalancer: { ingress } },
    }),
  );

test('ClusterIPs and load balancers’ addresses, as long as one service has them', async () => {
  const services = new Table<Service>({ name: 'services', keyOf: serviceKey });
  const rows = deriveServiceAddresses(services);
  const seen = async () => {
    await settled();
    return [...rows.keys()].sort();
  };
  services.upsert(service('a', { clusterIP: '10.96.0.1', externalIPs: ['192.0.2.1'] }));
  services.upsert(service('b', { clusterIP: 'None' }));
  services.upsert(service('c', { type: 'ExternalName' }));
  services.upsert(
    service('d', { clusterIP: '10.96.0.4' }, { 'service.kubernetes.io/service-proxy-name': 'x' }),
  );
  const balanced = { type: 'LoadBalancer', clusterIP: '10.96.0.5' };
  services.upsert(
    service('e', balanced, {}, [{ ip: '198.51.100.1' }, { ip: '198.51.100.2', ipMode: 'Proxy' }]),
  );
  services.upsert(service('f', { ...balanced, clusterIP: '10.96.0.6' }, {}, [{ ip: '198.51.100.1' }]));
  assert.deepEqual(await seen(), ['10.96.0.1', '10.96.0.5', '10.96.0.6', '198.51.100.1']);
  services.delete('ns/e');
  assert.deepEqual(
    await seen(),
    ['10.96.0.1', '10.96.0.6', '198.51.100.1'],
    'another service has the address',
  );
  services.delete('ns/f');
  assert.deepEqual(await seen(), ['10.96.0.1']);
});

test('keys read back as the addresses they were written for', () => {
  for (const text of ['10.96.0.1', 'fd00::1'])
    assert.equal(addressOfServiceKey(serviceAddressKey(text)), text);
});
