import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Failure } from '../failure.ts';
import { type IPv4Prefix, overlap, parseIPv4Prefix } from './address.ts';
import { defaultConfig, type LabConfig } from './config.ts';
import { addressesOf, checkLabName, hostDevice, loadBalancerRange, planLab, subnetsOf } from './plan.ts';

const prefixes = (...texts: string[]): IPv4Prefix[] => texts.map(text => parseIPv4Prefix(text)!);

function plan(config: LabConfig = defaultConfig(), taken: IPv4Prefix[] = [], contexts: string[] = []) {
  let made = 0;
  return planLab('isthmus', config, {
    prefixes: taken,
    contexts: new Set(contexts),
    machineID: () => String(++made).padStart(32, '0'),
  });
}

test('nodes have kind names, and addresses in their cluster’s part of the block', () => {
  const { clusters, block, router } = plan();
  assert.equal(block, '172.18.0.0/16');
  assert.deepEqual([router.routerAddress, router.hostAddress], ['172.18.0.1', '172.18.0.2']);
  assert.deepEqual(
    clusters.map(({ nodes }) => nodes.map(({ name, address }) => `${name} ${address}`)),
    [
      ['us-control-plane 172.18.1.2', 'us-worker 172.18.1.3', 'us-worker2 172.18.1.4'],
      ['eu-control-plane 172.18.2.2', 'eu-worker 172.18.2.3', 'eu-worker2 172.18.2.4'],
    ],
  );
  assert.deepEqual(
    clusters.map(({ number, context, gateway, dnsAddress, apiAddress }) => [
      number,
      context,
      gateway,
      dnsAddress,
      apiAddress,
    ]),
    [
      [1, 'isthmus-us', '172.18.1.1', '10.97.0.10', '172.18.1.2'],
      [2, 'isthmus-eu', '172.18.2.1', '10.98.0.10', '172.18.2.2'],
    ],
  );
});

test('nodes of dual stack have addresses of both families, those of IPv6 alone no other', () => {
  const config = defaultConfig();
  const [us, eu] = config.clusters;
  const { clusters, router } = plan({
    ...config,
    clusters: [
      { ...us!, ipFamily: 'dual', serviceSubnet: '10.97.0.0/16,fd00:10:97::/112' },
      { ...eu!, ipFamily: 'ipv6', serviceSubnet: 'fd00:10:98::/112' },
    ],
  });
  assert.deepEqual([router.routerAddress6, router.hostAddress6], ['fd6c:6162:12::1', 'fd6c:6162:12::2']);
  assert.deepEqual(
    clusters.map(({ nodes, ...each }) => [
      addressesOf(nodes[0]!),
      subnetsOf(each),
      each.gateway6,
      each.dnsAddress,
    ]),
    [
      [
        ['172.18.1.2', 'fd6c:6162:12:1::2'],
        ['172.18.1.0/24', 'fd6c:6162:12:1::/64'],
        'fd6c:6162:12:1::1',
        '10.97.0.10',
      ],
      [['fd6c:6162:12:2::2'], ['fd6c:6162:12:2::/64'], 'fd6c:6162:12:2::1', 'fd00:10:98::a'],
    ],
  );
});

test('a part of each cluster’s addresses, away from the nodes, is for load balancers', () => {
  const { clusters } = plan();
  assert.deepEqual(
    clusters.map(({ subnet }) => loadBalancerRange(subnet)),
    ['172.18.1.224/27', '172.18.2.224/27'],
  );
});

test('every node is a machine of its own', () => {
  const nodes = plan().clusters.flatMap(cluster => cluster.nodes);
  for (const field of ['name', 'address', 'port', 'cgroup', 'disk', 'machineID'] as const)
    assert.equal(new Set(nodes.map(node => node[field])).size, nodes.length, field);
});

test('the block goes round what the machine uses and what the clusters use', () => {
  assert.equal(plan(defaultConfig(), prefixes('172.18.0.0/16')).block, '172.19.0.0/16');
  assert.equal(plan(defaultConfig(), prefixes('172.18.7.0/24', '172.19.0.1')).block, '172.20.0.0/16');
  assert.equal(plan(defaultConfig(), prefixes('172.16.0.0/14')).block, '172.20.0.0/16');
  const config = defaultConfig();
  const own = {
    ...config,
    clusters: config.clusters.map(cluster => ({ ...cluster, serviceSubnet: '172.18.1.0/24' })),
  };
  assert.equal(plan(own).block, '172.19.0.0/16');
  assert.throws(() => plan(config, prefixes('172.16.0.0/12')), Failure);
});

test('a context that another lab has gets the lab’s name', () => {
  assert.equal(plan(defaultConfig(), [], ['isthmus-us']).clusters[0]?.context, 'isthmus-isthmus-us');
});

test('names fit where the kernel puts them', () => {
  assert.ok(hostDevice(checkLabName('abcdefghijk')).length <= 15);
  for (const wrong of ['', 'A', 'a b', 'a.b', '-a', 'abcdefghijkl'])
    assert.throws(() => checkLabName(wrong), /expected 1 to 11 lower-case/);
  for (const { nodes } of plan().clusters) for (const { port } of nodes) assert.ok(port.length <= 15);
});

test('prefixes', () => {
  assert.deepEqual(parseIPv4Prefix('10.1.2.3/16'), { first: 0x0a010000, length: 16 });
  for (const wrong of ['10.1.2/16', '10.1.2.3/33', '10.1.2.256/8', '10.1.2.3/', '1.2.3.4/8/9', 'fd00::/8'])
    assert.equal(parseIPv4Prefix(wrong), undefined, wrong);
  const meets = (a: string, b: string) => overlap(parseIPv4Prefix(a)!, parseIPv4Prefix(b)!);
  assert.ok(meets('10.0.0.0/8', '10.255.255.255'));
  assert.ok(meets('10.1.0.0/24', '10.1.0.0/16'));
  assert.ok(!meets('10.1.0.0/24', '10.1.1.0/24'));
  assert.ok(meets('0.0.0.0/0', '255.255.255.255'));
});
