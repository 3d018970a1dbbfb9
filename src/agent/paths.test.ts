import assert from 'node:assert/strict';
import { beforeEach, describe, it } from 'node:test';
import { settled } from '../table/settled.fixture.ts';
import { Table } from '../table/table.ts';
import { type ClusterNode, clusterNodeKey, nodeIndexes } from './cluster-nodes.ts';
import { deriveHostRoutes } from './host-routes.ts';
import { deriveNodeAddresses, nodeMapRow } from './node-map.ts';
import { derivePaths, type KernelRoute, type PathInputs, parseTopology, type RoutingMode } from './paths.ts';

const node = (name: string, address: string, cidr: string, more: Partial<ClusterNode> = {}): ClusterNode => ({
  cluster: 'us',
  clusterId: 1,
  name,
  local: false,
  own: true,
  address,
  addresses: [address],
  internalAddresses: [cidr.replace(/0\/24$/, '1')],
  podCidrs: [cidr],
  routing: 'hybrid',
  ...more,
});

describe('the way to another node’s pods', () => {
  let nodes: Table<ClusterNode>;
  let routes: Table<KernelRoute>;
  beforeEach(() => {
    nodes = new Table<ClusterNode>({ name: 'nodes', keyOf: clusterNodeKey, indexes: nodeIndexes });
    routes = new Table<KernelRoute>({ name: 'routes', keyOf: row => row.prefix });
    routes.upsert({ prefix: '172.18.1.0/24', onLink: true, ifindex: 2 });
    nodes.upsert(node('a', '172.18.1.2', '10.1.0.0/24', { local: true }));
    nodes.upsert(node('b', '172.18.1.3', '10.1.1.0/24'));
    nodes.upsert(node('c', '172.18.9.3', '10.1.2.0/24'));
  });

  const derived = (mode: RoutingMode, more: Partial<PathInputs> = {}) =>
    derivePaths({ nodes, routes, mode, topology: [], neighbourRoutes: true, ...more });
  const show = async (paths: ReturnType<typeof derived>): Promise<string[]> => {
    await settled();
    return [...paths.values()]
      .map(each => `${each.node} ${each.direct ? `direct ${each.gateway}`.trim() : 'tunnel'}`)
      .sort();
  };

  it('tunnel: every node by the tunnel', async () => {
    assert.deepEqual(await show(derived('tunnel')), ['us/b tunnel', 'us/c tunnel']);
  });

  it('native: every node directly, neighbours by a route of ours', async () => {
    assert.deepEqual(await show(derived('native')), ['us/b direct 172.18.1.3', 'us/c direct']);
    assert.deepEqual(await show(derived('native', { neighbourRoutes: false })), [
      'us/b direct',
      'us/c direct',
    ]);
  });

  it('hybrid: neighbours directly, others by the tunnel until a route leads to their pods', async () => {
    const paths = derived('hybrid');
    assert.deepEqual(await show(paths), ['us/b direct 172.18.1.3', 'us/c tunnel']);
    routes.upsert({ prefix: '10.1.0.0/16', onLink: false, ifindex: 2 });
    assert.deepEqual(await show(paths), ['us/b direct 172.18.1.3', 'us/c direct']);
    routes.delete('10.1.0.0/16');
    routes.delete('172.18.1.0/24');
    assert.deepEqual(await show(paths), ['us/b tunnel', 'us/c tunnel']);
  });

  it('hybrid: a node that takes tunnel packets only, or says nothing, gets no others', async () => {
    nodes.upsert(node('b', '172.18.1.3', '10.1.1.0/24', { routing: 'tunnel' }));
    nodes.upsert(node('d', '172.18.1.4', '10.1.3.0/24', { routing: undefined }));
    assert.deepEqual(await show(derived('hybrid')), ['us/b tunnel', 'us/c tunnel', 'us/d tunnel']);
    // Who chose native routing answers for nodes of other products; ours say that they are not ready for it.
    assert.deepEqual(await show(derived('native')), ['us/b tunnel', 'us/c direct', 'us/d direct 172.18.1.4']);
  });

  it('hybrid with a topology: nodes of one group directly, whatever links there are', async () => {
    const topology = parseTopology('10.1.0.0/24,10.1.2.0/24; 10.1.1.0/24');
    assert.deepEqual(await show(derived('hybrid', { topology })), ['us/b tunnel', 'us/c direct']);
  });

  it('the longest route that covers a range decides, among thousands and in both families', async () => {
    for (let n = 0; n < 4096; n++)
      routes.upsert({
        prefix: `10.${128 + (n >> 8)}.${n & 255}.0/24`,
        onLink: false,
        ifindex: 2,
      });
    nodes.upsert(node('six', 'fd00:18::3', 'fd00:10:2::/64', { podCidrs: ['fd00:10:2::/64'] }));
    nodes.upsert(node('far', '172.18.9.4', '10.130.7.0/24'));
    const paths = derived('hybrid');
    assert.deepEqual(await show(paths), [
      'us/b direct 172.18.1.3',
      'us/c tunnel',
      'us/far direct',
      'us/six tunnel',
    ]);
    routes.upsert({ prefix: 'fd00:10::/32', onLink: false, ifindex: 2 });
    routes.delete('10.130.7.0/24');
    assert.deepEqual(await show(paths), [
      'us/b direct 172.18.1.3',
      'us/c tunnel',
      'us/far tunnel',
      'us/six direct',
    ]);
    routes.upsert({ prefix: 'fd00:18::/64', onLink: true, ifindex: 3 });
    routes.upsert({ prefix: '172.18.0.0/15', onLink: true, ifindex: 4 });
    assert.deepEqual(await show(paths), [
      'us/b direct 172.18.1.3',
      'us/c direct 172.18.9.3',
      'us/far direct 172.18.9.4',
      'us/six direct fd00:18::3',
    ]);
    assert.equal(paths.get('us/b')?.ifindex, 2, 'the longer of two links');
  });

  it('a topology that can not be read names what was found', () => {
    assert.deepEqual(parseTopology(''), []);
    assert.deepEqual(parseTopology('10.0.0.0/24,10.0.1.0/24;10.1.0.0/16;'), [
      ['10.0.0.0/24', '10.0.1.0/24'],
      ['10.1.0.0/16'],
    ]);
    assert.throws(() => parseTopology('10.0.0.0/24,10.0.1.0'), /expected prefixes as .*"10.0.1.0" is none/);
    assert.throws(() => parseTopology('10.0.0.0/33'), /"10.0.0.0\/33" is none/);
  });

  it('routes and map rows follow the path', async () => {
    const paths = derived('hybrid');
    const hostRoutes = deriveHostRoutes({ nodes, paths, ifindex: 4, sources: ['10.1.0.1'], mtu: 1450 });
    const addresses = deriveNodeAddresses(nodes, paths);
    await settled();
    const viaTunnel = { ifindex: 4, gateway: '', source: '10.1.0.1', mtu: 1450 };
    assert.deepEqual(hostRoutes.get('10.1.1.0/24'), {
      prefix: '10.1.1.0/24',
      ifindex: 2,
      gateway: '172.18.1.3',
      source: '',
      mtu: 0,
    });
    assert.deepEqual(hostRoutes.get('10.1.2.0/24'), { prefix: '10.1.2.0/24', ...viaTunnel });
    const flags = (address: string): number => nodeMapRow(addresses.get(address)!).value.flags;
    assert.deepEqual([flags('172.18.1.3') & 4, flags('172.18.9.3') & 4], [4, 0]);
    routes.upsert({ prefix: '10.1.2.0/24', onLink: false, ifindex: 2 });
    routes.delete('172.18.1.0/24');
    await settled();
    assert.deepEqual(hostRoutes.get('10.1.1.0/24'), { prefix: '10.1.1.0/24', ...viaTunnel });
    assert.equal(hostRoutes.has('10.1.2.0/24'), false, 'somebody else’s route leads there');
    assert.deepEqual([flags('172.18.1.3') & 4, flags('172.18.9.3') & 4], [0, 4]);
  });
});
