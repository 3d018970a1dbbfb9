/**
 * The mirror in a lab, under traffic: cluster us reads eu through it. Every request of a pod in us is meant for eu's
 * backend, so an answer of anybody else, or none, is a backend that was lost.
 */
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import * as z from 'zod';
import { fault } from '../../src/lab/fault.ts';
import {
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
} from '../e2e/mesh.ts';

let us: ClusterOfTest;
let eu: ClusterOfTest;
let ns: Awaited<ReturnType<typeof namespace>>;

before(async () => {
  ({ us, eu } = await mesh());
  await isthmusOk('clustermesh', 'enable', '--context', 'us', '--enable-kvstoremesh=false', '--wait');
  await well();
  ns = await namespace('mirror');
  const annotations = { 'service.cilium.io/global': 'true', 'service.cilium.io/affinity': 'remote' };
  await us.apply(serverPod('us-web', { node: 'us-control-plane', labels: { app: 'web' } }), ns.name);
  await us.apply(serverPod('client', { node: 'us-worker' }), ns.name);
  await eu.apply(serverPod('eu-web', { labels: { app: 'web' } }), ns.name);
  for (const each of [us, eu]) await each.apply(serviceFor('web', { annotations }), ns.name);
  await ready(us, ns.name, 'us-web', 'client');
  await ready(eu, ns.name, 'eu-web');
  await come('eu-web');
});
afterEach(() => fault(labName, { kind: 'heal' }));
after(async () => {
  await ns?.[Symbol.asyncDispose]();
});

const come = (from: string, seconds = 60): Promise<true> =>
  answersCome(us, ns.name, 'client', from, { seconds });

/** Every node, and every replica of the mirror, hears every cluster. */
async function well(): Promise<string> {
  return isthmusOk('clustermesh', 'status', '--context', 'us', '--wait', '--wait-duration', '240s');
}

const Clusters = z.object({
  clusters: z.array(
    z.looseObject({ name: z.string(), state: z.string(), status: z.string(), mirror: z.string().optional() }),
  ),
});

/** What the agents of us say of eu, one for each node. */
async function views() {
  const names = await us.kubectl('-n', 'kube-system', 'get', 'pods', '-l', 'k8s-app=isthmus', '-o', 'name');
  return Promise.all(
    names
      .trim()
      .split('\n')
      .map(async pod => {
        const exec = ['-n', 'kube-system', 'exec', pod, '-c', 'agent', '--', 'isthmus', 'agent', 'status'];
        const found = Clusters.parse(JSON.parse(await us.kubectl(...exec, '-o', 'json')));
        const view = found.clusters.find(each => each.name === 'eu');
        return { state: view?.state ?? 'none', status: view?.status ?? '', mirror: view?.mirror };
      }),
  );
}

/** Keys in the etcd of us. */
async function keys(): Promise<string[]> {
  const state = ['/usr/bin/node', '/isthmus/dist/clustermesh-apiserver.mjs', 'state'];
  const exec = [
    '-n',
    'kube-system',
    'exec',
    'deploy/clustermesh-apiserver',
    '-c',
    'apiserver',
    '--',
    ...state,
  ];
  const lines = (await us.kubectl(...exec)).trim().split('\n');
  return lines.map(line => z.object({ key: z.string() }).parse(JSON.parse(line)).key);
}

/** Runs `work` while the client asks again and again; resolves to who answered, with the number of answers. */
async function underTraffic(work: () => Promise<void>): Promise<Record<string, number>> {
  const ask =
    'touch /tmp/go; : >/tmp/answers; while [ -f /tmp/go ]; do (curl -s -m 5 http://web/hostname || echo failed) | head -1; echo; done >/tmp/answers';
  await us.sh(ns.name, 'client', `(${ask}) >/dev/null 2>&1 &`);
  const count = async (): Promise<number> =>
    Number(await us.sh(ns.name, 'client', 'grep -c . /tmp/answers || true'));
  await eventually('requests are answered', async () => (await count()) > 20);
  try {
    await work();
    // Long enough to see what came of it.
    const before = await count();
    await eventually('more requests are answered', async () => (await count()) > before + 50);
  } finally {
    await us.sh(ns.name, 'client', 'rm -f /tmp/go');
  }
  const lines = (await us.sh(ns.name, 'client', 'grep . /tmp/answers | sort | uniq -c')).trim().split('\n');
  const answers = Object.fromEntries(lines.map(line => line.trim().split(' ').reverse()));
  console.log(answers);
  return Object.fromEntries(Object.entries(answers).map(([by, times]) => [by, Number(times)]));
}

async function loseNothing(work: () => Promise<void>): Promise<void> {
  assert.deepEqual(Object.keys(await underTraffic(work)), ['eu-web']);
}

