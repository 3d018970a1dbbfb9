/** A node dies without a word: its backends leave the tables of every cluster when its own cluster knows. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import {
  type ClusterOfTest,
  eventually,
  isthmusOk,
  labName,
  mesh,
  namespace,
  ready,
  serverPod,
  serviceFor,
} from './mesh.ts';

let us: ClusterOfTest;
let eu: ClusterOfTest;
let ns: Awaited<ReturnType<typeof namespace>>;

before(async () => {
  ({ us, eu } = await mesh());
  ns = await namespace('node-death');
  for (const each of [us, eu])
    await each.apply(serviceFor('web', { annotations: { 'service.cilium.io/global': 'true' } }), ns.name);
  await us.apply(serverPod('client', { node: 'us-worker' }), ns.name);
  await us.apply(serverPod('us-web', { node: 'us-worker2', labels: { app: 'web' } }), ns.name);
  await eu.apply(serverPod('eu-web', { node: 'eu-worker2', labels: { app: 'web' } }), ns.name);
  await eu.apply(serverPod('eu-client', { node: 'eu-worker' }), ns.name);
  await ready(us, ns.name, 'client', 'us-web');
  await ready(eu, ns.name, 'eu-web', 'eu-client');
});
after(() => ns?.[Symbol.asyncDispose]());

async function answered(from: ClusterOfTest, client: string): Promise<string> {
  const line = 'for i in $(seq 12); do curl -s -m 1 http://web/hostname || printf failed; echo; done';
  const out = await from.sh(ns.name, client, line);
  return [...new Set(out.trim().split('\n'))].sort().join(' ');
}

test('the backends of a dead node leave both clusters, and come back with the node', async () => {
  await eventually('both clusters answer', async () => (await answered(us, 'client')) === 'eu-web us-web');
  await isthmusOk('lab', 'fault', 'kill', 'eu/eu-worker2', '--name', labName);
  try {
    // Kubernetes gives a silent node 40 s (and its controller a few more) before its pods are not Ready.
    for (const [cluster, client] of [
      [us, 'client'],
      [eu, 'eu-client'],
    ] as const)
      await eventually(
        `only us-web answers in ${cluster.name}`,
        async () => {
          const seen = await answered(cluster, client);
          if (seen !== 'us-web') throw new Error(`answers: ${seen}`);
          return true;
        },
        120,
      );
  } finally {
    await isthmusOk('lab', 'fault', 'heal', '--name', labName);
  }
  await eventually(
    'the node and its pod are back',
    async () => (await answered(us, 'client')) === 'eu-web us-web',
    120,
  );
  assert.equal(await answered(eu, 'eu-client'), 'eu-web us-web');
});
