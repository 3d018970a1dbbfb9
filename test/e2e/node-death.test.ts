/** A node dies without a word: every cluster stops sending to it long before Kubernetes judges it. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import {
  answersCome,
  type ClusterOfTest,
  clusterAddress,
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
/** Not the node of the only clustermesh-apiserver: without it no other cluster hears what eu has found out. */
let victim: string;
let ns: Awaited<ReturnType<typeof namespace>>;

before(async () => {
  ({ us, eu } = await mesh());
  ns = await namespace('node-death');
  const apiserver = [
    '-l',
    'app.kubernetes.io/name=clustermesh-apiserver',
    '-o',
    'jsonpath={.items[*].spec.nodeName}',
  ];
  const busy = await eu.kubectl('-n', 'kube-system', 'get', 'pods', ...apiserver);
  victim = busy.includes('eu-worker2') ? 'eu-worker' : 'eu-worker2';
  for (const each of [us, eu])
    await each.apply(serviceFor('web', { annotations: { 'service.cilium.io/global': 'true' } }), ns.name);
  await us.apply(serverPod('client', { node: 'us-worker' }), ns.name);
  await us.apply(serverPod('us-web', { node: 'us-worker2', labels: { app: 'web' } }), ns.name);
  await eu.apply(serverPod('eu-web', { node: victim, labels: { app: 'web' } }), ns.name);
  await eu.apply(
    serverPod('eu-client', { node: victim === 'eu-worker' ? 'eu-worker2' : 'eu-worker' }),
    ns.name,
  );
  await ready(us, ns.name, 'client', 'us-web');
  await ready(eu, ns.name, 'eu-web', 'eu-client');
});
after(() => ns?.[Symbol.asyncDispose]());

/** One second a request: a dead backend's are many. By address: the node may have been that of all DNS servers. */
const becomes = async (
  from: ClusterOfTest,
  client: string,
  expected: string,
  seconds: number,
): Promise<true> => {
  const address = await clusterAddress(from, ns.name, 'web');
  const url = `http://${address.includes(':') ? `[${address}]` : address}/hostname`;
  return answersCome(from, ns.name, client, expected, { url, seconds, times: 12, patience: 1 });
};

test('the backends of a dead node leave both clusters, and come back with the node', async () => {
  await becomes(us, 'client', 'eu-web us-web', 30);
  await isthmusOk('lab', 'fault', 'kill', `eu/${victim}`, '--name', labName);
  try {
    // Kubernetes gives a silent node 40 s (and its controller a few more) before its pods are not Ready: who is done
    // before that has found out by probes. How many seconds it takes is measured by `npm run chaos`.
    const killed = performance.now();
    await Promise.all([becomes(us, 'client', 'us-web', 35), becomes(eu, 'eu-client', 'us-web', 35)]);
    const seconds = (performance.now() - killed) / 1000;
    console.log(`twelve answers in a row without the dead node ${seconds.toFixed(1)} s after it was killed`);
    const nodes = await eu.kubectl(
      'get',
      'nodes',
      '-o',
      'jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}',
    );
    assert.equal(nodes, 'True True True', 'Kubernetes has not noticed yet');
    const said = [
      'get',
      'events',
      '--field-selector',
      `reason=NodeUnreachable,involvedObject.name=${victim}`,
    ];
    await eventually('an event names the dead node', async () =>
      /does not answer eu-\S+, eu-\S+: its pods get no new connections/.test(await eu.kubectl(...said)),
    );
  } finally {
    await isthmusOk('lab', 'fault', 'heal', '--name', labName);
  }
  await becomes(us, 'client', 'eu-web us-web', 120);
  await becomes(eu, 'eu-client', 'eu-web us-web', 120);
});
