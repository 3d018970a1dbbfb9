import assert from 'node:assert/strict';
import { test } from 'node:test';
import { backend } from '../loadbalancer/backend.fixture.ts';
import { BackendList } from '../loadbalancer/backend-list.ts';
import { type Frontend, frontendAddress } from '../loadbalancer/frontend.ts';
import { settled } from '../table/settled.fixture.ts';
import { LoadBalancer } from './load-balancer.ts';
import { type MaglevBackend, MaglevTables } from './maglev-tables.ts';
import { MemoryServiceMaps } from './service-maps.fixture.ts';

const SIZE = 251;

/** Tables in memory. */
class MemoryTables {
  readonly tables = new Map<number, Uint32Array>();
  broken = false;
  keys = (): number[] => [...this.tables.keys()];
  async set(key: number, numbers: Uint32Array): Promise<void> {
    if (this.broken) throw new Error('no memory');
    this.tables.set(key, numbers);
  }
  async delete(key: number): Promise<void> {
    this.tables.delete(key);
  }
  /** Ids in a service's table with their number of entries. */
  shares(key: number): Record<string, number> {
    const shares: Record<string, number> = {};
    for (const id of this.tables.get(key) ?? []) shares[id] = (shares[id] ?? 0) + 1;
    return shares;
  }
}
const named = (...ids: number[]): MaglevBackend[] => ids.map(id => ({ name: `b${id}`, id }));
const fail = (error: Error): void => assert.fail(error);

test('the last wish for a service is what it gets', async () => {
  const store = new MemoryTables();
  const tables = new MaglevTables({ store, size: SIZE, onError: fail });
  tables.want(1, named(1, 2, 3));
  tables.want(2, named(9));
  tables.want(1, named(5, 6));
  await tables.whenQuiet();
  assert.deepEqual(store.shares(1), { 5: 126, 6: 125 });
  assert.deepEqual(store.shares(2), { 9: SIZE });
  tables.want(1, []);
  tables.want(2, undefined);
  await tables.whenQuiet();
  assert.deepEqual(tables.services(), []);
});

test('what could not be written is tried again, unless something else is wanted meanwhile', async () => {
  const store = new MemoryTables();
  const errors: string[] = [];
  const tables = new MaglevTables({
    store,
    size: SIZE,
    retry: 1,
    onError: error => errors.push(error.message),
  });
  store.broken = true;
  tables.want(1, named(1));
  await tables.whenQuiet();
  store.broken = false;
  while (!store.tables.has(1)) await settled();
  assert.deepEqual(store.shares(1), { 1: SIZE });
  assert.ok(errors.length > 0 && errors.every(each => each === 'no memory'));
});

test('a service has a table while it balances by Maglev, made anew when its backends change', async () => {
  const store = new MemoryTables();
  const tables = new MaglevTables({ store, size: SIZE, onError: fail });
  const maps = Object.assign(new MemoryServiceMaps(), { maglev: tables });
  const row = (backends: readonly number[], algorithm?: 'maglev'): Frontend => ({
    addr: '10.96.0.1',
    port: 80,
    protocol: 'TCP',
    scope: 'external',
    kind: 'ClusterIP',
    service: 'ns/s',
    portName: '',
    created: '',
    local: false,
    partial: false,
    affinityTimeout: 0,
    algorithm,
    backends: BackendList.of(backends.map(backend)),
  });
  const put = async (balancer: LoadBalancer, frontend: Frontend | undefined): Promise<number[]> => {
    balancer.apply([{ key: frontendAddress(row([])), row: frontend }]);
    await tables.whenQuiet();
    return Object.values(store.shares(1)).sort();
  };
  using first = new LoadBalancer(maps);
  assert.deepEqual(await put(first, row([1, 2])), []);
  assert.deepEqual(await put(first, row([1, 2], 'maglev')), [125, 126]);
  assert.deepEqual(await put(first, row([1, 2, 3], 'maglev')), [83, 84, 84]);
  const same = store.tables.get(1);
  assert.deepEqual(await put(first, row([3, 2, 1], 'maglev')), [83, 84, 84]);
  assert.equal(store.tables.get(1), same, 'no work where nothing changed');
  assert.deepEqual(await put(first, row([], 'maglev')), []);
  assert.deepEqual(await put(first, row([1], 'maglev')), [251]);

  store.tables.set(77, Uint32Array.of(1));
  using second = new LoadBalancer(maps);
  await tables.whenQuiet();
  assert.deepEqual(store.keys(), [1], 'a table of nobody is removed by the next agent');
  assert.deepEqual(await put(second, row([1])), []);
  assert.deepEqual(await put(second, undefined), []);
});
