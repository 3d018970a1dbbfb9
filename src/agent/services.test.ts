import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type EndpointSlice, endpointSliceTable } from '../api/endpoint-slice.ts';
import { type Service, serviceKey } from '../api/service.ts';
import { DEAD_NODES_BY_CLUSTER, type DeadRemoteNode } from '../clustermesh/dead-nodes.ts';
import type { RemoteHealth } from '../clustermesh/rows.ts';
import type { NodeVerdict } from '../clustermesh/verdicts.ts';
import type { Forwarding } from '../loadbalancer/frontends.ts';
import { type RemoteService, remoteServiceTable } from '../loadbalancer/remote-service.ts';
import { settled } from '../table/settled.fixture.ts';
import { Table } from '../table/table.ts';
import type { ClusterRegion } from './cluster-regions.ts';
import { interpret, MemoryServiceMaps } from './service-maps.fixture.ts';
import { addressOfKey, prefixOfSourceRange } from './service-maps.ts';
import { service, slice } from './service-rows.fixture.ts';
import { runServices } from './services.ts';

function start(maps = new MemoryServiceMaps(), forwarding?: Forwarding) {
  const nodes = new Table<{ readonly name: string; readonly labels: Readonly<Record<string, string>> }>({
    name: 'nodes',
    keyOf: row => row.name,
  });
  const regions = new Table<ClusterRegion>({ name: 'regions', keyOf: row => row.cluster });
  const services = new Table<Service>({ name: 'services', keyOf: serviceKey });
  const slices = new Table<EndpointSlice>(endpointSliceTable);
  const remotes = new Table<RemoteService>(remoteServiceTable);
  const nodeVerdicts = new Table<NodeVerdict>({ name: 'node-verdicts', keyOf: row => row.node });
  const clusters = new Table<RemoteHealth>({ name: 'clusters', keyOf: row => row.cluster });
  const deadNodes = new Table<DeadRemoteNode>({
    name: 'dead-remote-nodes',
    keyOf: row => `${row.cluster}/${row.node}`,
    indexes: { [DEAD_NODES_BY_CLUSTER]: row => [row.cluster] },
  });
  for (const each of [nodeVerdicts, clusters, deadNodes]) each.markSynced();
  const stop = new AbortController();
  const problems: string[] = [];
  const running = runServices({
    services,
    slices,
    remotes,
    nodeVerdicts,
    clusters,
    deadNodes,
    // 10.2.0.9 is the pod of a host network, and known by its node's address alone.
    nodeOfAddress: (_, address) =>
      address === '10.2.0.9' ? undefined : address.replace('10.2.0.', '172.18.2.'),
    node: 'n1',
    nodes,
    cluster: 'us',
    regions,
    mayServe: () => true,
    ownRanges: regions,
    forwarding,
    maps,
    signal: stop.signal,
    onProblem: (of, message) => problems.push(`${serviceKey(of)}: ${message}`),
    onError: (key, error) => assert.fail(`${key}: ${error.message}`),
  });
  const sync = async () => {
    for (const each of [services, slices, remotes, regions]) each.markSynced();
    await (await running).reconciler.whenSettled();
  };
  return {
    ...{ maps, nodes, regions, services, slices, remotes, nodeVerdicts, clusters, deadNodes },
    ...{ problems, running, sync, stop },
  };
}

test('services, slices and remote services become rows; annotations take effect on the spot', async () => {
  const { maps, services, slices, remotes, sync, stop } = start();
  const web = 'ns/web';
  services.upsert(service('web', '10.96.0.1'));
  slices.upsert(slice('web', '10.1.0.1'));
  remotes.upsert({
    cluster: 'eu',
    clusterId: 2,
    namespace: 'ns',
    name: 'web',
    backends: [{ '10.2.0.1': { '': { protocol: 'TCP', port: 80 } } }],
  });
  await sync();
  const targets = async () => {
    await settled();
    return interpret(maps).get('10.96.0.1/80/TCP/external');
  };
  assert.deepEqual(await targets(), ['10.1.0.1:8080']);
  services.upsert(service('web', '10.96.0.1', { annotations: { 'service.cilium.io/global': 'true' } }));
  assert.deepEqual(await targets(), ['10.1.0.1:8080', '10.2.0.1:80']);
  services.upsert(service('web', '10.96.0.1'));
  assert.deepEqual(await targets(), ['10.1.0.1:8080']);
  slices.delete(`${web}-1`);
  assert.deepEqual(await targets(), []);
  services.delete(web);
  assert.equal(await targets(), undefined);
  stop.abort();
});

