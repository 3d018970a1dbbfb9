import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import type { EndpointObjectRow } from '../api/crds/cilium-endpoint.ts';
import type { NodeRow } from '../api/crds/cilium-node.ts';
import { nearOf } from '../clustermesh/rows.ts';
import { settled } from '../table/settled.fixture.ts';
import { Table } from '../table/table.ts';
import { clusterNodeKey, deriveClusterNodes, type RemoteNode } from './cluster-nodes.ts';
import { type Endpoint, endpointTable } from './endpoint.ts';
import { ForeignClaims } from './foreign-claims.ts';
import { deriveHostRoutes } from './host-routes.ts';
import { deriveIpcache, ipcacheKey, ipcacheMapRow, prefixOfKey, type RemoteAddress } from './ipcache.ts';
import { addressOfNodeKey, deriveNodeAddresses, nodeMapRow } from './node-map.ts';
import { derivePaths, type KernelRoute } from './paths.ts';
import { derivePodRanges, foreignClaim, PodRangeLookup } from './pod-ranges.ts';

const node = (name: string, ip: string, cidr: string, internal: string): NodeRow => ({
  name,
  uid: name,
  labels: {},
  annotations: {},
  addresses: [
    { type: 'InternalIP', ip },
    { type: 'CiliumInternalIP', ip: internal },
    { type: 'Hostname', ip: name },
  ],
  podCidrs: [cidr],
  healthIp: '',
  ingressIp: '',
  encryptionKey: 0,
  bootId: '',
});
const cep = (name: string, address: string, nodeIp: string, identity = 65_800): EndpointObjectRow => ({
  namespace: 'ns',
  name,
  uid: name,
  podUid: '',
  identity,
  addresses: [address],
  nodeIp,
  encryptionKey: 0,
  serviceAccount: '',
  leaving: false,
});
const local = (ipv4: string, state: Endpoint['state'] = 'ready', identity?: number): Endpoint => ({
  id: 7,
  containerId: 'c',
  ifName: 'eth0',
  netns: '',
  network: 'isthmus',
  hostIfName: 'ist00000000001',
  ifindex: 9,
  ipv4,
  gateway: '10.1.0.1',
  mtu: 1450,
  mac: '02:00:00:00:00:01',
  hostMac: '02:00:00:00:00:02',
  namespace: 'ns',
  podName: 'p',
  podUid: '',
  portMappings: [],
  state,
  createdAt: '',
  ...(identity === undefined ? {} : { identity }),
});

function world() {
  const own = new Table<NodeRow>({ name: 'nodes', keyOf: row => row.name });
  const remoteNodes = new Table<RemoteNode>({ name: 'remote-nodes', keyOf: clusterNodeKey });
  const endpoints = endpointTable();
  const cluster = new Table<EndpointObjectRow>({
    name: 'ceps',
    keyOf: row => row.name,
    indexes: { address: row => row.addresses },
  });
  const remote = new Table<RemoteAddress>({
    name: 'remote',
    keyOf: row => `${row.cluster} ${row.prefix}`,
    indexes: { prefix: row => [row.prefix], near: row => [nearOf(row.prefix)] },
  });
  const ownRanges = derivePodRanges('own-pod-ranges', own, () => 'us');
  const of = {
    own,
    remote: remoteNodes,
    cluster: 'us',
    clusterId: 1,
    node: node('a', '172.18.1.2', '10.1.0.0/24', '10.1.0.1'),
    ownRanges,
  };
  const nodes = deriveClusterNodes(of);
  const ranges = derivePodRanges('pod-ranges', nodes, each => each.cluster);
  const lookups = [new PodRangeLookup(ownRanges), new PodRangeLookup(ranges)] as const;
  const claims = new ForeignClaims(claim => foreignClaim(claim, ...lookups));
  const ipcache = deriveIpcache({ nodes, local: endpoints, cluster, remote, claims, ranges });
  const kernelRoutes = new Table<KernelRoute>({ name: 'kernel-routes', keyOf: row => row.prefix });
  const paths = derivePaths({
    nodes,
    routes: kernelRoutes,
    mode: 'hybrid',
    topology: [],
    neighbourRoutes: true,
  });
  const addresses = deriveNodeAddresses(nodes, paths);
  const routes = deriveHostRoutes({ nodes, paths, ifindex: 4, sources: ['10.1.0.1'], mtu: 1450 });
  return {
    kernelRoutes,
    own,
    remoteNodes,
    endpoints,
    cluster,
    remote,
    nodes,
    ipcache,
    foreign: claims.table,
    addresses,
    routes,
  };
}
let w = world();
const show = async (prefix: string) => {
  await settled();
  const row = w.ipcache.get(prefix);
  return row ? `${row.identity} ${row.tunnel || '-'}` : undefined;
};

