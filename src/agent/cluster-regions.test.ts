import assert from 'node:assert/strict';
import { test } from 'node:test';
import { settled } from '../table/settled.fixture.ts';
import { Table } from '../table/table.ts';
import { deriveClusterRegions } from './cluster-regions.ts';

test('a cluster is where most of its nodes are', async () => {
  const own = new Table<{ readonly name: string; readonly labels: Readonly<Record<string, string>> }>({
    name: 'own',
    keyOf: row => row.name,
  });
  const remote = new Table<{ readonly cluster: string; readonly name: string; readonly region: string }>({
    name: 'remote',
    keyOf: row => `${row.cluster}/${row.name}`,
  });
  const regions = deriveClusterRegions({ own, remote, cluster: 'us' });
  const node = (cluster: string, name: string, region = '') => ({ cluster, name, region });
  const seen = async () => {
    await settled();
    return Object.fromEntries([...regions.values()].map(({ cluster, region }) => [cluster, region]));
  };
  own.upsert({ name: 'a', labels: { 'topology.kubernetes.io/region': 'america' } });
  remote.upsert(node('eu', 'a', 'europe'));
  remote.upsert(node('eu', 'b'));
  remote.upsert(node('asia', 'a'));
  assert.deepEqual(await seen(), { us: 'america', eu: 'europe', asia: '' });
  remote.upsert(node('eu', 'b', 'africa'));
  assert.equal((await seen()).eu, 'africa', 'as many in each: the first by name');
  remote.upsert(node('eu', 'c', 'europe'));
  assert.equal((await seen()).eu, 'europe');
  remote.delete('asia/a');
  assert.equal((await seen()).asia, undefined);
});
