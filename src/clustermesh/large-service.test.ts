import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RemoteService } from '../loadbalancer/remote-service.ts';
import { LARGE } from './large-service.ts';
import { rowConsumer } from './row-writers.ts';
import { remoteTables } from './rows.ts';
import { parseService } from './values.ts';

const origin = { cluster: 'eu', clusterId: 2, maxClusters: 255 } as const;
const key = 'cilium/state/services/v1/eu/shop/cart';
const http = { http: { Protocol: 'TCP', Port: 8080 } };
const list = (count: number, first = 0): Record<string, object> =>
  Object.fromEntries(
    Array.from({ length: count }, (_, n) => [`10.2.${(first + n) >> 8}.${(first + n) & 255}`, http]),
  );
const service = {
  cluster: 'eu',
  namespace: 'shop',
  name: 'cart',
  frontends: { '10.96.0.7': http },
  backends: list(2000),
  zones: Object.fromEntries(Object.keys(list(2000)).map(each => [each, { zone: 'a' }])),
  labels: {},
  shared: true,
  clusterID: 2,
};

/** What an agent makes of values of the key, one after the other. */
function reading() {
  const tables = remoteTables();
  const writer = rowConsumer(['services'], tables).writer('services', origin);
  let changes = 0;
  tables.services.subscribe(() => changes++);
  return {
    put(value: object): RemoteService | undefined {
      const text = JSON.stringify(value);
      const entry = { key, value: text, bytes: Buffer.from(text), lease: 0n, modRevision: 1n };
      writer.put('shop/cart', entry);
      return tables.services.get('eu/shop/cart');
    },
    delete: () => writer.delete('shop/cart'),
    get changes() {
      return changes;
    },
  };
}

/** Without regard to parts. */
const plain = (row: RemoteService | undefined): unknown =>
  row && {
    ...row,
    ...Object.fromEntries(
      (['backends', 'terminating', 'notReady'] as const).map(field => [
        field,
        row[field] && Object.fromEntries(row[field].flatMap(part => Object.entries(part)).sort()),
      ]),
    ),
  };

test('a large service is what its value says, and parts that a change leaves alone stay the same objects', () => {
  const agent = reading();
  assert.ok(JSON.stringify(service).length > LARGE);
  let before = agent.put(service)!;
  const { '10.2.3.4': leaves, ...rest } = service.backends;
  const replaced = { ...rest, '10.2.200.1': leaves! };
  const versions = [
    { ...service, backends: replaced },
    { ...service, backends: rest, terminating: { '10.2.3.4': leaves } },
    { ...service, backends: rest, notReady: { '10.2.3.4': leaves }, terminating: null },
    service,
  ];
  for (const value of versions) {
    const row = agent.put(value)!;
    assert.deepEqual(plain(row), plain(parseService(key, 'shop/cart', JSON.stringify(value), origin)));
    const known = new Set(before.backends);
    assert.ok(row.backends.filter(part => !known.has(part)).length <= 2);
    before = row;
  }
  assert.equal(agent.changes, 5);
  agent.put({ ...service, labels: { other: 'label' } });
  assert.equal(agent.changes, 5);
});

test('a service grows large and is small again', () => {
  const agent = reading();
  for (const count of [3, 2000, 2, 1500, 0, 1000]) {
    const value = { ...service, backends: list(count, count), zones: undefined };
    const row = agent.put(value);
    assert.deepEqual(plain(row), plain(parseService(key, 'shop/cart', JSON.stringify(value), origin)));
  }
  agent.delete();
  assert.ok(agent.put(service));
  assert.equal(agent.put({ ...service, shared: false }), undefined);
});

test('what is wrong with a large service is said as of any other, and what was there stays', () => {
  const agent = reading();
  const row = agent.put(service);
  const wrong = [
    { ...service, backends: { ...service.backends, 'no address': http } },
    {
      ...service,
      backends: { ...service.backends, '10.2.9.9': { http: { Protocol: 'TCP', Port: 70_000 } } },
    },
    { ...service, backends: { ...service.backends, '10.2.9.9': [] } },
    { ...service, terminating: { __proto: 1 } },
    { ...service, cluster: 'us' },
    { ...service, name: 'other' },
    { ...service, notReady: [] },
    Object.entries(service),
  ];
  for (const value of wrong) {
    const refused = (work: () => unknown): Error => {
      try {
        work();
      } catch (error) {
        return error as Error;
      }
      throw new Error(`${JSON.stringify(value).slice(-200)} was taken`);
    };
    const expected = refused(() => parseService(key, 'shop/cart', JSON.stringify(value), origin));
    assert.equal(refused(() => agent.put(value)).message, expected.message);
  }
  assert.equal(agent.put(service), row);
  assert.equal(agent.changes, 1);
});
