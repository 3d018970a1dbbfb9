/** A host whose firewall forwards nothing (FORWARD policy DROP, as Docker sets it) does not stop pods. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import {
  type ClusterOfTest,
  eventually,
  mesh,
  namespace,
  podAddress,
  ready,
  serverPod,
  serviceFor,
} from './mesh.ts';

const table = 'inet isthmus_test_firewall';
let us: ClusterOfTest;
let eu: ClusterOfTest;
let ns: Awaited<ReturnType<typeof namespace>>;
let nodes: readonly (readonly [ClusterOfTest, string])[] = [];
const at: Record<string, string> = {};

before(async () => {
  ({ us, eu } = await mesh());
  nodes = [
    [us, 'us-control-plane'],
    [us, 'us-worker'],
    [us, 'us-worker2'],
    [eu, 'eu-worker'],
  ];
  ns = await namespace('forward-drop');
  for (const [pod, node] of [
    ['client', 'us-worker'],
    ['same', 'us-worker'],
    ['other', 'us-worker2'],
  ] as const)
    await us.apply(serverPod(pod, { node }), ns.name);
  await us.apply(serverPod('host', { node: 'us-worker2', hostNetwork: true }), ns.name);
  await eu.apply(serverPod('far', { node: 'eu-worker' }), ns.name);
  await us.apply(serviceFor('other', { type: 'NodePort' }), ns.name);
  for (const each of [us, eu])
    await each.apply(serviceFor('far', { annotations: { 'service.cilium.io/global': 'true' } }), ns.name);
  await ready(us, ns.name, 'client', 'same', 'other', 'host');
  await ready(eu, ns.name, 'far');
  for (const pod of ['client', 'same', 'other', 'host']) at[pod] = await podAddress(us, ns.name, pod);
  at.far = await podAddress(eu, ns.name, 'far');
  await onEveryNode(
    `nft add table ${table} && nft add chain ${table} forward '{ type filter hook forward priority 0; policy drop; }' && nft add rule ${table} forward counter`,
  );
});
after(async () => {
  await onEveryNode(`nft delete table ${table} 2>/dev/null; true`);
  await ns?.[Symbol.asyncDispose]();
});

const onEveryNode = (line: string): Promise<string[]> =>
  Promise.all(nodes.map(([cluster, node]) => cluster.onNode(node, line)));

const get = (host: string, port: string | number) => `curl -sS -m 5 http://${host}:${port}/hostname`;

test('pods reach pods on their node, on another node, in the other cluster, and by services', async () => {
  for (const [host, port, name] of [
    [at.same!, 8080, 'same'],
    [at.other!, 8080, 'other'],
    [at.far!, 8080, 'far'],
    ['other', 80, 'other'],
  ] as const)
    assert.equal(await us.sh(ns.name, 'client', get(host, port)), name, host);
  await eventually(
    'the global service answers',
    async () => (await us.sh(ns.name, 'client', get('far', 80))) === 'far',
  );
  assert.equal(await eu.sh(ns.name, 'far', get(at.other!, 8080)), 'other');
});

test('pods reach nodes and the API server; nodes and this machine reach pods', async () => {
  assert.equal(await us.sh(ns.name, 'client', get(at.host!, 8080)), 'us-worker2');
  assert.match(
    await us.sh(ns.name, 'client', 'curl -sk -m 5 https://kubernetes.default/version'),
    /gitVersion|Unauthorized|Forbidden/,
  );
  assert.equal(await us.sh(ns.name, 'host', get(at.same!, 8080)), 'same');
  assert.equal(await us.sh(ns.name, 'host', get(at.far!, 8080)), 'far');
  const port = await us.kubectl(
    ...['-n', ns.name, 'get', 'service', 'other', '-o', 'jsonpath={.spec.ports[0].nodePort}'],
  );
  // us-worker has no backend: the packet comes in and goes out again through it.
  const [, [cluster, node]] = nodes as [unknown, readonly [ClusterOfTest, string]];
  const address = await cluster.kubectl(
    ...['get', 'node', node, '-o', 'jsonpath={.status.addresses[?(@.type=="InternalIP")].address}'],
  );
  const answer = await fetch(`http://${address}:${port}/hostname`, { signal: AbortSignal.timeout(20_000) });
  assert.equal(await answer.text(), 'other');
});

test('no packet of a pod came past the firewall: there was none to drop', async () => {
  for (const rules of await onEveryNode(`nft list table ${table}`))
    assert.match(rules, /policy drop;\s+counter packets 0 bytes 0/);
});