test('nothing that the maps hold goes before the sources are synced', async () => {
  const first = start();
  first.services.upsert(service('web', '10.96.0.1'));
  first.services.upsert(service('old', '10.96.0.2'));
  first.slices.upsert(slice('web', '10.1.0.1'));
  await first.sync();
  first.stop.abort();

  const second = start(first.maps);
  second.services.upsert(service('web', '10.96.0.1'));
  second.services.markSynced();
  await settled();
  assert.deepEqual(interpret(first.maps).get('10.96.0.1/80/TCP/external'), ['10.1.0.1:8080']);
  second.slices.upsert(slice('web', '10.1.0.2'));
  await second.sync();
  assert.deepEqual([...interpret(first.maps)], [['10.96.0.1/80/TCP/external', ['10.1.0.2:8080']]]);
  second.stop.abort();
});

test('until remote clusters are heard a global service keeps their backends, others do not wait', async () => {
  const annotations = { 'service.cilium.io/global': 'true' };
  const first = start();
  first.services.upsert(service('web', '10.96.0.1', { annotations }));
  first.remotes.upsert({
    cluster: 'eu',
    clusterId: 2,
    namespace: 'ns',
    name: 'web',
    backends: [{ '10.2.0.1': { '': { protocol: 'TCP', port: 80 } } }],
  });
  await first.sync();
  first.stop.abort();

  const second = start(first.maps);
  second.services.upsert(service('web', '10.96.0.1', { annotations }));
  second.services.upsert(service('own', '10.96.0.2'));
  second.slices.upsert(slice('web', '10.1.0.1'));
  second.slices.upsert(slice('own', '10.1.0.2'));
  second.services.markSynced();
  second.slices.markSynced();
  await second.running;
  await settled();
  const web = () => interpret(first.maps).get('10.96.0.1/80/TCP/external');
  assert.deepEqual(web(), ['10.1.0.1:8080', '10.2.0.1:80']);
  assert.deepEqual(interpret(first.maps).get('10.96.0.2/80/TCP/external'), ['10.1.0.2:8080']);
  await second.sync();
  await settled();
  assert.deepEqual(web(), ['10.1.0.1:8080']);
  second.stop.abort();
});

test('two services that claim one external address: the older gets it, the younger is told', async () => {
  const { maps, services, slices, problems, sync, stop } = start();
  const claim = { externalIPs: ['192.0.2.1'] };
  services.upsert(service('young', '10.96.0.2', { ...claim, created: '2026-02-01T00:00:00Z' }));
  services.upsert(service('old', '10.96.0.1', claim));
  slices.upsert(slice('old', '10.1.0.1'));
  slices.upsert(slice('young', '10.1.0.2'));
  await sync();
  assert.deepEqual(interpret(maps).get('192.0.2.1/80/TCP/external'), ['10.1.0.1:8080']);
  assert.deepEqual(problems, ['ns/young: 192.0.2.1:80/TCP belongs to service ns/old, which had it first']);
  services.delete('ns/old');
  await settled();
  assert.deepEqual(interpret(maps).get('192.0.2.1/80/TCP/external'), ['10.1.0.2:8080']);
  stop.abort();
});