beforeEach(() => {
  w = world();
  w.own.upsert(node('a', '172.18.1.2', '10.1.0.0/24', '10.1.0.1'));
  w.own.upsert(node('b', '172.18.1.3', '10.1.1.0/24', '10.1.1.1'));
  w.remoteNodes.upsert({
    ...node('c', '172.18.2.2', '10.2.0.0/24', '10.2.0.1'),
    cluster: 'eu',
    clusterId: 2,
    routing: '',
  });
});

test('nodes: addresses directly, internal addresses and pod CIDRs through the tunnel', async () => {
  assert.equal(await show('172.18.1.2/32'), '1 -');
  assert.equal(await show('10.1.0.1/32'), '1 -');
  assert.equal(await show('10.1.0.0/24'), '3 172.18.1.2');
  assert.equal(await show('172.18.1.3/32'), '6 -');
  assert.equal(await show('10.1.1.1/32'), '6 172.18.1.3');
  assert.equal(await show('10.1.1.0/24'), '3 172.18.1.3');
  assert.equal(await show('172.18.2.2/32'), '6 -');
  assert.equal(await show('10.2.0.1/32'), '6 172.18.2.2');
  assert.equal(w.ipcache.size, 9);
});

test('pods: what this node has comes before what objects say', async () => {
  w.cluster.upsert(cep('p', '10.1.0.9', '172.18.1.2'));
  assert.equal(
    await show('10.1.0.9/32'),
    undefined,
    'an object of this node without an endpoint is left over',
  );
  w.endpoints.upsert(local('10.1.0.9'));
  assert.equal(await show('10.1.0.9/32'), '5 -');
  w.endpoints.upsert(local('10.1.0.9', 'ready', 65_801));
  assert.equal(await show('10.1.0.9/32'), '65801 -');
  w.endpoints.delete('c/eth0');
  w.cluster.upsert(cep('q', '10.1.1.9', '172.18.1.3'));
  assert.equal(await show('10.1.1.9/32'), '65800 172.18.1.3');
  w.remote.upsert({ cluster: 'eu', prefix: '10.2.0.9/32', identity: 131_400, nodeIp: '172.18.2.2' });
  assert.equal(await show('10.2.0.9/32'), '131400 172.18.2.2');
  assert.equal(await show('10.1.0.9/32'), undefined);
});

test('a pod of the own cluster keeps its address against another cluster that claims it', async () => {
  w.remote.upsert({ cluster: 'eu', prefix: '10.1.1.9/32', identity: 131_400, nodeIp: '172.18.2.2' });
  w.cluster.upsert(cep('q', '10.1.1.9', '172.18.1.3'));
  assert.equal(await show('10.1.1.9/32'), '65800 172.18.1.3');
});

test('a pod CIDR that another cluster claims too stays this cluster’s', async () => {
  const clash = {
    ...node('d', '172.18.2.3', '10.1.1.0/24', '10.2.9.1'),
    cluster: 'ap',
    clusterId: 3,
    routing: '',
  };
  w = world();
  w.remoteNodes.upsert(clash);
  await settled();
  w.own.upsert(node('b', '172.18.1.3', '10.1.1.0/24', '10.1.1.1'));
  assert.equal(await show('10.1.1.0/24'), '3 172.18.1.3');
  w.own.delete('b');
  assert.equal(await show('10.1.1.0/24'), '3 172.18.2.3');
});

test('node addresses carry cluster and whether NodePorts apply', async () => {
  await settled();
  const flags = [...w.addresses.values()].map(row => {
    const { key, value } = nodeMapRow(row);
    return `${addressOfNodeKey(key)} ${value.cluster_id} ${value.flags}`;
  });
  assert.deepEqual(flags.sort(), [
    '10.1.0.1 1 3',
    '10.1.1.1 1 2',
    '10.2.0.1 2 0',
    '172.18.1.2 1 3',
    '172.18.1.3 1 2',
    '172.18.2.2 2 0',
  ]);
});

