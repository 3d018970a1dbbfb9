import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CiliumNode, internalAddresses, nodeAddress, nodeRow } from '../api/crds/cilium-node.ts';
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
    families: [4],
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
  const { address, families } = await found;
  assert.equal(address, '172.18.1.2');
  assert.deepEqual(families, [
    { family: 4, address: '172.18.1.2', podCidrs: ['10.1.0.0/24'], internalAddress: '10.1.0.1' },
  ]);
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
  const found = whenNodeReady(table, 'n1', { families: [4], signal: stop.signal, waiting: () => {} });
  stop.abort(new Error('the end'));
  await assert.rejects(found, /the end/);
});

test('of dual stack, needs both families; IPv4 is the tunnel’s where there is a choice', async () => {
  const table = new Table<OwnNode>({ name: 'node', keyOf: row => row.name });
  table.markSynced();
  const both = [...addresses, { type: 'InternalIP', address: 'fd00:18::2' }];
  const cidrs = ['fd00:10:1::/64', '10.1.0.0/24'];
  const ask = async (families: readonly (4 | 6)[], row: OwnNode) => {
    table.upsert(row);
    const said: string[] = [];
    const stop = new AbortController();
    const waiting = (reason: string): void => {
      said.push(reason);
      stop.abort(new Error(reason));
    };
    return whenNodeReady(table, 'n1', { families, signal: stop.signal, waiting }).catch(() => said);
  };
  assert.deepEqual(await ask([4, 6], node(cidrs, addresses)), ['Node n1 has no InternalIP of IPv6']);
  const ready = await ask([4, 6], node(cidrs, both));
  assert.ok('families' in ready);
  assert.equal(ready.address, '172.18.1.2');
  assert.deepEqual(
    ready.families.map(each => each.internalAddress),
    ['10.1.0.1', 'fd00:10:1::1'],
  );
  const object = CiliumNode.parse({
    ...ciliumNodeObject(ready, 'tunnel'),
    metadata: { name: 'n1', uid: 'x', resourceVersion: '1' },
  });
  assert.deepEqual(internalAddresses(nodeRow(object)), ['10.1.0.1', 'fd00:10:1::1']);
  const only = await ask([6], node(cidrs, both));
  assert.ok('families' in only);
  assert.equal(only.address, 'fd00:18::2');
});

test('a family that the cluster’s pods do not have is left out', () => {
  const row = ownNodeRow(
    Node.parse({
      metadata: { name: 'n1', uid: 'u', resourceVersion: '1' },
      spec: { podCIDRs: ['10.1.0.0/24', 'fd00::/64'] },
      status: { addresses: [...addresses, { type: 'InternalIP', address: 'fd00:18::2' }] },
    }),
    [4],
  );
  assert.deepEqual([row.podCidrs, row.addresses.map(each => each.ip)], [['10.1.0.0/24'], ['172.18.1.2']]);
});

test('the CiliumNode is what other agents need', () => {
  const row = node(['10.1.0.0/24'], addresses);
  const family = {
    family: 4,
    address: '172.18.1.2',
    podCidrs: row.podCidrs,
    internalAddress: '10.1.0.1',
  } as const;
  const object = CiliumNode.parse({
    ...ciliumNodeObject({ ...row, address: '172.18.1.2', families: [family] }, 'tunnel'),
    metadata: { name: 'n1', uid: 'x', resourceVersion: '1' },
  });
  const published = nodeRow(object);
  assert.equal(nodeAddress(published), '172.18.1.2');
  assert.deepEqual(internalAddresses(published), ['10.1.0.1']);
  assert.deepEqual(published.podCidrs, ['10.1.0.0/24']);
});
