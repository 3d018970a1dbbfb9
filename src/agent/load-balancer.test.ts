import assert from 'node:assert/strict';
import { test } from 'node:test';
import { format } from '../datapath/address.ts';
import { backend } from '../loadbalancer/backend.fixture.ts';
import { BackendList } from '../loadbalancer/backend-list.ts';
import { type Frontend, frontendAddress } from '../loadbalancer/frontend.ts';
import { LoadBalancer } from './load-balancer.ts';
import { interpret, MemoryServiceMaps } from './service-maps.fixture.ts';
import { addressOfKey, frontendKey, prefixOfSourceRange } from './service-maps.ts';

const frontend = (
  n: number,
  backends: readonly number[],
  affinityTimeout = 0,
  sourceRanges?: readonly string[],
  weights?: readonly number[],
): Frontend => ({
  addr: n === 0 ? '0.0.0.0' : `10.96.0.${n}`,
  port: 80,
  protocol: 'TCP',
  scope: 'external',
  kind: n === 0 ? 'NodePort' : 'ClusterIP',
  service: `ns/s${n}`,
  portName: '',
  created: '',
  local: false,
  partial: false,
  affinityTimeout,
  sourceRanges,
  backends: BackendList.of(backends.map(backend)),
  weights,
});
const put = (row: Frontend) => ({ key: frontendAddress(row), row });
const drop = (row: Frontend) => ({ key: frontendAddress(row), row: undefined });

/** The backend of each slot. */
const slotted = ({ backends, weights }: Frontend): string[] =>
  [...backends].flatMap((b, at) => new Array<string>(weights?.[at] ?? 1).fill(`${b.addr}:${b.port}`));
const expected = (desired: ReadonlyMap<string, Frontend>) =>
  new Map([...desired].map(([key, row]) => [key, slotted(row).sort()]));
/** Where clients with session affinity may be sent again, per frontend. */
const affine = (maps: MemoryServiceMaps) => {
  const services = new Map(
    maps.frontends.entries().map(([key, { service_id }]) => [service_id, addressOfKey(key)]),
  );
  return maps.members
    .entries()
    .map(([{ service_id, backend_id }]) => {
      const found = maps.backends.get({ backend_id });
      return `${services.get(service_id)} ${found && format(found.addr)}`;
    })
    .sort();
};
const expectedAffine = (desired: ReadonlyMap<string, Frontend>) =>
  [...desired]
    .flatMap(([key, row]) => (row.affinityTimeout ? row.backends.map(b => `${key} ${b.addr}`) : []))
    .sort();
const ranges = ['10.0.0.0/8', '10.1.0.0/16', '192.0.2.7/32', 'fd00::/8'];
/** Who may connect, per frontend that asks. */
const allowed = (maps: MemoryServiceMaps) =>
  maps.frontends
    .entries()
    .flatMap(([key, value]) =>
      value.flags & 32
        ? [
            `${addressOfKey(key)} ${maps.sourceRanges
              .entries()
              .flatMap(([range]) =>
                range.service_id === value.service_id ? [prefixOfSourceRange(range)] : [],
              )
              .sort()}`,
          ]
        : [],
    )
    .sort();
const expectedAllowed = (desired: ReadonlyMap<string, Frontend>) =>
  [...desired]
    .flatMap(([key, row]) => (row.sourceRanges ? [`${key} ${[...row.sourceRanges].sort()}`] : []))
    .sort();
const sortedByKey = <V>(map: ReadonlyMap<string, V>) => [...map].sort(([a], [b]) => (a < b ? -1 : 1));