test('an unknown affinity is reported once and does not stop the service', async () => {
  const { maps, services, slices, problems, running, sync, stop } = start();
  const annotations = { 'service.cilium.io/global': 'true', 'service.cilium.io/affinity': 'near' };
  services.upsert(service('web', '10.96.0.1', { annotations }));
  slices.upsert(slice('web', '10.1.0.1'));
  await sync();
  assert.equal(problems.length, 1);
  assert.match(problems[0]!, /service.cilium.io\/affinity: found "near"/);
  slices.upsert(slice('web', '10.1.0.1', '10.1.0.2'));
  await settled();
  assert.equal(problems.length, 1);
  assert.equal(interpret(maps).get('10.96.0.1/80/TCP/external')?.length, 2);
  services.upsert(service('web', '10.96.0.1'));
  await settled();
  assert.equal((await running).problems.size, 0);
  stop.abort();
});

test('with 10,000 services an endpoint change writes only what differs', async t => {
  const { maps, services, slices, sync, stop } = start();
  for (let n = 0; n < 10_000; n++) {
    services.upsert(service(`s${n}`, `10.96.${n >> 8}.${n & 255}`));
    slices.upsert(slice(`s${n}`, `10.1.${n >> 8}.${n & 255}`));
  }
  const big = Array.from({ length: 1000 }, (_, n) => `10.2.${n >> 8}.${n & 255}`);
  slices.upsert(slice('s7', ...big));
  await sync();
  const times: number[] = [];
  const writes = maps.slots.writes;
  for (let round = 0; round < 41; round++) {
    const before = maps.slots.writes + maps.frontends.writes;
    // CPU time, not time: tests share their machine.
    const started = process.cpuUsage();
    slices.upsert(slice('s7', ...big.filter((_, n) => n !== round)));
    while (maps.slots.writes + maps.frontends.writes === before) await Promise.resolve();
    const { user, system } = process.cpuUsage(started);
    times.push((user + system) / 1000);
  }
  assert.ok(maps.slots.writes - writes < 41 * 3, `${maps.slots.writes - writes} slots written`);
  t.diagnostic(`median ${times.sort((a, b) => a - b)[20]!.toFixed(1)} ms of CPU a change`);
  stop.abort();
});

test('SCTP and a prefix that is none are told, and the rest of the service works', async () => {
  const { maps, services, slices, problems, sync, stop } = start();
  services.upsert(
    service('web', '10.96.0.1', {
      type: 'LoadBalancer',
      loadBalancerIPs: ['198.51.100.1'],
      loadBalancerSourceRanges: ['everybody', '203.0.113.0/24'],
      ports: [
        { name: '', protocol: 'TCP', port: 80, nodePort: 0 },
        { name: 'signal', protocol: 'SCTP', port: 81, nodePort: 0 },
      ],
    }),
  );
  services.upsert(
    service('other', '', {
      clusterIPs: [],
      headless: true,
      ports: [{ name: '', protocol: 'SCTP', port: 81, nodePort: 0 }],
    }),
  );
  slices.upsert(slice('web', '10.1.0.1'));
  await sync();
  assert.deepEqual([...interpret(maps).keys()].sort(), [
    '10.96.0.1/80/TCP/external',
    '198.51.100.1/80/TCP/external',
  ]);
  assert.deepEqual(
    maps.sourceRanges.entries().map(([key]) => prefixOfSourceRange(key)),
    ['203.0.113.0/24'],
  );
  assert.equal(problems.length, 2);
  assert.match(problems.join(' '), /ns\/web: port signal \(81\): SCTP is not balanced/);
  assert.match(problems.join(' '), /ns\/web: loadBalancerSourceRanges: found "everybody"/);
  stop.abort();
});

