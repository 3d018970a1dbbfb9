/** A service of both clusters: who answers, for every affinity, and how it fails over. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import {
  answered,
  answersCome,
  type ClusterOfTest,
  eventually,
  isthmus,
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
  ns = await namespace('global');
  for (const each of [us, eu]) {
    await each.apply(
      serverPod(`${each.name}-web`, { node: `${each.name}-worker`, labels: { app: 'web' } }),
      ns.name,
    );
    await each.apply(serverPod('client', { node: `${each.name}-worker2` }), ns.name);
    await each.apply(serviceFor('web'), ns.name);
    await ready(each, ns.name, `${each.name}-web`, 'client');
  }
});
after(() => ns?.[Symbol.asyncDispose]());

const becomes = (from: ClusterOfTest, expected: string, seconds = 10): Promise<true> =>
  answersCome(from, ns.name, 'client', expected, { seconds });

const annotate = (cluster: ClusterOfTest, ...pairs: string[]) =>
  cluster.kubectl('-n', ns.name, 'annotate', '--overwrite', 'service', 'web', ...pairs);

test('a service that is not global answers from home only', async () => {
  assert.equal(await answered(us, ns.name, 'client'), 'us-web');
  assert.equal(await answered(eu, ns.name, 'client'), 'eu-web');
});

test('global in one cluster only: nobody gains a remote backend', async () => {
  await annotate(us, 'service.cilium.io/global=true');
  assert.equal(await answered(us, ns.name, 'client'), 'us-web');
});

test('global in both: both answer both', async () => {
  await annotate(eu, 'service.cilium.io/global=true');
  await becomes(us, 'eu-web us-web');
  await becomes(eu, 'eu-web us-web');
});

test('affinity local, remote, none take effect on the spot, for each cluster apart', async () => {
  await annotate(us, 'service.cilium.io/affinity=local');
  await becomes(us, 'us-web');
  await becomes(eu, 'eu-web us-web');
  await annotate(us, 'service.cilium.io/affinity=remote');
  await becomes(us, 'eu-web');
  await annotate(us, 'service.cilium.io/affinity=none');
  await becomes(us, 'eu-web us-web');
  await annotate(us, 'service.cilium.io/affinity-');
});

test('shared=false hides own backends from the other cluster only', async () => {
  await annotate(eu, 'service.cilium.io/shared=false');
  await becomes(us, 'us-web');
  await becomes(eu, 'eu-web us-web');
  await annotate(eu, 'service.cilium.io/shared-');
  await becomes(us, 'eu-web us-web');
});

test('the older annotation names mean the same', async () => {
  for (const each of [us, eu])
    await annotate(each, 'service.cilium.io/global-', 'io.cilium/global-service=true');
  await becomes(us, 'eu-web us-web');
  await annotate(us, 'io.cilium/service-affinity=remote');
  await becomes(us, 'eu-web');
  await annotate(us, 'io.cilium/service-affinity-');
});

test('an unknown affinity is reported on the Service and taken as none', async () => {
  await annotate(us, 'service.cilium.io/affinity=nearest');
  await becomes(us, 'eu-web us-web');
  await eventually('an event on the Service', async () =>
    (await us.kubectl('-n', ns.name, 'events', '--for', 'service/web')).includes('nearest'),
  );
  await annotate(us, 'service.cilium.io/affinity-');
});

test('order and weights divide between clusters, and service get says how', async () => {
  await annotate(us, 'service.isthmus.dev/affinity-order=eu,us');
  await becomes(us, 'eu-web');
  await annotate(us, 'service.isthmus.dev/affinity-order-', 'service.isthmus.dev/weights=us=3,eu=1');
  await becomes(us, 'eu-web us-web');
  const shown = await isthmusOk('service', 'get', `${ns.name}/web`, '--context', 'us');
  assert.match(shown, /us 75 % \(1 of 1 ready\), eu 25 % \(1 of 1 ready\)/);
  const lines = await us.sh(
    ns.name,
    'client',
    'for i in $(seq 200); do curl -s http://web/hostname; echo; done',
  );
  const remote = lines.split('eu-web').length - 1;
  // 50 are expected; this many more or less are five standard deviations and a half.
  assert.ok(remote > 16 && remote < 84, `${remote} of 200 answers came from eu, 25 % are expected`);
  await annotate(us, 'service.isthmus.dev/weights-');
});

test('affinity local goes remote when the last local backend is not Ready, and back', async () => {
  await annotate(us, 'service.cilium.io/affinity=local');
  await becomes(us, 'us-web');
  await us.kubectl('-n', ns.name, 'label', '--overwrite', 'pod', 'us-web', 'app=away');
  await becomes(us, 'eu-web');
  await us.kubectl('-n', ns.name, 'label', '--overwrite', 'pod', 'us-web', 'app=web');
  await becomes(us, 'us-web');
  await annotate(us, 'service.cilium.io/affinity-');
});

test('a killed remote pod leaves every table', async () => {
  await becomes(us, 'eu-web us-web');
  await eu.kubectl('-n', ns.name, 'delete', 'pod', 'eu-web', '--grace-period=0', '--force');
  await becomes(us, 'us-web');
  await eu.apply(serverPod('eu-web', { node: 'eu-worker', labels: { app: 'web' } }), ns.name);
  await ready(eu, ns.name, 'eu-web');
  await becomes(us, 'eu-web us-web');
});

test('one etcd node of the remote dead: changes still arrive', async () => {
  await isthmusOk('lab', 'fault', 'cut', 'eu/eu-worker2', '--to', 'us', '--name', labName);
  try {
    await eu.kubectl('-n', ns.name, 'label', '--overwrite', 'pod', 'eu-web', 'app=away');
    await becomes(us, 'us-web', 30);
  } finally {
    await isthmusOk('lab', 'fault', 'heal', '--name', labName);
  }
  await eu.kubectl('-n', ns.name, 'label', '--overwrite', 'pod', 'eu-web', 'app=web');
  await becomes(us, 'eu-web us-web', 30);
});

test('a whole cluster cut off: home goes on with affinity local, and the mesh is whole after the heal', async () => {
  await annotate(us, 'service.cilium.io/affinity=local');
  await becomes(us, 'us-web');
  await isthmusOk('lab', 'fault', 'cut', 'eu', '--name', labName);
  try {
    assert.equal(await answered(us, ns.name, 'client'), 'us-web');
    const added = await us.tryKubectl('-n', ns.name, 'get', 'pods');
    assert.equal(added.code, 0);
  } finally {
    await isthmusOk('lab', 'fault', 'heal', '--name', labName);
  }
  await annotate(us, 'service.cilium.io/affinity-');
  await becomes(us, 'eu-web us-web', 60);
});

test('status says both clusters are ready', async () => {
  const status = await isthmus('clustermesh', 'status', '--context', 'us');
  assert.equal(status.code, 0, status.stdout + status.stderr);
  assert.match(status.stdout, /eu/);
});
