import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CiliumNode, internalAddress, nodeAddress, nodeRow } from '../api/crds/cilium-node.ts';
import { Node } from '../kube/objects.ts';
import { Table } from '../table/table.ts';
import { ciliumNodeObject, type OwnNode, ownNodeRow, whenNodeReady } from './own-node.ts';

const node = (podCIDRs: string[], addresses: { type: string; address: string }[]): OwnNode =>
  ownNodeRow(
    Node.parse({
      metadata: { name: 'n1', uid: 'u', resourceVersion: '1', labels: { zone: 'a' } },
      spec: { podCIDRs },
      status: { addresses, nodeInfo: { bootID: 'b' } },
    }),
  );
const addresses = [
  { type: 'InternalIP', address: '172.18.1.2' },
  { type: 'Hostname', address: 'n1' },
];

test('waits for address and pod CIDR, and says what is missing', async () => {
  const table = new Table<OwnNode>({ name: 'node', keyOf: row => row.name });
  const said: string[] = [];
  const found = whenNodeReady(table, 'n1', {
    signal: new AbortController().signal,
    waiting: reason => said.push(reason),
  });
  const turn = () => new Promise(resolve => setImmediate(resolve));
  await turn();
  table.markSynced();
  await turn();
  table.upsert(node([], []));
  await turn();
  table.upsert(node([], addresses));
  await turn();
  table.upsert(node(['fd00::/64', '10.1.0.0/24'], addresses));
  const { address, podCidrs } = await found;
  assert.deepEqual([address, podCidrs], ['172.18.1.2', ['10.1.0.0/24']]);
  assert.deepEqual(
    said.map(each => each.slice(0, 35)),
    [
      'Node n1 has not been read yet',
      'there is no Node n1',
      'Node n1 has no InternalIP of IPv4',
      'Node n1 has no podCIDR of IPv4: the',
    ],
  );
});

test('gives up waiting when the agent ends', async () => {
  const stop = new AbortController();
  const table = new Table<OwnNode>({ name: 'node', keyOf: row => row.name });
  const found = whenNodeReady(table, 'n1', { signal: stop.signal, waiting: () => {} });
  stop.abort(new Error('the end'));
  await assert.rejects(found, /the end/);
});

test('the CiliumNode is what other agents need', () => {
  const ready = { ...node(['10.1.0.0/24'], addresses), address: '172.18.1.2' };
  const object = CiliumNode.parse({
    ...ciliumNodeObject(ready, '10.1.0.1', 'tunnel'),
    metadata: { name: 'n1', uid: 'x', resourceVersion: '1' },
  });
  const row = nodeRow(object);
  assert.equal(nodeAddress(row), '172.18.1.2');
  assert.equal(internalAddress(row), '10.1.0.1');
  assert.deepEqual(row.podCidrs, ['10.1.0.0/24']);
});
