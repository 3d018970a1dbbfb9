import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  CiliumL2AnnouncementPolicy,
  type L2PolicyRow,
  l2PolicyRow,
} from '../api/crds/l2-announcement-policy.ts';
import { type EndpointSlice, endpointSliceTable } from '../api/endpoint-slice.ts';
import { type Service, serviceKey, serviceSchema, toService } from '../api/service.ts';
import { settled } from '../table/settled.fixture.ts';
import { Table } from '../table/table.ts';
import {
  deriveL2Addresses,
  deriveL2Announcements,
  deriveL2Candidates,
  type L2Candidate,
} from './l2-addresses.ts';
import type { OwnNode } from './own-node.ts';

const policy = (name: string, spec: object): L2PolicyRow =>
  l2PolicyRow(CiliumL2AnnouncementPolicy.parse({ metadata: { name }, spec }));

function service(
  name: string,
  spec: object,
  labels: Record<string, string> = {},
  created = '2026-01-01T00:00:00Z',
): Service {
  const { ips = [], annotations = {}, ...rest } = spec as { ips?: string[]; annotations?: object };
  return toService(
    serviceSchema.parse({
      metadata: { name, namespace: 'ns', labels, annotations, creationTimestamp: created },
      spec: { type: 'LoadBalancer', clusterIP: '10.96.0.1', ports: [{ port: 80 }], ...rest },
      status: { loadBalancer: { ingress: ips.map(ip => ({ ip })) } },
    }),
  );
}

const slice = (name: string, node: string, ready: boolean, terminating = false): EndpointSlice => ({
  namespace: 'ns',
  name: `${name}-${node}`,
  service: `ns/${name}`,
  addressType: 'IPv4',
  ports: [],
  endpoints: [
    {
      address: '10.1.0.9',
      ready,
      serving: ready || terminating,
      terminating,
      node,
      hostname: '',
      zone: '',
      forZones: [],
      forNodes: [],
    },
  ],
});

function start() {
  const services = new Table<Service>({ name: 'services', keyOf: serviceKey });
  const slices = new Table<EndpointSlice>(endpointSliceTable);
  const policies = new Table<L2PolicyRow>({ name: 'policies', keyOf: row => row.name });
  const node = new Table<OwnNode>({ name: 'node', keyOf: row => row.name });
  const held = new Table<L2Candidate>({ name: 'held', keyOf: row => row.service });
  const label = (labels: Record<string, string>): void =>
    node.upsert({
      name: 'n1',
      uid: '',
      labels,
      annotations: {},
      bootId: '',
      addresses: [],
      podCidrs: [],
      leaving: false,
    });
  label({ role: 'edge' });
  const addresses = deriveL2Addresses({
    services,
    slices,
    policies,
    node,
    nodeName: 'n1',
    uplinks: [
      { name: 'eth0', ifindex: 2 },
      { name: 'eth1', ifindex: 3 },
    ],
  });
  const candidates = deriveL2Candidates(addresses);
  const announcements = deriveL2Announcements(addresses, held);
  /** Address, service, devices. */
  const seen = async (): Promise<string[]> => {
    await settled();
    return [...addresses.values()]
      .map(each => `${each.address} ${each.service} ${each.ifindexes.join(',')}`.trimEnd())
      .sort();
  };
  return { services, slices, policies, node, held, label, candidates, announcements, seen };
}

test('addresses are announced as policies say: which services, addresses, nodes, devices', async () => {
  const { services, policies, label, candidates, seen } = start();
  const ips = ['192.0.2.1', '2001:DB8:0::1'];
  services.upsert(service('red', { ips, externalIPs: ['198.51.100.1'] }, { colour: 'red' }));
  services.upsert(service('other', { ips: ['192.0.2.9'], loadBalancerClass: 'example.com/x' }));
  services.upsert(service('l2', { ips: ['192.0.2.3'], loadBalancerClass: 'io.cilium/l2-announcer' }));
  services.upsert(
    service('proxied', { ips: ['192.0.2.4'] }, { 'service.kubernetes.io/service-proxy-name': 'x' }),
  );
  const nodePorts = { 'service.cilium.io/type': 'NodePort' };
  services.upsert(service('unserved', { ips: ['192.0.2.5'], annotations: nodePorts }));
  assert.deepEqual(await seen(), []);
  policies.upsert(policy('p', { loadBalancerIPs: true, interfaces: ['^eth1$'] }));
  assert.deepEqual(await seen(), ['192.0.2.1 ns/red 3', '192.0.2.3 ns/l2 3', '2001:db8::1 ns/red 3']);
  policies.upsert(policy('p', { externalIPs: true, serviceSelector: { matchLabels: { colour: 'red' } } }));
  assert.deepEqual(await seen(), ['198.51.100.1 ns/red 2,3']);
  policies.upsert(
    policy('q', {
      loadBalancerIPs: true,
      serviceSelector: { matchLabels: { 'io.kubernetes.service.name': 'red' } },
      nodeSelector: { matchLabels: { role: 'core' } },
    }),
  );
  assert.deepEqual(await seen(), ['192.0.2.1 ns/red', '198.51.100.1 ns/red 2,3', '2001:db8::1 ns/red']);
  policies.delete('p');
  assert.deepEqual(await seen(), ['192.0.2.1 ns/red', '2001:db8::1 ns/red']);
  assert.deepEqual([...candidates.keys()], [], 'another node is to answer');
  label({ role: 'core' });
  assert.deepEqual(await seen(), ['192.0.2.1 ns/red 2,3', '2001:db8::1 ns/red 2,3']);
  assert.deepEqual([...candidates.keys()], ['ns/red']);
});

