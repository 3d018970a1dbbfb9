import assert from 'node:assert/strict';
import { test } from 'node:test';
import { testEndpoint } from './endpoint.fixture.ts';
import { type Endpoint, endpointKey, endpointTable } from './endpoint.ts';
import { EndpointLog } from './endpoint-log.ts';

const endpoint = (containerId: string, fields: Partial<Endpoint> = {}): Endpoint =>
  testEndpoint({
    containerId,
    hostIfName: 'ist1',
    ifindex: 0,
    ipv4: '10.1.1.7',
    state: 'creating',
    ...fields,
  });

test('the life of an endpoint is told, and remembered for a while after its end', () => {
  const table = endpointTable();
  table.upsert(endpoint('old', { state: 'ready', ifindex: 3 }));
  let time = 0;
  const log = new EndpointLog(table, { now: () => new Date(time++ * 1000), events: 5, gone: 1 });
  table.upsert(endpoint('c'));
  table.upsert(endpoint('c', { ifindex: 9 }));
  table.upsert(endpoint('c', { ifindex: 9, identity: 70_000, state: 'ready' }));
  table.upsert(endpoint('c', { ifindex: 9, identity: 70_001, state: 'ready' }));
  const told = (key: string): string[] =>
    [...log.values()].filter(each => each.pod === key).flatMap(each => each.events.map(one => one.message));
  assert.deepEqual(told('ns/web'), [
    'found as ready, address 10.1.1.7',
    'being made by the CNI plugin, address 10.1.1.7',
    'device ist1 (9) has its program',
    'identity 70000',
    'ready: traffic is delivered',
    'identity 70001, was 70000: the labels of its pod have changed',
  ]);
  table.delete(endpointKey(endpoint('c')));
  const [, gone] = [...log.values()];
  assert.equal(gone?.gone, true);
  assert.equal(gone?.events.length, 5, 'the newest five');
  assert.equal(gone?.events.at(-1)?.message, 'removed: its address is free again');
  table.delete(endpointKey(endpoint('old')));
  assert.deepEqual(
    [...log.values()].map(each => each.events.at(-1)?.time),
    ['1970-01-01T00:00:06.000Z'],
    'one that is gone is remembered, the last',
  );
});
