/** What Kubernetes promises of one cluster's services, held to real pods and sockets. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import * as z from 'zod';
import { type ClusterOfTest, eventually, isthmusOk, labName, mesh, ready, serverPod } from './mesh.ts';

const NS = 'services';
let us: ClusterOfTest;
/** Node name → address. */
let nodes: Readonly<Record<string, string>>;

const Nodes = z.object({
  items: z.array(
    z.object({
      metadata: z.object({ name: z.string() }),
      status: z.object({ addresses: z.array(z.object({ type: z.string(), address: z.string() })) }),
    }),
  ),
});

before(async () => {
  ({ us } = await mesh());
  const { items } = await us.json(Nodes, 'get', 'nodes');
  nodes = Object.fromEntries(
    items.map(({ metadata, status }) => [
      metadata.name,
      status.addresses.find(each => each.type === 'InternalIP')!.address,
    ]),
  );
  await us.apply(JSON.stringify({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: NS } }));
  await eventually('the ServiceAccount of pods', async () => {
    await us.kubectl('-n', NS, 'get', 'serviceaccount', 'default');
    return true;
  });
  const web = { app: 'web' };
  await us.apply(serverPod('web-1', { node: 'us-worker', labels: web }), NS);
  await us.apply(serverPod('web-2', { node: 'us-worker2', labels: web }), NS);
  await us.apply(serverPod('one', { node: 'us-worker2' }), NS);
  await us.apply(serverPod('client', { node: 'us-worker' }), NS);
  await ready(us, NS, 'web-1', 'web-2', 'one', 'client');
});
after(() => us?.tryKubectl('delete', 'namespace', NS, '--wait=false'));

const service = (name: string, app: string, spec: object, annotations: object = {}) =>
  us.apply(
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name, annotations },
      spec: { selector: { app }, ports: [{ name: 'http', port: 80, targetPort: 8080 }], ...spec },
    }),
    NS,
  );
const field = (name: string, path: string): Promise<string> =>
  us.kubectl('-n', NS, 'get', 'service', name, '-o', `jsonpath=${path}`);
/** The names that answer `times` requests of the client, each once. */
const answered = async (url: string, times = 20): Promise<string[]> => {
  const line = `for i in $(seq ${times}); do curl -s -m 3 ${url} || printf failed; echo; done`;
  const out = await us.sh(NS, 'client', line);
  return [...new Set(out.trim().split('\n'))].sort();
};
const becomes = (url: string, ...expected: string[]): Promise<true> =>
  eventually(`${url} is answered by ${expected}`, async () => {
    const seen = await answered(url);
    if (seen.join() !== expected.join()) throw new Error(`answered by ${seen}`);
    return true as const;
  });

test('session affinity: one backend, also after the agent restarted; off again, all', async () => {
  await service('sticky', 'web', { sessionAffinity: 'ClientIP' });
  const url = `http://${await field('sticky', '{.spec.clusterIP}')}/hostname`;
  const first = await eventually('one backend answers', async () => {
    const seen = await answered(url);
    return seen.length === 1 && seen[0] !== 'failed' ? seen : undefined;
  });
  await isthmusOk('lab', 'fault', 'kill', 'us/worker:agent', '--name', labName);
  assert.deepEqual(await answered(url), first);
  await service('sticky', 'web', { sessionAffinity: 'None' });
  await becomes(url, 'web-1', 'web-2');
});

test('session affinity ends at once with its backend', async () => {
  await service('leaving', 'web', { sessionAffinity: 'ClientIP' });
  const url = `http://${await field('leaving', '{.spec.clusterIP}')}/hostname`;
  const [first = ''] = await eventually('one backend answers', async () => {
    const seen = await answered(url);
    return seen.length === 1 && seen[0] !== 'failed' ? seen : undefined;
  });
  await us.kubectl('-n', NS, 'label', 'pod', first, 'app=none', '--overwrite');
  await becomes(url, first === 'web-1' ? 'web-2' : 'web-1');
  await us.kubectl('-n', NS, 'label', 'pod', first, 'app=web', '--overwrite');
});

test('internalTrafficPolicy Local: this node’s backend only', async () => {
  await service('inside', 'web', { internalTrafficPolicy: 'Local' });
  await becomes(`http://${await field('inside', '{.spec.clusterIP}')}/hostname`, 'web-1');
});

