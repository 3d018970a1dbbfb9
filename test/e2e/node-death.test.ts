/** A node dies without a word: its backends leave the tables of every cluster when its own cluster knows. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import {
  answered,
  answersCome,
  type ClusterOfTest,
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

/** One second a request: a dead backend's are many. */
const becomes = (from: ClusterOfTest, client: string, expected: string, seconds: number): Promise<true> =>
  answersCome(from, ns.name, client, expected, { seconds, times: 12, patience: 1 });

test('the backends of a dead node leave both clusters, and come back with the node', async () => {
  await becomes(us, 'client', 'eu-web us-web', 30);
  await isthmusOk('lab', 'fault', 'kill', 'eu/eu-worker2', '--name', labName);
  try {
    // Kubernetes gives a silent node 40 s (and its controller a few more) before its pods are not Ready.
    await becomes(us, 'client', 'us-web', 120);
    await becomes(eu, 'eu-client', 'us-web', 120);
  } finally {
    await isthmusOk('lab', 'fault', 'heal', '--name', labName);
  }
  await becomes(us, 'client', 'eu-web us-web', 120);
  assert.equal(
    await answered(eu, ns.name, 'eu-client', { times: 12, patience: 1 }),
    'eu-web us-web',
    'the node and its pod are back',
  );
});
