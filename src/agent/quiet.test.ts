import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type EndpointSlice, endpointSliceTable } from '../api/endpoint-slice.ts';
import { type Service, serviceKey } from '../api/service.ts';
import { type RemoteService, remoteServiceTable } from '../loadbalancer/remote-service.ts';
import { Table } from '../table/table.ts';
import type { ClusterRegion } from './cluster-regions.ts';
import { whenQuiet } from './quiet.ts';
import { MemoryServiceMaps } from './service-maps.fixture.ts';
import { service, slice } from './service-rows.fixture.ts';
import { runServices } from './services.ts';

test('an agent with many services is not ready before all of them are in the maps', async () => {
  const services = new Table<Service>({ name: 'services', keyOf: serviceKey });
  const slices = new Table<EndpointSlice>(endpointSliceTable);
  const count = 1500;
  for (let n = 0; n < count; n++) {
    services.upsert(service(`s${n}`, `10.96.${n >> 8}.${n & 255}`));
    const [net, at] = [n >> 7, 2 * (n & 127)];
    slices.upsert(slice(`s${n}`, `10.1.${net}.${at}`, `10.1.${net}.${at + 1}`));
  }
  services.markSynced();
  slices.markSynced();
  const regions = new Table<ClusterRegion>({ name: 'regions', keyOf: row => row.cluster });
  regions.markSynced();
  const maps = new MemoryServiceMaps();
  const stop = new AbortController();
  const { reconciler } = await runServices({
    services,
    slices,
    // Other clusters have not been heard, and are not waited for.
    remotes: new Table<RemoteService>(remoteServiceTable),
    node: 'n1',
    cluster: 'us',
    regions,
    mayServe: () => true,
    ownRanges: regions,
    maps,
    signal: stop.signal,
    onProblem: (_service, message) => assert.fail(message),
    onError: (_key, error) => assert.fail(error),
  });
  await whenQuiet([reconciler], stop.signal);
  assert.equal(maps.frontends.rows.size, count);
  assert.equal(maps.slots.rows.size, 2 * count);
  stop.abort();
});
