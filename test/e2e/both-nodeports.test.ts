/**
 * The mesh etcds of both clusters are on one NodePort, 32379. An agent that took it for its own cluster's at every
 * address would have its cluster talk to itself: at once, or after a restart, when the service is known first.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import * as z from 'zod';
import { type ClusterOfTest, isthmusOk, mesh, namespace, ready, serverPod } from './mesh.ts';

let us: ClusterOfTest;
let eu: ClusterOfTest;
let ns: Awaited<ReturnType<typeof namespace>>;

before(async () => {
  ({ us, eu } = await mesh());
  ns = await namespace('both-nodeports');
  for (const each of [us, eu]) {
    await each.apply(serverPod('pod', { node: `${each.name}-worker` }), ns.name);
    await each.apply(serverPod('host', { node: `${each.name}-worker2`, hostNetwork: true }), ns.name);
  }
  for (const each of [us, eu]) await ready(each, ns.name, 'pod', 'host');
});
after(() => ns?.[Symbol.asyncDispose]());

const port = (cluster: ClusterOfTest): Promise<string> =>
  cluster.kubectl(
    ...['-n', 'kube-system', 'get', 'service', 'clustermesh-apiserver'],
    ...['-o', 'jsonpath={.spec.ports[0].nodePort}'],
  );

test('both etcds are on one NodePort, and the mesh is connected again after every agent restarted', async () => {
  assert.deepEqual([await port(us), await port(eu)], ['32379', '32379']);
  for (const each of [us, eu])
    await each.kubectl('-n', 'kube-system', 'rollout', 'restart', 'daemonset/isthmus');
  await Promise.all(
    [us, eu].map(async each => {
      await each.kubectl('-n', 'kube-system', 'rollout', 'status', 'daemonset/isthmus', '--timeout=180s');
      await isthmusOk(
        ...['clustermesh', 'status', '--context', each.name, '--wait', '--wait-duration', '2m'],
      );
    }),
  );
});

const Nodes = z.object({
  items: z.array(
    z.object({
      metadata: z.object({ name: z.string() }),
      status: z.object({ addresses: z.array(z.object({ type: z.string(), address: z.string() })) }),
    }),
  ),
});

test('from a pod and from a node, each node’s 32379 shows the certificate of its own cluster', async () => {
  for (const owner of [us, eu]) {
    const { items } = await owner.json(Nodes, 'get', 'nodes');
    const lines = items.map(({ metadata, status }) => {
      const address = status.addresses.find(each => each.type === 'InternalIP')!.address;
      return `echo ${metadata.name} $(curl -skv -m 10 https://${address}:32379 2>&1 | grep -o 'CN=Isthmus CA of .*')`;
    });
    const expected = items.map(({ metadata }) => `${metadata.name} CN=Isthmus CA of ${owner.name}`);
    for (const client of [us, eu])
      for (const pod of ['pod', 'host']) {
        const seen = await client.sh(ns.name, pod, lines.join('; '));
        assert.deepEqual(seen.trim().split('\n'), expected, `from ${pod} in ${client.name}`);
      }
  }
});