test('random changes and restarts: readers never see a dangling slot, the end is what was asked', () => {
  let seed = 12345;
  const random = (n: number): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
    return (seed >> 8) % n;
  };
  for (let round = 0; round < 30; round++) {
    const maps = new MemoryServiceMaps();
    maps.onWrite(() => void interpret(maps));
    const desired = new Map<string, Frontend>();
    let balancer = new LoadBalancer(maps);
    for (let step = 0; step < 60; step++) {
      const batch = new Map<string, { key: string; row: Frontend | undefined }>();
      for (let i = random(3); i >= 0; i--) {
        const n = random(5);
        const chosen = Array.from({ length: 8 }, (_, b) => b).filter(() => random(2) === 0);
        const row = frontend(
          n,
          chosen,
          random(2) * 60,
          random(2) ? ranges.filter(() => random(2)) : undefined,
          random(2) ? chosen.map(() => 1 + random(3)) : undefined,
        );
        const operation = random(5) === 0 ? drop(row) : put(row);
        batch.set(operation.key, operation);
        if (operation.row) desired.set(operation.key, operation.row);
        else desired.delete(operation.key);
      }
      assert.equal(balancer.apply([...batch.values()]).size, 0);
      assert.deepEqual(sortedByKey(interpret(maps)), sortedByKey(expected(desired)));
      assert.deepEqual(affine(maps), expectedAffine(desired), 'clients may return to what is there, at once');
      assert.deepEqual(allowed(maps), expectedAllowed(desired), 'who may connect, at once');
      if (random(4) === 0) balancer.sweep();
      if (random(10) === 0) {
        balancer[Symbol.dispose]();
        balancer = new LoadBalancer(maps);
      }
    }
    balancer.sweep();
    assert.deepEqual(balancer.counts, {
      frontends: maps.frontends.rows.size,
      slots: maps.slots.rows.size,
      backends: maps.backends.rows.size,
    });
    const targets = new Set([...desired.values()].flatMap(row => row.backends.map(b => b.key)));
    assert.equal(maps.backends.rows.size, targets.size, 'no backend row is left over');
    assert.equal(
      maps.sourceRanges.rows.size,
      [...desired.values()].reduce((sum, row) => sum + (row.sourceRanges?.length ?? 0), 0),
      'no range is left over',
    );
    assert.equal(
      maps.slots.rows.size,
      [...desired.values()].reduce((sum, row) => sum + slotted(row).length, 0),
      'no slot row is left over',
    );
    balancer[Symbol.dispose]();
  }
});

test('one of 1000 backends changes: a slot and a backend row are written', () => {
  const maps = new MemoryServiceMaps();
  using balancer = new LoadBalancer(maps);
  const all = Array.from({ length: 1000 }, (_, n) => n);
  balancer.apply([put(frontend(1, all))]);
  const before = [maps.slots.writes, maps.backends.writes, maps.frontends.writes];
  balancer.apply([put(frontend(1, [...all.filter(n => n !== 500), 2000]))]);
  const after = [maps.slots.writes, maps.backends.writes, maps.frontends.writes];
  assert.deepEqual(
    after.map((n, i) => n - before[i]!),
    [1, 1, 0],
  );
});

test('ids survive a restart', () => {
  const maps = new MemoryServiceMaps();
  using first = new LoadBalancer(maps);
  first.apply([put(frontend(1, [1, 2])), put(frontend(2, [2, 3]))]);
  const [frontends, backends, writes] = [
    maps.frontends.entries(),
    maps.backends.entries(),
    maps.slots.writes,
  ];
  using second = new LoadBalancer(maps);
  second.apply([put(frontend(2, [3, 2])), put(frontend(1, [2, 1]))]);
  assert.deepEqual(maps.frontends.entries(), frontends);
  assert.deepEqual(maps.backends.entries(), backends);
  assert.equal(maps.slots.writes, writes);
  assert.deepEqual([...second.existing()].sort(), [put(frontend(1, [])).key, put(frontend(2, [])).key]);
});

