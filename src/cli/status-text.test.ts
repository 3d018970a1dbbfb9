import assert from 'node:assert/strict';
import { test } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import { type ClusterStatus, type ComponentStatus, isWell } from './cluster-status.ts';
import { statusText } from './status-text.ts';

const agent: ComponentStatus = {
  name: 'isthmus-agent',
  kind: 'DaemonSet',
  object: 'isthmus',
  enabled: true,
  observed: true,
  desired: 3,
  ready: 3,
  available: 3,
  unavailable: 0,
  updated: 3,
  outdated: 0,
};
const well: ClusterStatus = {
  context: 'isthmus-us',
  cluster: { name: 'us', id: 1 },
  chart: '0.1.0',
  components: [
    agent,
    {
      ...agent,
      name: 'isthmus-operator',
      kind: 'Deployment',
      object: 'isthmus-operator',
      desired: 1,
      ready: 1,
      available: 1,
      updated: 1,
    },
    {
      ...agent,
      name: 'clustermesh-apiserver',
      kind: 'Deployment',
      object: 'clustermesh-apiserver',
      enabled: false,
      desired: 0,
      ready: 0,
      available: 0,
      updated: 0,
    },
  ],
  nodes: { total: 3, ready: 3 },
  endpoints: { total: 5, ready: 5 },
  attachModes: { tcx: 3 },
  loadBalancerModes: ['snat'],
  routing: { modes: ['hybrid'], direct: 6, tunnel: 9 },
  images: { 'quay.io/isthmus/isthmus:0.1.0': 4 },
  errors: [],
  warnings: [],
};
const text = (status: ClusterStatus) => stripVTControlCharacters(statusText(status));

test('a cluster where all is well', () => {
  assert.ok(isWell(well));
  assert.equal(
    text(well),
    `┌ Cluster us (id 1) · Isthmus 0.1.0 · context isthmus-us
│
│ ✔ Agent         3 of 3 ready                  DaemonSet isthmus
│ ✔ Operator      1 of 1 ready                  Deployment isthmus-operator
│ – Cluster mesh  disabled
│ ✔ Nodes         3 of 3 ready
│ ✔ Pods          5 of 5 connected
│ ✔ Routing       hybrid                        6 paths direct, 9 by tunnel
│
│ Image quay.io/isthmus/isthmus:0.1.0 in 4 pods
└ OK
`,
  );
});

test('nodes whose kernel has no tcx are named', () => {
  assert.match(text({ ...well, attachModes: { tcx: 1, tc: 2 } }), /✔ Programs {6}tc filters on 2 nodes/);
  assert.doesNotMatch(text(well), /Load balancer/);
  assert.match(text({ ...well, loadBalancerModes: ['hybrid'] }), /✔ Load balancer hybrid .*return for TCP/);
  assert.match(text({ ...well, loadBalancerModes: ['dsr', 'snat'] }), /… Load balancer dsr, snat/);
});

test('a cluster that changes its routing mode shows both', () => {
  const changing = { ...well, routing: { modes: ['hybrid', 'tunnel'], direct: 1, tunnel: 14 } };
  assert.match(text(changing), /… Routing {7}hybrid, tunnel {16}1 path direct, 14 by tunnel/);
});

test('a rollout is not well until the last old pod is gone', () => {
  const updating = {
    ...well,
    components: [{ ...agent, updated: 2, outdated: 1 }, ...well.components.slice(1)],
  };
  assert.equal(isWell(updating), false);
  assert.match(text(updating), /… Agent {9}3 of 3 ready, 1 to be updated/);
  assert.match(text(updating), /└ not ready yet\n$/);
});

test('a Deployment whose old pod is ready beside a new one that is not is no finished rollout', () => {
  const [agents, operator, mesh] = well.components;
  const updating = { ...well, components: [agents!, { ...operator!, outdated: 1 }, mesh!] };
  assert.equal(isWell(updating), false);
  assert.match(text(updating), /… Operator {6}1 of 1 ready, 1 to be updated/);
});

test('errors and warnings name node and reason; a warning alone is well', () => {
  const warned = {
    ...well,
    warnings: [{ component: 'isthmus-agent', object: 'us-worker', message: 'was started again once' }],
  } as const;
  assert.ok(isWell(warned));
  assert.match(text(warned), /│ ⚠️ {2}Agent on us-worker: was started again once\n└ OK, 1 warning\n$/);
  const failed = {
    ...warned,
    errors: [{ component: 'node', object: 'us-worker2', message: 'is not Ready' }],
  } as const;
  assert.equal(isWell(failed), false);
  assert.match(text(failed), /│ ❌ Node us-worker2: is not Ready\n/);
  assert.match(text(failed), /└ 1 error, 1 warning\n$/);
});

test('what every node says is said once, and counted once', () => {
  const warnings = ['us-worker', 'us-worker2', 'us-worker3'].map(object => ({
    component: 'isthmus-agent' as const,
    object,
    message: 'service shop/cart: annotation service.cilium.io/affinity: found "near"',
  }));
  assert.match(
    text({ ...well, warnings }),
    /│ ⚠️ {2}Agent on us-worker, us-worker2, us-worker3: service shop\/cart: .*\n└ OK, 1 warning\n$/,
  );
});