test('host routes follow the nodes', async () => {
  await settled();
  assert.deepEqual([...w.routes.keys()].sort(), ['10.1.0.0/24', '10.1.1.0/24', '10.2.0.0/24']);
  w.own.delete('b');
  await settled();
  assert.deepEqual([...w.routes.keys()].sort(), ['10.1.0.0/24', '10.2.0.0/24']);
});

test('while this node has no CiliumNode its own pods are reached as before', async () => {
  await settled();
  const before = [w.routes, w.ipcache, w.addresses].map(each => [...each.keys()].sort());
  w.own.delete('a');
  await settled();
  assert.deepEqual(
    [w.routes, w.ipcache, w.addresses].map(each => [...each.keys()].sort()),
    before,
  );
  w.own.delete('b');
  await settled();
  assert.equal(w.routes.has('10.1.1.0/24'), false);
});

test('map keys read back as the prefixes they were written for', () => {
  for (const prefix of ['10.1.0.0/24', '10.1.0.9/32', '0.0.0.0/0', 'fd00::/64'])
    assert.equal(prefixOfKey(ipcacheKey(prefix)), prefix);
  const row = ipcacheMapRow({ prefix: '10.1.0.0/24', identity: 3, tunnel: '', source: '' });
  assert.equal(row.key.prefixlen, 32 + 96 + 24);
  assert.deepEqual([...row.value.tunnel], new Array(16).fill(0));
});

test('a cluster names only addresses that are its own, or nobody’s', async () => {
  const claim = (prefix: string, cluster = 'eu') =>
    w.remote.upsert({ cluster, prefix, identity: 131_400, nodeIp: '172.18.2.2' });
  const range = (cluster: string, cidr: string) =>
    w.remoteNodes.upsert({
      ...node('n', '172.18.3.2', cidr, '10.3.0.1'),
      cluster,
      clusterId: 3,
      routing: '',
    });
  range('asia', '10.3.0.0/24');
  claim('10.2.0.9/32');
  claim('192.0.2.77/32');
  claim('10.1.1.9/32');
  claim('10.3.0.9/32');
  claim('10.2.0.0/25');
  claim('10.0.0.0/8');
  claim('0.0.0.0/1');
  claim('fd00::/32');
  await settled();
  assert.deepEqual([...w.foreign.values()].map(each => `${each.prefix} ${each.why}`).sort(), [
    '0.0.0.0/1 is a range, and none of its nodes has it',
    '10.0.0.0/8 is a range, and none of its nodes has it',
    '10.1.1.9/32 is in the pod range 10.1.1.0/24 of this cluster (us)',
    '10.3.0.9/32 is in the pod range 10.3.0.0/24 of asia',
    'fd00::/32 is a range, and none of its nodes has it',
  ]);
  for (const believed of ['10.2.0.9/32', '192.0.2.77/32', '10.2.0.0/25'])
    assert.equal(await show(believed), '131400 172.18.2.2', believed);
  for (const refused of ['10.1.1.9/32', '10.3.0.9/32', '10.0.0.0/8', '0.0.0.0/1', 'fd00::/32'])
    assert.equal(await show(refused), undefined, refused);
  // What is nobody’s becomes somebody’s, and the other way round.
  w.own.upsert(node('d', '172.18.1.9', '192.0.2.0/24', '192.0.2.1'));
  w.remoteNodes.delete('asia/n');
  assert.equal(await show('192.0.2.77/32'), undefined);
  assert.equal(await show('10.3.0.9/32'), '131400 172.18.2.2');
});

test('another cluster’s pod range that this one has, holds or is part of leads nowhere', async () => {
  for (const [at, cidr] of ['10.1.1.0/24', '10.1.1.128/25', '10.1.0.0/16', '10.9.0.0/24'].entries())
    w.remoteNodes.upsert({
      ...node(`n${at}`, `172.18.3.${at}`, cidr, `10.3.0.${at}`),
      cluster: 'asia',
      clusterId: 3,
      routing: '',
    });
  assert.equal(await show('10.1.1.0/24'), '3 172.18.1.3');
  assert.equal(await show('10.1.1.128/25'), undefined);
  assert.equal(await show('10.1.0.0/16'), undefined);
  assert.equal(await show('10.9.0.0/24'), '3 172.18.3.3');
});
