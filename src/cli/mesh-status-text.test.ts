import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isMeshWell, type MeshStatus } from './mesh-status.ts';
import { meshStatusText } from './mesh-status-text.ts';

const ready: MeshStatus = {
  context: 'isthmus-us',
  cluster: { name: 'us', id: 1, maxClusters: 255, apiserver: true, globalByDefault: true, mirror: false },
  service: { type: 'NodePort', ips: ['172.18.1.2', '172.18.1.3'], port: 32379 },
  apiserverReady: true,
  localNamespaces: [],
  namespaceProblems: [],
  configured: ['eu'],
  nodes: { total: 3, connected: 3 },
  connected: { min: 1, avg: 1, max: 1 },
  clusters: { eu: { configured: 3, connected: 3, states: { ready: 3 } } },
  errors: [],
  warnings: [],
  problems: [],
};

test('a mesh that is well', () => {
  assert.equal(isMeshWell(ready), true);
  assert.equal(
    meshStatusText(ready),
    `✅ Service "clustermesh-apiserver" of type "NodePort" found
✅ Cluster access information is available:
  - 172.18.1.2:32379
  - 172.18.1.3:32379
✅ Deployment clustermesh-apiserver is ready
ℹ️  Agents read remote clusters directly (no KVStoreMesh)

✅ All 3 nodes are connected to all clusters [min:1 / avg:1.0 / max:1]

🔌 Cluster Connections:
  - eu: 3/3 configured, 3/3 connected
`,
  );
});

test('when a cluster was heard again, and how long it was not', () => {
  const after = (seconds: number, age: number): string =>
    meshStatusText({
      ...ready,
      clusters: { eu: { configured: 3, connected: 3, states: { ready: 3 }, lastOutage: { seconds, age } } },
    });
  assert.match(after(31.2, 14.4), /3\/3 connected, heard again for 14 s after 31 s of silence\n/);
  assert.match(after(31, 3700), /3\/3 connected\n/);
});

test('namespaces that are not exported are named', () => {
  assert.match(
    meshStatusText({ ...ready, localNamespaces: ['dev', 'test'] }),
    /ℹ️ {2}Not exported, because not global: 2 namespaces \(dev, test\)\n/,
  );
  const namespaceProblems = [
    'namespace dev: annotation clustermesh.cilium.io/global: found "yes", expected …',
  ];
  assert.match(
    meshStatusText({ ...ready, localNamespaces: ['dev'], namespaceProblems }),
    /1 namespace \(dev\)\n⚠️ {2}namespace dev: annotation clustermesh.cilium.io\/global: found "yes"/,
  );
  const many = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];
  assert.match(
    meshStatusText({ ...ready, localNamespaces: many }),
    /7 namespaces \(a, b, c, d, e and 2 more\)/,
  );
});

test('a mesh with a mirror, one of whose replicas does not hear a cluster', () => {
  const status: MeshStatus = {
    ...ready,
    mirrors: { total: 2, connected: 1, clusters: { min: 0, avg: 0.5, max: 1 } },
    clusters: { eu: { configured: 3, connected: 3, states: { ready: 3 }, mirrored: 1 } },
    errors: [{ node: '', pod: 'clustermesh-apiserver-b', cluster: 'eu', message: 'tcp: connection refused' }],
  };
  assert.equal(isMeshWell(status), false);
  const text = meshStatusText(status);
  assert.match(
    text,
    /✅ KVStoreMesh is enabled\n⚠️ {2}1\/2 KVStoreMesh replicas are not connected to all clusters \[/,
  );
  assert.match(text, /- eu: 3\/3 configured, 3\/3 connected - KVStoreMesh: 1\/2 connected\n/);
  assert.match(text, /❌ eu on clustermesh-apiserver-b: tcp: connection refused\n/);
});

test('errors of several nodes are said once', () => {
  const error = (node: string, age: number) => ({
    node,
    pod: `isthmus-${node}`,
    cluster: 'eu',
    message: `not connected for ${age} s, what is known of it is that old: tcp: connection refused`,
  });
  const status: MeshStatus = {
    ...ready,
    nodes: { total: 3, connected: 1 },
    connected: { min: 0, avg: 1 / 3, max: 1 },
    clusters: { eu: { configured: 3, connected: 1, states: { ready: 1, stale: 2 } } },
    errors: [error('us-worker', 7), error('us-worker2', 9)],
  };
  assert.equal(isMeshWell(status), false);
  const text = meshStatusText(status);
  assert.match(text, /⚠️ {2}2\/3 nodes are not connected to all clusters \[min:0 \/ avg:0.3 \/ max:1\]/);
  assert.match(text, /- eu: 3\/3 configured, 1\/3 connected, stale on 2\n/);
  assert.match(
    text,
    /❌ eu on us-worker, us-worker2: not connected for 7 s, .* connection refused\n💡 kubectl/,
  );
});

test('a cluster that is not enabled, and one that is connected to nobody', () => {
  const { service: _, ...rest } = ready;
  const off: MeshStatus = {
    ...rest,
    service: undefined,
    apiserverReady: false,
    clusters: {},
    problems: ['clustermesh is not enabled: isthmus clustermesh enable'],
  };
  assert.equal(isMeshWell(off), false);
  assert.match(meshStatusText(off), /❌ clustermesh is not enabled.*\n\n🔌 No cluster connected\n$/);
});