test('switched on in a joined mesh it loses no backend, and the agents read the copy', async () => {
  await loseNothing(async () => {
    await isthmusOk('clustermesh', 'enable', '--context', 'us', '--enable-kvstoremesh');
    await eventually('agents read the copy', async () => (await views()).every(each => each.mirror), 240);
    const text = await well();
    assert.match(
      text,
      /✅ KVStoreMesh is enabled\n✅ All 1 KVStoreMesh replicas are connected to all clusters \[/,
    );
    assert.match(
      text,
      /- eu: 2\/2 configured, 2\/2 connected(, heard again [^-]*)? - KVStoreMesh: 1\/1 connected/,
    );
  });
});

test('what changes in eu is known in us, both ways', async () => {
  await eu.kubectl('-n', ns.name, 'delete', 'pod', 'eu-web');
  await come('us-web');
  await eu.apply(serverPod('eu-web', { labels: { app: 'web' } }), ns.name);
  await come('eu-web');
});

for (const kind of ['kill', 'pause'] as const)
  test(`a mirror that is ${kind === 'kill' ? 'killed' : 'paused'} costs no request, and is found out`, async () => {
    await loseNothing(async () => {
      await fault(labName, { kind, target: 'us:mesh-mirror' });
      if (kind === 'pause') {
        await eventually(
          'it is missed',
          async () => (await views()).every(each => each.state === 'stale'),
          90,
        );
        assert.match((await views())[0]!.status, /^its mirror has been silent for \d+ s/);
        await fault(labName, { kind: 'heal' });
      }
      await eventually(
        'it speaks again',
        async () => (await views()).every(each => each.state === 'ready'),
        240,
      );
    });
    await well();
  });

test('the control plane of eu alone is silent: its backends stay, and its age is shown', async () => {
  await loseNothing(async () => {
    await fault(labName, { kind: 'pause', target: 'eu:mesh-etcd' });
    await eventually('stale', async () => (await views()).every(each => each.state === 'stale'), 90);
    const [view] = await views();
    assert.match(
      view!.status,
      /^its mirror clustermesh-apiserver-\S+ says: not connected for \d+ s, what is known/,
    );
    const status = await isthmus('clustermesh', 'status', '--context', 'us');
    assert.equal(status.code, 1);
    assert.match(
      status.stdout,
      /eu on us-\S+, us-\S+: its mirror clustermesh-apiserver-\S+ says: not connected/,
    );
    await fault(labName, { kind: 'heal' });
    await well();
  });
});

test('the etcd of eu is killed: nothing is lost, and what comes afterwards is known', async () => {
  await loseNothing(async () => {
    await fault(labName, { kind: 'kill', target: 'eu:mesh-etcd' });
    await well();
  });
});

test('eu is cut off: it is dead by both signs, and comes back', async () => {
  const started = performance.now();
  await fault(labName, { kind: 'cut', target: 'eu' });
  await come('us-web');
  console.log(
    `twenty requests answered at home after ${((performance.now() - started) / 1000).toFixed(1)} s`,
  );
  await eventually('dead', async () => (await views()).every(each => each.state === 'dead'));
  const [view] = await views();
  assert.match(
    view!.status,
    /^dead for \d+ s: .*, nor its control plane: its mirror clustermesh-apiserver-\S+ says: /,
  );
  await fault(labName, { kind: 'heal' });
  await come('eu-web');
  await well();
});

test('of two replicas one is killed: nothing is lost, and agents read the other', async () => {
  await isthmusOk('upgrade', '--context', 'us', '--set', 'clustermesh.apiserver.replicas=2');
  try {
    await us.kubectl(
      '-n',
      'kube-system',
      'rollout',
      'status',
      'deployment/clustermesh-apiserver',
      '--timeout=240s',
    );
    assert.match(await well(), /All 2 KVStoreMesh replicas are connected/);
    await loseNothing(async () => {
      const used = (await views()).map(each => each.mirror!);
      await us.kubectl('-n', 'kube-system', 'delete', 'pod', used[0]!, '--grace-period=0', '--force');
      await eventually(
        'another',
        async () => (await views()).every(each => each.mirror && each.mirror !== used[0]),
        90,
      );
    });
    await eu.kubectl('-n', ns.name, 'delete', 'pod', 'eu-web');
    await come('us-web');
    await eu.apply(serverPod('eu-web', { labels: { app: 'web' } }), ns.name);
    await come('eu-web');
  } finally {
    await isthmusOk('upgrade', '--context', 'us', '--set', 'clustermesh.apiserver.replicas=1');
  }
});

test('disconnected, the copy is closed and nothing of eu is left in the agents; connected again, it is there', async () => {
  const config = 'cilium/cluster-config/eu';
  assert.ok((await keys()).includes(config));
  await isthmusOk('clustermesh', 'disconnect', '--context', 'us', '--destination-context', 'eu');
  await come('us-web');
  await eventually('no new readers', async () => !(await keys()).includes(config));
  const agent = ['-n', 'kube-system', 'exec', 'ds/isthmus', '--', 'isthmus', 'agent'];
  for (const view of ['nodes', 'ipcache', 'services'])
    assert.doesNotMatch(await us.kubectl(...agent, view, '-o', 'json'), /"eu[-"/)]/);
  await isthmusOk('clustermesh', 'connect', '--context', 'us', '--destination-context', 'eu');
  await come('eu-web');
  assert.ok((await keys()).includes(config));
  await well();
});

test('switched off it loses no backend, and nothing of it is left', async () => {
  await loseNothing(async () => {
    await isthmusOk('clustermesh', 'enable', '--context', 'us', '--enable-kvstoremesh=false');
    await eventually(
      'agents read eu',
      async () => (await views()).every(each => !each.mirror && each.state === 'ready'),
      240,
    );
    assert.match(await well(), /Agents read remote clusters directly/);
  });
  assert.deepEqual(
    (await keys()).filter(key => /^cilium\/(cache|synced\/eu|cluster-config\/eu)/.test(key)),
    [],
  );
  assert.match(
    await us.tryKubectl('-n', 'kube-system', 'get', 'secret', 'cilium-kvstoremesh').then(each => each.stderr),
    /NotFound/,
  );
});