test('annotations that cannot be obeyed are told', async () => {
  const { services, problems, sync, stop } = start(undefined, { mode: 'snat', routed: false });
  const annotated = (name: string, address: string, annotations: Record<string, string>, rest: object = {}) =>
    services.upsert(service(name, address, { annotations, ...rest }));
  annotated('direct', '10.96.0.1', { 'service.cilium.io/forwarding-mode': 'dsr' });
  annotated('typed', '10.96.0.2', { 'service.cilium.io/type': 'LoadBalancer' });
  annotated('well', '10.96.0.3', {
    'service.cilium.io/forwarding-mode': 'snat',
    'service.cilium.io/type': 'ClusterIP',
  });
  annotated(
    'ranges',
    '10.96.0.4',
    { 'service.cilium.io/src-ranges-policy': 'deny' },
    { type: 'LoadBalancer', loadBalancerSourceRanges: ['x'] },
  );
  await sync();
  assert.equal(problems.length, 3, problems.join('\n'));
  assert.match(
    problems[0]!,
    /ns\/direct: .*found dsr, which needs routingMode native or hybrid .*snat is in force$/,
  );
  assert.match(problems[1]!, /ns\/typed: .*found LoadBalancer, but the service is of type ClusterIP/);
  assert.match(problems[2]!, /ns\/ranges: .*it keeps nobody out$/);
  stop.abort();
});

test('flags of the rows say how clients outside are served', async () => {
  const { maps, services, slices, sync, stop } = start(undefined, { mode: 'hybrid', routed: true });
  const port = (protocol: 'TCP' | 'UDP') => ({ name: protocol, protocol, port: 80, nodePort: 30_080 });
  services.upsert(
    service('web', '10.96.0.1', {
      type: 'LoadBalancer',
      annotations: { 'service.cilium.io/src-ranges-policy': 'deny' },
      loadBalancerIPs: ['198.51.100.1'],
      loadBalancerSourceRanges: ['203.0.113.0/24'],
      ports: [port('TCP'), port('UDP')],
    }),
  );
  slices.upsert(slice('web', '10.1.0.1'));
  await sync();
  const [nodePort, external, ranges, dsr, deny] = [2, 4, 32, 128, 256];
  assert.deepEqual(
    Object.fromEntries(maps.frontends.entries().map(([key, value]) => [addressOfKey(key), value.flags])),
    {
      '10.96.0.1/80/TCP/external': 0,
      '10.96.0.1/80/UDP/external': 0,
      '198.51.100.1/80/TCP/external': external | ranges | deny | dsr,
      '198.51.100.1/80/UDP/external': external | ranges | deny,
      '0.0.0.0/30080/TCP/external': nodePort | dsr,
      '0.0.0.0/30080/UDP/external': nodePort,
    },
  );
  stop.abort();
});

test('a node that gets another zone follows other hints', async () => {
  const { maps, nodes, services, slices, sync, stop } = start();
  services.upsert(service('web', '10.96.0.1'));
  const row = slice('web', '10.1.0.1', '10.1.0.2');
  slices.upsert({
    ...row,
    endpoints: row.endpoints.map((each, at) => ({ ...each, forZones: [at === 0 ? 'a' : 'b'] })),
  });
  await sync();
  const targets = async (zone: string) => {
    nodes.upsert({ name: 'n1', labels: { 'topology.kubernetes.io/zone': zone } });
    await settled();
    return interpret(maps).get('10.96.0.1/80/TCP/external');
  };
  assert.deepEqual(await targets('a'), ['10.1.0.1:8080']);
  assert.deepEqual(await targets('b'), ['10.1.0.2:8080']);
  assert.deepEqual(await targets('c'), ['10.1.0.1:8080', '10.1.0.2:8080']);
  stop.abort();
});

test('a name that no cluster or region has is told, until one has it', async () => {
  const { services, regions, running, sync, stop } = start();
  const messages = async () => {
    await settled();
    return [...(await running).problems.values()].map(each => each.message);
  };
  regions.upsert({ cluster: 'us', region: 'america' });
  services.upsert(
    service('web', '10.96.0.1', {
      annotations: {
        'service.cilium.io/global': 'true',
        'service.isthmus.dev/affinity-order': 'america,eu',
        'service.isthmus.dev/weights': 'us=1,eu=2',
      },
    }),
  );
  await sync();
  assert.deepEqual(await messages(), [
    'annotation service.isthmus.dev/affinity-order: found eu, expected clusters or regions of the mesh (the mesh has us, in america); it is passed over',
    'annotation service.isthmus.dev/weights: found eu, expected clusters of the mesh (the mesh has us); it is passed over',
  ]);
  regions.upsert({ cluster: 'eu', region: '' });
  assert.deepEqual(await messages(), []);
  stop.abort();
});