test('with externalTrafficPolicy Local a node without an endpoint does not compete', async () => {
  const { services, slices, policies, candidates, seen } = start();
  policies.upsert(policy('p', { loadBalancerIPs: true }));
  services.upsert(service('web', { ips: ['192.0.2.1'], externalTrafficPolicy: 'Local' }));
  slices.upsert(slice('web', 'n2', true));
  await seen();
  assert.equal(candidates.size, 0);
  slices.upsert(slice('web', 'n1', true));
  await seen();
  assert.equal(candidates.size, 1);
  slices.upsert(slice('web', 'n1', false));
  await seen();
  assert.equal(candidates.size, 0);
});

test('a node whose endpoints all end leaves the address to nodes with ready ones, before they are gone', async () => {
  const { services, slices, policies, candidates, seen } = start();
  policies.upsert(policy('p', { loadBalancerIPs: true }));
  services.upsert(service('web', { ips: ['192.0.2.1'], externalTrafficPolicy: 'Local' }));
  slices.upsert(slice('web', 'n1', true));
  slices.upsert(slice('web', 'n2', true));
  await seen();
  assert.equal(candidates.size, 1);
  slices.upsert(slice('web', 'n1', false, true));
  await seen();
  assert.equal(candidates.size, 0);
  slices.upsert(slice('web', 'n2', false, true));
  await seen();
  assert.equal(candidates.size, 1, 'no node has a ready one: those that end serve on');
  slices.upsert(slice('web', 'n1', false));
  await seen();
  assert.equal(candidates.size, 0);
});

test('a node that leaves, or is kept out of load balancing, does not compete', async () => {
  const { services, policies, node, label, candidates, seen } = start();
  policies.upsert(policy('p', { loadBalancerIPs: true }));
  services.upsert(service('web', { ips: ['192.0.2.1'] }));
  await seen();
  assert.equal(candidates.size, 1);
  node.upsert({ ...node.get('n1')!, leaving: true });
  await seen();
  assert.equal(candidates.size, 0);
  label({ 'node.kubernetes.io/exclude-from-external-load-balancers': '' });
  await seen();
  assert.equal(candidates.size, 0);
  label({});
  await seen();
  assert.equal(candidates.size, 1);
});

test('an address that services share is announced by the lease of the oldest', async () => {
  const { services, policies, held, candidates, announcements, seen } = start();
  policies.upsert(policy('p', { loadBalancerIPs: true, interfaces: ['eth0'] }));
  services.upsert(service('a', { ips: ['192.0.2.1'] }, {}, '2026-02-01T00:00:00Z'));
  services.upsert(service('b', { ips: ['192.0.2.1'] }));
  assert.deepEqual(await seen(), ['192.0.2.1 ns/b 2']);
  assert.deepEqual([...candidates.keys()], ['ns/b']);
  held.upsert({ service: 'ns/a' });
  await seen();
  assert.equal(announcements.size, 0);
  held.upsert({ service: 'ns/b' });
  await seen();
  assert.deepEqual([...announcements.keys()], ['192.0.2.1%2']);
  services.delete('ns/b');
  assert.deepEqual(await seen(), ['192.0.2.1 ns/a 2']);
  assert.deepEqual(
    [...announcements.values()].map(each => each.service),
    ['ns/a'],
  );
});

test('a policy that cannot be understood says where', () => {
  assert.throws(
    () => policy('p', { interfaces: ['eth0', '('] }),
    /^Error: spec\.interfaces\[1\]: found "\(", expected a regular expression$/,
  );
});
