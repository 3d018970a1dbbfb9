/** Who reaches whom, from every place a user would try: pods, host-network pods, node processes, both clusters. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import {
  askUdp,
  type ClusterOfTest,
  eventually,
  mesh,
  namespace,
  podAddress,
  ready,
  serverPod,
  serviceFor,
} from '../e2e/mesh.ts';

let us: ClusterOfTest;
let eu: ClusterOfTest;
let ns: Awaited<ReturnType<typeof namespace>>;
const at: Record<string, string> = {};
let nodePort = '';
let clusterIp = '';
const nodeIp: Record<string, string> = {};

before(async () => {
  ({ us, eu } = await mesh());
  ns = await namespace('first-hour-reach');
  await us.apply(serverPod('one', { node: 'us-worker' }), ns.name);
  await us.apply(serverPod('same', { node: 'us-worker' }), ns.name);
  await us.apply(serverPod('two', { node: 'us-worker2' }), ns.name);
  await us.apply(serverPod('host', { node: 'us-worker', hostNetwork: true }), ns.name);
  await eu.apply(serverPod('far', { node: 'eu-worker' }), ns.name);
  await us.apply(serviceFor('two', { type: 'NodePort' }), ns.name);
  await us.apply(serviceFor('one'), ns.name);
  await us.apply(serviceFor('nobody'), ns.name);
  await ready(us, ns.name, 'one', 'same', 'two', 'host');
  await ready(eu, ns.name, 'far');
  for (const [cluster, pods] of [
    [us, ['one', 'same', 'two']],
    [eu, ['far']],
  ] as const)
    for (const pod of pods) at[pod] = await podAddress(cluster, ns.name, pod);
  nodePort = await us.kubectl(
    '-n',
    ns.name,
    'get',
    'service',
    'two',
    '-o',
    'jsonpath={.spec.ports[0].nodePort}',
  );
  clusterIp = await us.kubectl('-n', ns.name, 'get', 'service', 'two', '-o', 'jsonpath={.spec.clusterIP}');
  for (const [cluster, node] of [
    [us, 'us-control-plane'],
    [us, 'us-worker'],
    [us, 'us-worker2'],
    [eu, 'eu-worker'],
  ] as const)
    nodeIp[node] = await cluster.kubectl(
      'get',
      'node',
      node,
      '-o',
      'jsonpath={.status.addresses[?(@.type=="InternalIP")].address}',
    );
});
after(() => ns?.[Symbol.asyncDispose]());

const get = (host: string, port: string | number) => `wget -T 3 -qO- http://${host}:${port}/hostname`;

test('a pod reaches pods on its node, on another node, in the other cluster', async () => {
  assert.equal(await us.sh(ns.name, 'one', get(at.same!, 8080)), 'same');
  assert.equal(await us.sh(ns.name, 'one', get(at.two!, 8080)), 'two');
  assert.equal(await us.sh(ns.name, 'one', get(at.far!, 8080)), 'far');
  assert.equal(await eu.sh(ns.name, 'far', get(at.two!, 8080)), 'two');
});

test('pods see each other by their own addresses, also across clusters', async () => {
  for (const pod of ['same', 'two', 'far']) {
    const seen = await us.sh(ns.name, 'one', `wget -T 3 -qO- http://${at[pod]}:8080/clientip`);
    assert.equal(seen.split(':')[0], at.one, `${pod} saw ${seen}`);
  }
});

test('a pod reaches services by name and address, itself by its own service, nodes and the API server', async () => {
  assert.equal(await us.sh(ns.name, 'one', get('two', 80)), 'two');
  assert.equal(await us.sh(ns.name, 'one', get(clusterIp, 80)), 'two');
  assert.equal(await us.sh(ns.name, 'one', get(`one.${ns.name}`, 80)), 'one');
  for (const node of ['us-control-plane', 'us-worker', 'us-worker2'])
    assert.equal(await us.sh(ns.name, 'one', get(nodeIp[node]!, nodePort)), 'two', node);
  assert.equal(await us.sh(ns.name, 'one', get(nodeIp['us-worker']!, 8080)), 'us-worker', 'own node');
  assert.match(
    await us.sh(ns.name, 'one', 'curl -sk -m 3 https://kubernetes.default/version'),
    /gitVersion|Unauthorized|Forbidden/,
  );
});

test('a host-network pod and a process of the node reach ClusterIP, NodePort and remote pods', async () => {
  for (const [url, expected] of [
    [get(clusterIp, 80), 'two'],
    [get(nodeIp['us-worker2']!, nodePort), 'two'],
    [get('127.0.0.1', nodePort), 'two'],
    [get(at.same!, 8080), 'same'],
    [get(at.two!, 8080), 'two'],
    [get(at.far!, 8080), 'far'],
  ] as const) {
    assert.equal(await us.sh(ns.name, 'host', url), expected, `host-network pod: ${url}`);
    assert.equal(await us.onNode('us-worker', url), expected, `node process: ${url}`);
  }
});

test('this machine reaches a NodePort on every node', async () => {
  for (const node of ['us-control-plane', 'us-worker', 'us-worker2']) {
    const answer = await fetch(`http://${nodeIp[node]}:${nodePort}/hostname`);
    assert.equal(await answer.text(), 'two', node);
  }
});

test('this machine and pods of both clusters reach a LoadBalancer address, by TCP and UDP', async () => {
  await us.apply(serviceFor('two', { name: 'balanced', type: 'LoadBalancer' }), ns.name);
  // One of the addresses that the lab's network sends to the cluster's nodes, and a node's own.
  const routed = nodeIp['us-worker']!.replace(/\d+$/, '230');
  const ingress = [routed, nodeIp['us-worker2']!].map(ip => ({ ip }));
  const status = JSON.stringify({ status: { loadBalancer: { ingress } } });
  const patch = ['patch', 'service', 'balanced', '--subresource=status', '--type=merge', '-p', status];
  await us.kubectl('-n', ns.name, ...patch);
  for (const { ip } of ingress) {
    await eventually(`${ip} answers`, async () => {
      const answer = await fetch(`http://${ip}:80/hostname`, { signal: AbortSignal.timeout(2000) });
      return (await answer.text()) === 'two';
    });
    assert.equal(await askUdp(ip, 81), 'two');
    assert.equal(await us.sh(ns.name, 'one', get(ip, 80)), 'two', `in us, ${ip}`);
    assert.equal(await eu.sh(ns.name, 'far', get(ip, 80)), 'two', `in eu, ${ip}`);
  }
  // A port that no service has is not answered by a node itself.
  await assert.rejects(fetch(`http://${routed}:8080/`, { signal: AbortSignal.timeout(1000) }));
});

test('UDP through a service', async () => {
  const said = await us.sh(ns.name, 'one', `echo hostname | timeout 3 nc -u -w 1 two 81`);
  assert.equal(said.trim(), 'two');
});

test('a service without a backend refuses at once', async () => {
  const began = performance.now();
  const tried = await us.trySh(ns.name, 'one', 'nc -zv -w 10 nobody 80');
  assert.match(tried.stderr, /refused/i);
  assert.ok(performance.now() - began < 5000);
});

test('ping, and 1,400 bytes that must not be fragmented, across clusters', async () => {
  for (const pod of ['same', 'two', 'far']) {
    await us.sh(ns.name, 'one', `ping -c 2 -W 2 ${at[pod]}`);
    await us.sh(ns.name, 'one', `ping -c 2 -W 2 -M do -s 1372 ${at[pod]}`);
  }
});

test('a name outside the cluster is answered at once', async () => {
  const began = performance.now();
  const asked = await us.trySh(ns.name, 'one', 'dig +tries=1 +time=4 example.org');
  assert.match(asked.stdout, /status: (REFUSED|NXDOMAIN|SERVFAIL)/);
  assert.ok(performance.now() - began < 3000);
});

test('a NodePort of the other cluster is left alone', async () => {
  // eu has no such NodePort: a client in us that asks an eu node must not get us's own service.
  const tried = await us.trySh(
    ns.name,
    'one',
    `curl -sS -m 3 http://${nodeIp['eu-worker']}:${nodePort}/hostname`,
  );
  assert.notEqual(tried.stdout, 'two');
});

test('names resolve while CoreDNS is rolled', async () => {
  await us.kubectl('-n', 'kube-system', 'rollout', 'restart', 'deployment/coredns');
  const rolled = us.kubectl('-n', 'kube-system', 'rollout', 'status', 'deployment/coredns', '--timeout=120s');
  let done = false;
  void rolled.then(() => (done = true));
  let asked = 0;
  do {
    const answer = await us.trySh(
      ns.name,
      'one',
      'for i in 1 2 3 4 5 6 7 8 9 10; do getent hosts two >/dev/null || exit 1; done',
    );
    asked += 10;
    assert.equal(answer.code, 0, `after ${asked} lookups: ${answer.stderr}`);
  } while (!done);
  await rolled;
  await eventually(
    'a lookup after the roll',
    async () => (await us.trySh(ns.name, 'one', 'getent hosts two')).code === 0,
  );
});