test('externalTrafficPolicy Local: the client’s address, a node without backends does not answer, health ports tell', async () => {
  await service('outside', 'one', { type: 'LoadBalancer', externalTrafficPolicy: 'Local' });
  const port = await field('outside', '{.spec.ports[0].nodePort}');
  const health = await field('outside', '{.spec.healthCheckNodePort}');
  const [here, there] = [nodes['us-worker2']!, nodes['us-control-plane']!];
  const ask = (from: string, url: string) => us.onNode(from, `curl -s -m 3 ${url} || echo failed`);
  await eventually('the node with the backend answers', async () => {
    const seen = await ask('us-worker', `http://${here}:${port}/clientip`);
    return seen.startsWith(`${nodes['us-worker']}:`);
  });
  assert.equal((await ask('us-worker', `http://${there}:${port}/clientip`)).trim(), 'failed');
  const own = await ask(
    'us-worker',
    `--interface ${nodes['us-worker']} http://${nodes['us-worker']}:${port}/clientip`,
  );
  assert.ok(own.startsWith(`${nodes['us-worker']}:`), `at its own node: ${own}`);
  const status = (node: string) =>
    ask('us-worker', `-o /dev/null -w '%{http_code}' http://${node}:${health}/`);
  assert.equal((await status(here)).trim(), '200');
  assert.equal((await status(there)).trim(), '503');
  const body = JSON.parse(await ask('us-worker', `http://${here}:${health}/`)) as unknown;
  assert.deepEqual(body, {
    service: { namespace: NS, name: 'outside' },
    localEndpoints: 1,
    serviceProxyHealthy: true,
  });
});

test('a port that no service has is refused, echo is answered, from pods and from nodes', async () => {
  await service('ports', 'web', {});
  const ip = await field('ports', '{.spec.clusterIP}');
  await becomes(`http://${ip}/hostname`, 'web-1', 'web-2');
  const pod = await us.sh(NS, 'client', `curl -s -m 3 -o /dev/null http://${ip}:81/; echo $?`);
  assert.equal(pod.trim(), '7', 'curl: could not connect');
  assert.match(await us.onNode('us-worker', `curl -s -m 3 -o /dev/null http://${ip}:81/; echo $?`), /7/);
  assert.match(await us.onNode('us-worker', `ping -c1 -W2 ${ip}`), / 0% packet loss/);
});

test('a process of a node cannot bind a NodePort', async () => {
  await service('bound', 'web', { type: 'NodePort' });
  const port = await field('bound', '{.spec.ports[0].nodePort}');
  const call = `bind(S, sockaddr_in(${port}, INADDR_ANY)) ? "bound" : $!{EADDRINUSE} ? "EADDRINUSE" : $!`;
  const bind = `perl -MSocket -MErrno -e 'socket(S, PF_INET, SOCK_STREAM, 0); print ${call}'`;
  await eventually(
    'the port is in use',
    async () => (await us.onNode('us-worker', bind)).trim() === 'EADDRINUSE',
  );
  await us.kubectl('-n', NS, 'delete', 'service', 'bound');
  await eventually('the port is free', async () => (await us.onNode('us-worker', bind)).trim() === 'bound');
});

test('SCTP and an unknown algorithm: events say so, and the rest of the service works', async () => {
  await service(
    'odd',
    'web',
    {
      ports: [
        { name: 'http', port: 80, targetPort: 8080 },
        { name: 'signal', port: 81, protocol: 'SCTP' },
      ],
    },
    { 'service.cilium.io/lb-algorithm': 'best' },
  );
  await becomes(`http://${await field('odd', '{.spec.clusterIP}')}/hostname`, 'web-1', 'web-2');
  await eventually('events', async () => {
    const events = await us.kubectl('-n', NS, 'events', '--for', 'service/odd');
    return (
      /port signal \(81\): SCTP is not balanced/.test(events) &&
      /found "best", expected random or maglev/.test(events)
    );
  });
});

test('a connection to a pod that is gone with its node ends as soon as the pod is deleted', async () => {
  await us.apply(serverPod('short', { node: 'us-worker2' }), NS);
  await ready(us, NS, 'short');
  await service('short', 'short', {});
  const ip = await field('short', '{.spec.clusterIP}');
  await becomes(`http://${ip}/hostname`, 'short');
  // Nothing is said on the connection, and the node goes down without a word.
  const held = us.trySh(NS, 'client', `nc ${ip} 80; echo ended`);
  await eventually('the connection is there', async () =>
    / 01 /.test(await us.sh(NS, 'client', `grep ':1F90 01 ' /proc/net/tcp || true`)),
  );
  await isthmusOk('lab', 'fault', 'kill', 'us/worker2', '--name', labName);
  const killed = performance.now();
  await us.kubectl('-n', NS, 'delete', 'pod', 'short', '--force', '--grace-period=0');
  assert.match((await held).stdout, /ended/);
  assert.ok(performance.now() - killed < 30_000, 'nobody waited for a timeout');
  await isthmusOk('lab', 'fault', 'heal', '--name', labName);
});
