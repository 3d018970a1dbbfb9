import assert from 'node:assert/strict';
import { test } from 'node:test';
import { freePort } from '../../test/free-port.ts';
import { type EndpointSlice, endpointSliceTable, toEndpointSlice } from '../api/endpoint-slice.ts';
import { type Service, serviceKey, serviceSchema, toService } from '../api/service.ts';
import { Reconciler } from '../table/reconciler.ts';
import { settled } from '../table/settled.fixture.ts';
import { Table } from '../table/table.ts';
import { deriveHealthCheckPorts, HealthCheckServers } from './health-check-ports.ts';

const service = (healthCheckNodePort: number, externalTrafficPolicy = 'Local') =>
  toService(
    serviceSchema.parse({
      metadata: { namespace: 'shop', name: 'cart' },
      spec: { type: 'LoadBalancer', clusterIP: '10.96.0.9', healthCheckNodePort, externalTrafficPolicy },
    }),
  );
const slice = (...endpoints: readonly (readonly [node: string, address: string, ready: boolean])[]) =>
  toEndpointSlice({
    metadata: { namespace: 'shop', name: 'cart-1', labels: { 'kubernetes.io/service-name': 'cart' } },
    addressType: 'IPv4',
    endpoints: endpoints.map(([nodeName, address, ready]) => ({
      addresses: [address],
      nodeName,
      conditions: { ready, serving: true, terminating: !ready },
    })),
    ports: [],
  });

test('a load balancer learns whether this node has ready endpoints; the port follows the service', async () => {
  const services = new Table<Service>({ name: 'services', keyOf: serviceKey });
  const slices = new Table<EndpointSlice>(endpointSliceTable);
  services.markSynced();
  slices.markSynced();
  let healthy = true;
  using servers = new HealthCheckServers({ healthy: () => healthy });
  const reconciler = new Reconciler(deriveHealthCheckPorts({ services, slices, node: 'n1' }), servers);
  const [port, other] = [await freePort(), await freePort()];
  const ask = async (at: number): Promise<readonly [number, unknown, string | null]> => {
    await settled();
    await reconciler.whenSettled();
    while (reconciler.status.pending) await settled();
    const response = await fetch(`http://127.0.0.1:${at}/`);
    return [response.status, await response.json(), response.headers.get('x-load-balancing-endpoint-weight')];
  };
  const answer = (localEndpoints: number, serviceProxyHealthy = true) => ({
    service: { namespace: 'shop', name: 'cart' },
    localEndpoints,
    serviceProxyHealthy,
  });

  services.upsert(service(port));
  assert.deepEqual(await ask(port), [503, answer(0), '0']);
  slices.upsert(slice(['n1', '10.1.0.1', true], ['n1', '10.1.0.2', true], ['n2', '10.1.0.3', true]));
  assert.deepEqual(await ask(port), [200, answer(2), '2']);
  healthy = false;
  assert.deepEqual(await ask(port), [503, answer(2, false), '2']);
  healthy = true;
  slices.upsert(slice(['n1', '10.1.0.1', false], ['n2', '10.1.0.3', true]));
  assert.deepEqual(
    await ask(port),
    [503, answer(0), '0'],
    'a terminating endpoint serves, but attracts no client',
  );
  slices.upsert(slice(['n1', '10.1.0.1', true]));
  services.upsert(service(other));
  assert.equal((await ask(other))[0], 200);
  await assert.rejects(ask(port));
  services.upsert(service(0, 'Cluster'));
  await assert.rejects(ask(other));
});

test('a port that somebody has is an error that names it, and others are served', async () => {
  using servers = new HealthCheckServers({ healthy: () => true });
  const port = await freePort();
  const row = { namespace: 'shop', name: 'cart', port, localEndpoints: 1 };
  assert.equal((await servers.apply([{ key: 'shop/cart', row }])).size, 0);
  const free = await freePort();
  const failed = await servers.apply([
    { key: 'shop/other', row: { ...row, name: 'other' } },
    { key: 'shop/third', row: { ...row, name: 'third', port: free } },
  ]);
  assert.match(
    failed.get('shop/other')!.message,
    new RegExp(`healthCheckNodePort ${port} cannot be opened.*EADDRINUSE`),
  );
  assert.equal((await fetch(`http://127.0.0.1:${free}/`)).status, 200);
});
