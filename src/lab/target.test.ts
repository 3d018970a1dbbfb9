import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defaultConfig } from './config.ts';
import { planLab } from './plan.ts';
import { linkName, parseLink, parseNode, parseTarget } from './target.ts';

const plan = planLab('isthmus', defaultConfig(), {
  prefixes: [],
  contexts: new Set(),
  machineID: () => '0'.repeat(32),
});

function read(text: string): string {
  const target = parseTarget(plan, text);
  const node = 'node' in target ? (target.node?.name ?? 'any node') : '';
  return [target.kind, target.cluster.name, node, 'process' in target ? target.process : '']
    .filter(part => part !== '')
    .join(' ');
}

test('clusters, nodes and processes', () => {
  assert.equal(read('us'), 'cluster us');
  assert.equal(read('us/us-worker'), 'node us us-worker');
  assert.equal(read('us/worker2'), 'node us us-worker2');
  assert.equal(read('eu-worker'), 'node eu eu-worker');
  assert.equal(read('us:etcd'), 'process us us-control-plane etcd');
  assert.equal(read('us:kube-apiserver'), 'process us us-control-plane apiserver');
  assert.equal(read('us/worker:agent'), 'process us us-worker agent');
  assert.equal(read('us:mesh-etcd'), 'process us any node mesh-etcd');
});

test('what is not there is refused with what is', () => {
  const cases: readonly (readonly [string, RegExp])[] = [
    ['asia', /found target "asia", expected a cluster \(us, eu\)/],
    ['us/worker9', /expected a node of us \(us-control-plane, us-worker, us-worker2\)/],
    ['us:postgres', /expected a process of etcd, apiserver/],
    ['us:agent', /expected a node, because each has its own: us\/us-control-plane:agent/],
    ['us/worker:etcd', /expected us:etcd, because it runs on us-control-plane/],
    ['us:etcd:1', /expected CLUSTER/],
  ];
  for (const [text, expected] of cases) assert.throws(() => parseTarget(plan, text), expected, text);
});

test('a cluster stands for its control-plane node where a node is wanted', () => {
  assert.equal(parseNode(plan, 'eu').node.name, 'eu-control-plane');
  assert.throws(() => parseNode(plan, 'eu:etcd'), /expected a node/);
});

test('a link has one name both ways', () => {
  assert.equal(linkName(parseLink(plan, 'us-eu')), 'us-eu');
  assert.equal(linkName(parseLink(plan, 'eu-us')), 'us-eu');
  assert.throws(() => parseLink(plan, 'us-asia'), /expected one of us-eu/);
});
