import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RemoteBackends } from '../loadbalancer/remote-service.ts';
import { row } from './mesh.fixture.ts';
import { remoteTables } from './rows.ts';
import { ServiceRows } from './service-rows.ts';
import { entryOf, sliceRow } from './slice.fixture.ts';
import type { Origin } from './values.ts';

const addressesOf = (of: RemoteBackends = []): string[] => of.flatMap(part => Object.keys(part));
const eu: Origin = { cluster: 'eu', clusterId: 2, maxClusters: 255 };
type Endpoints = Parameters<typeof sliceRow>[4];

function start() {
  const table = remoteTables().services;
  const rows = new ServiceRows(table);
  const log: string[] = [];
  table.subscribe(({ key, after }) => log.push(`${key} ${after ? addressesOf(after.backends) : 'gone'}`));
  const [values, slices] = [rows.values(eu), rows.slices(eu)];
  return {
    table,
    rows,
    log,
    slices,
    values,
    value: (name: string) => values.put(`shop/${name}`, entryOf(row('eu', 2, 'services', name))),
    slice: (service: string, name: string, endpoints: Endpoints) => {
      const { key, value } = sliceRow('eu', 2, service, name, endpoints);
      slices.put(`shop/${name}`, entryOf({ key, value }));
    },
    /** Addresses that are sent to, that drain, that are not ready. */
    states: (service: string) => {
      const found = table.get(`eu/shop/${service}`);
      if (!found) return undefined;
      return [found.backends, found.terminating, found.notReady].map(each => addressesOf(each).join(' '));
    },
  };
}

test('all slices of a service are one row, with the state of each endpoint', () => {
  const { slice, slices, states } = start();
  slice('a', 'a-1', ['10.2.0.1', ['10.2.0.2', 'draining']]);
  slice('a', 'a-2', [['10.2.0.3', 'down'], '10.2.0.4']);
  slice('b', 'b-1', ['10.2.0.9']);
  assert.deepEqual(states('a'), ['10.2.0.1 10.2.0.4', '10.2.0.2', '10.2.0.3']);
  slice('a', 'a-2', [['10.2.0.4', 'draining']]);
  assert.deepEqual(states('a'), ['10.2.0.1', '10.2.0.2 10.2.0.4', '']);
  // While an endpoint moves it is in two slices, and the better state is the newer.
  slice('a', 'a-3', ['10.2.0.2']);
  assert.deepEqual(states('a'), ['10.2.0.1 10.2.0.2', '10.2.0.4', '']);
  slices.delete('shop/a-3');
  slices.delete('shop/a-1');
  // Who still serves is better than nobody.
  assert.deepEqual(states('a'), ['10.2.0.4', '10.2.0.4', '']);
  // A slice that is of another service now is none of this one.
  slice('b', 'a-2', ['10.2.0.8']);
  assert.equal(states('a'), undefined);
  assert.deepEqual(states('b'), ['10.2.0.8 10.2.0.9', '', '']);
  assert.throws(() => slice('b', 'b-1', ['x']), { name: 'BadValue' });
  assert.deepEqual(states('b'), ['10.2.0.8 10.2.0.9', '', ''], 'the last good value stays');
});

test('a cluster that goes over to slices loses no backend, and what it has no more goes', () => {
  const { rows, log, slice, value, values } = start();
  for (const name of ['a', 'b', 'gone']) value(name);
  log.length = 0;
  slice('a', 'a-1', ['10.2.0.1']);
  slice('a', 'a-2', ['10.2.0.2']);
  slice('new', 'new-1', ['10.2.0.5']);
  slice('b', 'b-1', ['10.2.0.7']);
  assert.deepEqual(log, ['eu/shop/new 10.2.0.5'], 'one of several slices is not the whole service');
  rows.slicesListed();
  for (const name of ['a', 'b', 'gone']) values.delete(`shop/${name}`);
  assert.deepEqual(log.slice(1), ['eu/shop/a 10.2.0.1,10.2.0.2', 'eu/shop/gone gone']);
});

test('and so does one that goes back', () => {
  const { rows, log, slice, slices, value, values } = start();
  slice('a', 'a-1', ['10.2.0.7']);
  slice('gone', 'gone-1', ['10.2.0.5']);
  rows.slicesListed();
  log.length = 0;
  value('a');
  value('b');
  for (const name of ['a-1', 'gone-1']) slices.delete(`shop/${name}`);
  assert.deepEqual(log, ['eu/shop/b 10.2.0.7', 'eu/shop/gone gone']);
  values.delete('shop/a');
  assert.equal(log.at(-1), 'eu/shop/a gone');
});

test('a change of one slice leaves what is said of the others as it is', () => {
  const { table, slice } = start();
  for (const name of ['a-1', 'a-2', 'a-3'])
    slice('a', name, [`10.2.0.${name.at(-1)}`, `10.2.1.${name.at(-1)}`]);
  const before = table.get('eu/shop/a')!.backends;
  slice('a', 'a-2', ['10.2.0.2', ['10.2.1.2', 'draining']]);
  const after = table.get('eu/shop/a')!.backends;
  assert.deepEqual(
    [0, 1, 2].map(at => after[at] === before[at]),
    [true, false, true],
  );
  // In two slices it has the ports of both, and once.
  slice('a', 'a-4', ['10.2.0.2']);
  assert.deepEqual(addressesOf(table.get('eu/shop/a')!.backends).sort(), addressesOf(after).sort());
});
