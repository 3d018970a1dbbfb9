/** Who reaches whom, from every place a user would try: pods, host-network pods, node processes, both clusters. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import {
  askUdp,
  type ClusterOfTest,
  clusterAddress,
  eventually,
  type Family,
  families,
  inUrl,
  mesh,
  namespace,
  nodeAddress,
  podAddress,
  ready,
  serverPod,
  serviceFor,
  udpQuestion,
} from '../e2e/mesh.ts';

let us: ClusterOfTest;
let eu: ClusterOfTest;
let ns: Awaited<ReturnType<typeof namespace>>;
let nodePort = '';

/** Addresses of one family: of pods, of the service `two`, of nodes. */
interface Addresses {
  readonly at: Record<string, string>;
  readonly nodeIp: Record<string, string>;
  clusterIp: string;
}
const addresses: Readonly<Record<Family, Addresses>> = {
  4: { at: {}, nodeIp: {}, clusterIp: '' },
  6: { at: {}, nodeIp: {}, clusterIp: '' },
};

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
  nodePort = await us.kubectl(
    '-n',
    ns.name,
    'get',
    'service',
    'two',
    '-o',
    'jsonpath={.spec.ports[0].nodePort}',
  );
  for (const family of families) {
    const found = addresses[family];
    found.clusterIp = await clusterAddress(us, ns.name, 'two', family);
    for (const pod of ['one', 'same', 'two']) found.at[pod] = await podAddress(us, ns.name, pod, family);
    found.at.far = await podAddress(eu, ns.name, 'far', family);
    for (const node of ['us-control-plane', 'us-worker', 'us-worker2'])
      found.nodeIp[node] = await nodeAddress(us, node, family);
    found.nodeIp['eu-worker'] = await nodeAddress(eu, 'eu-worker', family);
  }
});
after(() => ns?.[Symbol.asyncDispose]());

const get = (host: string, port: string | number) => `wget -T 3 -qO- http://${inUrl(host)}:${port}/hostname`;

for (const family of families)
  describe(`IPv${family}`, () => {
    const found = addresses[family];
    const { at, nodeIp } = found;

    test('a pod reaches pods on its node, on another node, in the other cluster', async () => {
      assert.equal(await us.sh(ns.name, 'one', get(at.same!, 8080)), 'same');
      assert.equal(await us.sh(ns.name, 'one', get(at.two!, 8080)), 'two');
      assert.equal(await us.sh(ns.name, 'one', get(at.far!, 8080)), 'far');
      assert.equal(await eu.sh(ns.name, 'far', get(at.two!, 8080)), 'two');
    });

    test('pods see each other by their own addresses, also across clusters', async () => {
      for (const pod of ['same', 'two', 'far']) {
        const seen = await us.sh(ns.name, 'one', `wget -T 3 -qO- http://${inUrl(at[pod]!)}:8080/clientip`);
        assert.equal(new URL(`http://${seen}`).hostname, inUrl(at.one!), `${pod} saw ${seen}`);
      }
    });

    test('a pod reaches services by name and address, itself by its own service, nodes and the API server', async () => {
      assert.equal(await us.sh(ns.name, 'one', get('two', 80)), 'two');
      assert.equal(await us.sh(ns.name, 'one', get(found.clusterIp, 80)), 'two');
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
        [get(found.clusterIp, 80), 'two'],
        [get(nodeIp['us-worker2']!, nodePort), 'two'],
        [get(family === 4 ? '127.0.0.1' : '::1', nodePort), 'two'],
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
        const answer = await fetch(`http://${inUrl(nodeIp[node]!)}:${nodePort}/hostname`);
        assert.equal(await answer.text(), 'two', node);
      }
    });

    test('this machine and pods of both clusters reach a LoadBalancer address, by TCP and UDP', async () => {
      await us.apply(serviceFor('two', { name: `balanced${family}`, type: 'LoadBalancer' }), ns.name);
      // One of the addresses that the lab's network sends to the cluster's nodes, and a node's own.
      const routed = nodeIp['us-worker']!.replace(/[0-9a-f]+$/, family === 4 ? '230' : 'e6');
      const ingress = [routed, nodeIp['us-worker2']!].map(ip => ({ ip }));
      const status = JSON.stringify({ status: { loadBalancer: { ingress } } });
      const patch = [
        'patch',
        'service',
        `balanced${family}`,
        '--subresource=status',
        '--type=merge',
        '-p',
        status,
      ];
      await us.kubectl('-n', ns.name, ...patch);
      for (const { ip } of ingress) {
        await eventually(`${ip} answers`, async () => {
          const answer = await fetch(`http://${inUrl(ip)}:80/hostname`, {
            signal: AbortSignal.timeout(2000),
          });
          return (await answer.text()) === 'two';
        });
        assert.equal(await askUdp(ip, 81), 'two');
        assert.equal(await us.sh(ns.name, 'one', get(ip, 80)), 'two', `in us, ${ip}`);
        assert.equal(await eu.sh(ns.name, 'far', get(ip, 80)), 'two', `in eu, ${ip}`);
      }
      // A port that no service has is not answered by a node itself.
      await assert.rejects(fetch(`http://${inUrl(routed)}:8080/`, { signal: AbortSignal.timeout(1000) }));
    });

    test('ping, and 1,400 bytes that must not be fragmented, across clusters', async () => {
      for (const pod of ['same', 'two', 'far']) {
        await us.sh(ns.name, 'one', `ping -c 2 -i 0.2 -W 5 ${at[pod]}`);
        await us.sh(
          ns.name,
          'one',
          `ping -c 2 -i 0.2 -W 5 -M do -s ${1400 - (family === 4 ? 28 : 48)} ${at[pod]}`,
        );
      }
    });

    test('a NodePort of the other cluster is left alone', async () => {
      // eu has no such NodePort: a client in us that asks an eu node must not get us's own service.
      const tried = await us.trySh(
        ns.name,
        'one',
        `curl -sS -m 3 http://${inUrl(nodeIp['eu-worker']!)}:${nodePort}/hostname`,
      );
      assert.notEqual(tried.stdout, 'two');
    });
  });

test('UDP through a service', async () => {
  const said = await us.sh(ns.name, 'one', udpQuestion('two', 81));
  assert.equal(said.trim(), 'two');
});

test('a service without a backend refuses at once', async () => {
  const began = performance.now();
  const tried = await us.trySh(ns.name, 'one', 'nc -zv -w 10 nobody 80');
  assert.match(tried.stderr, /refused/i);
  assert.ok(performance.now() - began < 5000);
});

test('a name outside the cluster is answered at once', async () => {
  const began = performance.now();
  const asked = await us.trySh(ns.name, 'one', 'dig +tries=1 +time=4 example.org');
  assert.match(asked.stdout, /status: (REFUSED|NXDOMAIN|SERVFAIL)/);
  assert.ok(performance.now() - began < 3000);
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
