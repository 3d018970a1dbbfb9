import assert from 'node:assert/strict';
import { test } from 'node:test';
import { settled } from '../table/settled.fixture.ts';
import { Table } from '../table/table.ts';
import { deriveClusterRegions } from './cluster-regions.ts';

interface Row {
  readonly cluster: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

test('a cluster is where most of its nodes are', async () => {
  const own = new Table<Row>({ name: 'own', keyOf: row => row.name });
  const remote = new Table<Row>({ name: 'remote', keyOf: row => `${row.cluster}/${row.name}` });
  const regions = deriveClusterRegions({ own, remote, cluster: 'us' });
  const node = (cluster: string, name: string, region?: string): Row => ({
    cluster,
    name,
    labels: region === undefined ? {} : { 'topology.kubernetes.io/region': region },
  });
  const seen = async () => {
    await settled();
    return Object.fromEntries([...regions.values()].map(({ cluster, region }) => [cluster, region]));
  };
  own.upsert(node('us', 'a', 'america'));
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
