/** The node agent dies, restarts and is upgraded while traffic flows. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import {
  type ClusterOfTest,
  eventually,
  isthmusOk,
  labName,
  mesh,
  namespace,
  podAddress,
  podAddresses,
  ready,
  serverPod,
  serviceFor,
} from './mesh.ts';

let us: ClusterOfTest;
let ns: Awaited<ReturnType<typeof namespace>>;
const at: Record<string, string> = {};

before(async () => {
  ({ us } = await mesh());
  ns = await namespace('agent');
  await us.apply(serverPod('client', { node: 'us-worker' }), ns.name);
  await us.apply(serverPod('same', { node: 'us-worker' }), ns.name);
  await us.apply(serverPod('other', { node: 'us-worker2' }), ns.name);
  await us.apply(serviceFor('other'), ns.name);
  await ready(us, ns.name, 'client', 'same', 'other');
  for (const pod of ['client', 'same', 'other']) at[pod] = await podAddress(us, ns.name, pod);
});
after(() => ns?.[Symbol.asyncDispose]());

const agentOf = (node: string): Promise<string> =>
  us.kubectl(
    '-n',
    'kube-system',
    'get',
    'pods',
    '-l',
    'k8s-app=isthmus',
    '--field-selector',
    `spec.nodeName=${node}`,
    '-o',
    'jsonpath={.items[0].metadata.name} {.items[0].status.containerStatuses[0].restartCount} {.items[0].status.containerStatuses[0].ready}',
  );

test('kill -9 of the agent loses no packet and refuses no new connection', async () => {
  const before = (await agentOf('us-worker')).split(' ');
  // 10 ms apart: an unanswered echo is a lost packet. New connections go by the service, one after another.
  const pings = ['same', 'other'].map(pod =>
    us.sh(ns.name, 'client', `ping -q -i 0.01 -c 1200 -W 5 ${at[pod]}`),
  );
  const requests = us.sh(
    ns.name,
    'client',
    'ok=0; bad=0; end=$(( $(date +%s) + 12 )); while [ $(date +%s) -lt $end ]; do if curl -s -m 5 -o /dev/null http://other/hostname; then ok=$((ok+1)); else bad=$((bad+1)); fi; done; echo $ok $bad',
  );
  await isthmusOk('lab', 'fault', 'kill', 'us/us-worker:agent', '--name', labName);
  for (const out of await Promise.all(pings))
    assert.match(out, /1200 packets transmitted, 1200 received/, out);
  const [ok, bad] = (await requests).trim().split(' ').map(Number);
  assert.equal(bad, 0, `${ok} requests answered`);
  assert.ok(ok! > 100);
  await eventually(
    'the agent is back',
    async () => {
      const [, restarts, isReady] = (await agentOf('us-worker')).split(' ');
      return Number(restarts) > Number(before[1]) && isReady === 'true';
    },
    60,
  );
});

test('a pod made after the restart works, and addresses are not given twice', async () => {
  await us.apply(serverPod('late', { node: 'us-worker' }), ns.name);
  await ready(us, ns.name, 'late');
  assert.equal(
    await us.sh(
      ns.name,
      'client',
      `wget -T 3 -qO- http://${await podAddress(us, ns.name, 'late')}:8080/hostname`,
    ),
    'late',
  );
  const addresses = await podAddresses(us);
  assert.ok(addresses.includes(at.client!), addresses.join(' '));
  assert.equal(new Set(addresses).size, addresses.length, addresses.join(' '));
});

test('a pod that comes and one that goes while the agent is paused are right after it resumes', async () => {
  await isthmusOk('lab', 'fault', 'pause', 'us/us-worker:agent', '--name', labName);
  try {
    await us.apply(serverPod('waiting', { node: 'us-worker' }), ns.name);
    await us.kubectl('-n', ns.name, 'delete', 'pod', 'late', '--wait=false');
  } finally {
    await isthmusOk('lab', 'fault', 'heal', '--name', labName);
  }
  await ready(us, ns.name, 'waiting');
  await eventually(
    'the deleted pod is gone',
    async () => (await us.tryKubectl('-n', ns.name, 'get', 'pod', 'late')).code !== 0,
    60,
  );
  assert.equal(
    await us.sh(
      ns.name,
      'client',
      `wget -T 3 -qO- http://${await podAddress(us, ns.name, 'waiting')}:8080/hostname`,
    ),
    'waiting',
  );
});