test('what is dead is out of choice for as long as it is, and affinity local follows', async () => {
  const { maps, services, slices, remotes, nodeVerdicts, clusters, sync, stop } = start();
  const annotations = { 'service.cilium.io/global': 'true', 'service.cilium.io/affinity': 'local' };
  services.upsert(service('web', '10.96.0.1', { annotations }));
  services.upsert(service('other', '10.96.0.2'));
  const own = slice('web', '10.1.0.1');
  slices.upsert({ ...own, endpoints: own.endpoints.map(each => ({ ...each, node: 'n2' })) });
  slices.upsert(slice('other', '10.1.0.9'));
  remotes.upsert({
    cluster: 'eu',
    clusterId: 2,
    namespace: 'ns',
    name: 'web',
    backends: [{ '10.2.0.1': { '': { protocol: 'TCP', port: 80 } } }],
  });
  await sync();
  const targets = async (): Promise<string> => {
    await settled();
    return String(interpret(maps).get('10.96.0.1/80/TCP/external'));
  };
  assert.equal(await targets(), '10.1.0.1:8080');
  nodeVerdicts.upsert({ node: 'n2', by: ['n3', 'n4'], dead: true });
  assert.equal(await targets(), '10.2.0.1:80');
  clusters.upsert({ cluster: 'eu', dead: true, silent: true, controlPlaneNode: '', via: '' });
  assert.equal(await targets(), '');
  nodeVerdicts.upsert({ node: 'n2', by: ['n3', 'n4'], dead: false });
  assert.equal(await targets(), '10.1.0.1:8080', 'kept in service, because most look dead');
  nodeVerdicts.upsert({ node: 'n2', by: ['n3', 'n4'], dead: true });
  clusters.upsert({ cluster: 'eu', dead: false, silent: false, controlPlaneNode: '', via: '' });
  assert.equal(await targets(), '10.2.0.1:80');
  nodeVerdicts.delete('n2');
  assert.equal(await targets(), '10.1.0.1:8080');
  assert.deepEqual(interpret(maps).get('10.96.0.2/80/TCP/external'), ['10.1.0.9:8080']);
  stop.abort();
});

test('what is on a dead node of another cluster is out of choice, the rest of that cluster is not', async () => {
  const { maps, services, remotes, deadNodes, sync, stop } = start();
  services.upsert(service('web', '10.96.0.1', { annotations: { 'service.cilium.io/global': 'true' } }));
  const at80 = { '': { protocol: 'TCP', port: 80 } } as const;
  remotes.upsert({
    cluster: 'eu',
    clusterId: 2,
    namespace: 'ns',
    name: 'web',
    backends: [{ '10.2.0.1': at80, '10.2.0.2': at80 }, { '10.2.0.9': at80 }],
  });
  await sync();
  const targets = async (): Promise<string> => {
    await settled();
    return String(interpret(maps).get('10.96.0.1/80/TCP/external'));
  };
  assert.equal(await targets(), '10.2.0.1:80,10.2.0.2:80,10.2.0.9:80');
  deadNodes.upsert({ cluster: 'eu', node: 'two', addresses: ['172.18.2.2'], podCidrs: [] });
  assert.equal(await targets(), '10.2.0.1:80,10.2.0.9:80');
  deadNodes.upsert({ cluster: 'eu', node: 'nine', addresses: ['10.2.0.9'], podCidrs: [] });
  assert.equal(await targets(), '10.2.0.1:80');
  for (const key of ['eu/two', 'eu/nine']) deadNodes.delete(key);
  assert.equal(await targets(), '10.2.0.1:80,10.2.0.2:80,10.2.0.9:80');
  stop.abort();
});