test('a full map fails the newcomer by name and leaves the others as they were', () => {
  const maps = new MemoryServiceMaps();
  using balancer = new LoadBalancer(maps);
  balancer.apply([put(frontend(1, [1, 2]))]);
  maps.backends.limit = 3;
  const failed = balancer.apply([put(frontend(2, [3, 4])), put(frontend(3, [4])), put(frontend(4, [1]))]);
  assert.deepEqual([...failed.keys()].sort(), [put(frontend(2, [])).key, put(frontend(3, [])).key]);
  assert.match(failed.get(put(frontend(2, [])).key)!.message, /full/);
  assert.deepEqual(interpret(maps).get(put(frontend(4, [])).key), ['10.1.0.1:8080']);
  maps.backends.limit = 10;
  assert.equal(balancer.apply([put(frontend(2, [3, 4])), put(frontend(3, [4]))]).size, 0);
  balancer.sweep();
  assert.deepEqual(interpret(maps).get(put(frontend(2, [])).key), ['10.1.0.3:8080', '10.1.0.4:8080']);
  assert.equal(maps.backends.rows.size, 4);
});

test('a slots map that fills up in the middle of a change is repaired by the retry', () => {
  const maps = new MemoryServiceMaps();
  using balancer = new LoadBalancer(maps);
  balancer.apply([put(frontend(1, [1, 2]))]);
  maps.slots.limit = 3;
  assert.equal(balancer.apply([put(frontend(1, [2, 3, 4, 5]))]).size, 1);
  for (const target of interpret(maps).get(put(frontend(1, [])).key)!)
    assert.match(target, /^10\.1\.0\.[1-5]:/);
  maps.slots.limit = 10;
  assert.equal(balancer.apply([put(frontend(1, [2, 3, 4, 5]))]).size, 0);
  balancer.sweep();
  assert.equal(interpret(maps).get(put(frontend(1, [])).key)!.length, 4);
  assert.equal(maps.backends.rows.size, 4);
});

test('a backend that comes back within the grace time keeps its row', () => {
  const maps = new MemoryServiceMaps();
  using balancer = new LoadBalancer(maps);
  balancer.apply([put(frontend(1, [1]))]);
  balancer.apply([put(frontend(1, []))]);
  balancer.apply([put(frontend(1, [1]))]);
  balancer.sweep();
  assert.deepEqual(interpret(maps).get(put(frontend(1, [])).key), ['10.1.0.1:8080']);
});

test('keys found in a map read back as the addresses they were written for', () => {
  for (const n of [0, 1]) assert.equal(addressOfKey(frontendKey(frontend(n, []))), put(frontend(n, [])).key);
});

test('a partial frontend loses nothing that the maps hold', () => {
  const maps = new MemoryServiceMaps();
  using first = new LoadBalancer(maps);
  first.apply([put(frontend(1, [1, 2]))]);
  using second = new LoadBalancer(maps);
  second.apply([put({ ...frontend(1, [2, 3]), partial: true })]);
  second.sweep();
  const { key } = put(frontend(1, []));
  assert.deepEqual(interpret(maps).get(key), ['10.1.0.1:8080', '10.1.0.2:8080', '10.1.0.3:8080']);
  second.apply([put(frontend(1, [2, 3]))]);
  assert.deepEqual(interpret(maps).get(key), ['10.1.0.2:8080', '10.1.0.3:8080']);
});

test('what a large service leaves behind is removed in pieces, and none of it that is used again', () => {
  const maps = new MemoryServiceMaps();
  using balancer = new LoadBalancer(maps, { grace: 60_000 });
  const all = Array.from({ length: 1000 }, (_, n) => n);
  balancer.apply([put(frontend(1, all))]);
  balancer.apply([drop(frontend(1, all))]);
  balancer.sweep(() => true);
  assert.ok(maps.slots.rows.size > 800 && maps.backends.rows.size === 1000, 'others have their turn');
  balancer.apply([put(frontend(2, [5, 999]))]);
  let turns = 1;
  for (; maps.slots.rows.size + maps.backends.rows.size > 4; turns++) balancer.sweep(() => true);
  assert.ok(turns > 20 && turns < 100, `${turns} turns`);
  assert.deepEqual([...interpret(maps).values()], [['10.1.0.5:8080', '10.1.3.231:8080']]);
  assert.deepEqual(balancer.counts, { frontends: 1, slots: 2, backends: 2 });
});
