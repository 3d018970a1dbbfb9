/**
 * What happens to a joined cluster in its life: its agents are replaced one after another, all its nodes are rebooted at
 * once. (From nothing to a network and back: install.test.ts.)
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import {
  answersCome,
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
let eu: ClusterOfTest;
let ns: Awaited<ReturnType<typeof namespace>>;
const at: Record<string, string> = {};

before(async () => {
  ({ us, eu } = await mesh());
  ns = await namespace('lifecycle');
  for (const each of [us, eu]) {
    const { name } = each;
    await each.apply(serverPod(`${name}-client`, { node: `${name}-worker` }), ns.name);
    await each.apply(serverPod(`${name}-same`, { node: `${name}-worker` }), ns.name);
    await each.apply(serverPod(`${name}-web`, { node: `${name}-worker2`, labels: { app: 'web' } }), ns.name);
    await each.apply(serviceFor('web', { annotations: { 'service.cilium.io/global': 'true' } }), ns.name);
  }
  for (const each of [us, eu]) {
    const pods = ['client', 'same', 'web'].map(role => `${each.name}-${role}`);
    await ready(each, ns.name, ...pods);
    for (const pod of pods) at[pod] = await podAddress(each, ns.name, pod);
  }
});
after(() => ns?.[Symbol.asyncDispose]());

const bothAnswer = (from: ClusterOfTest, seconds = 60): Promise<true> =>
  answersCome(from, ns.name, `${from.name}-client`, 'eu-web us-web', { seconds, patience: 5 });

/** Does `work` while a client pings three pods and asks the service; no packet may be lost, no request fail. */
async function undisturbed(work: () => Promise<void>): Promise<void> {
  await bothAnswer(us);
  await us.sh(ns.name, 'us-client', 'rm -f /tmp/done');
  const until = 'until [ -e /tmp/done ]; do';
  const pings = ['us-same', 'us-web', 'eu-web'].map(async pod => {
    const out = await us.sh(ns.name, 'us-client', `${until} ping -q -i 0.02 -c 50 -W 10 ${at[pod]}; done`);
    const counts = [...out.matchAll(/^(\d+) packets transmitted, (\d+) (?:packets )?received/gm)];
    assert.ok(counts.length > 0, out);
    for (const [line, sent, received] of counts) assert.equal(received, sent, `${pod}: ${line}`);
  });
  const requests = us.sh(
    ns.name,
    'us-client',
    `ok=0; bad=0; ${until} if curl -s -m 10 -o /dev/null http://web/hostname; then ok=$((ok+1)); else bad=$((bad+1)); fi; done; echo $ok $bad`,
  );
  try {
    await work();
  } finally {
    await us.sh(ns.name, 'us-client', 'touch /tmp/done');
  }
  const [ok, bad] = (await requests).trim().split(' ').map(Number);
  assert.equal(bad, 0, `${ok} requests answered`);
  assert.ok(ok! > 50, `${ok} requests answered`);
  await Promise.all(pings);
}

/** Hops on the way to a pod: the tunnel counts as none. */
async function hops(pod: string): Promise<number> {
  const out = await us.sh(ns.name, 'us-client', `ping -c 1 -W 5 ${at[pod]}`);
  return 64 - Number(/ttl=(\d+)/.exec(out)?.[1]);
}

test('agents replaced one by one, to hybrid routing and other sizes of maps and back: no ping, no connection is lost', async () => {
  assert.deepEqual([await hops('us-web'), await hops('eu-web')], [0, 0]);
  // A connection that only its row in the map `nat` holds together: the pod's address is masqueraded.
  await us.apply(serverPod('us-host', { node: 'us-worker2', hostNetwork: true }), ns.name);
  await ready(us, ns.name, 'us-host');
  const ticks = us.sh(
    ns.name,
    'us-host',
    'until [ -e /tmp/end ]; do echo tick; sleep 0.1; done | nc -lN 9999',
  );
  await us.sh(
    ns.name,
    'us-client',
    `(until nc -d ${await podAddress(us, ns.name, 'us-host')} 9999 > /tmp/ticks; do sleep 0.1; done; touch /tmp/closed) > /dev/null 2>&1 &`,
  );
  const ticked = async (): Promise<number> =>
    Number(await us.sh(ns.name, 'us-client', 'test ! -e /tmp/closed && wc -l < /tmp/ticks'));
  await eventually('the long connection is open', async () => (await ticked()) > 0);
  for (const [mode, rows, expected] of [
    ['hybrid', 200_000, [1, 0]],
    ['tunnel', 0, [0, 0]],
  ] as const) {
    const values = [`routingMode=${mode}`, `bpf.ctTcpMax=${rows}`, `bpf.natMax=${rows}`];
    await undisturbed(async () => {
      await isthmusOk('upgrade', '--context', 'us', ...values.flatMap(each => ['--set', each]), '--wait');
    });
    const before = await ticked();
    await eventually('the long connection goes on', async () => (await ticked()) > before + 5);
    await eventually(`nodes of us route as ${mode} does`, async () => {
      assert.deepEqual([await hops('us-web'), await hops('eu-web')], expected);
      return true;
    });
    const status = await isthmusOk('status', '--context', 'us');
    assert.match(
      status,
      mode === 'hybrid'
        ? /Routing +hybrid +6 paths direct, 9 by tunnel/
        : /Routing +tunnel +0 paths direct, 15 by tunnel/,
    );
  }
  await us.sh(ns.name, 'us-host', 'touch /tmp/end');
  await ticks;
  await isthmusOk('clustermesh', 'status', '--context', 'us', '--wait', '--wait-duration', '2m');
});

test('a cluster whose nodes are all rebooted at once is in the mesh again by itself', async () => {
  await isthmusOk('lab', 'fault', 'restart', 'eu', '--name', labName);
  await eventually(
    'the API server is back',
    async () => (await eu.tryKubectl('get', '--raw', '/readyz')).stdout === 'ok',
    180,
  );
  await isthmusOk('status', '--context', 'eu', '--wait', '--wait-duration', '4m');
  const pods = ['eu-client', 'eu-same', 'eu-web'];
  // What kubelet says of a pod is from before the reboot until it has looked at it again: its sandbox is a new one.
  for (const pod of pods)
    await eventually(
      `${pod} runs again`,
      async () => {
        const path =
          'jsonpath={.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].ready}';
        const [restarts, isReady] = (await eu.kubectl('-n', ns.name, 'get', 'pod', pod, '-o', path)).split(
          ' ',
        );
        return Number(restarts) > 0 && isReady === 'true';
      },
      180,
    );
  for (const pod of pods) at[pod] = await podAddress(eu, ns.name, pod);
  for (const pod of ['eu-same', 'eu-web', 'us-web'])
    assert.equal(await eu.sh(ns.name, 'eu-client', `curl -sS -m 10 http://${at[pod]}:8080/hostname`), pod);
  for (const each of [us, eu]) {
    await isthmusOk('clustermesh', 'status', '--context', each.name, '--wait', '--wait-duration', '3m');
    await bothAnswer(each, 120);
  }
  const addresses = await podAddresses(eu);
  for (const pod of pods) assert.ok(addresses.includes(at[pod]!), addresses.join(' '));
  assert.equal(new Set(addresses).size, addresses.length, addresses.join(' '));
});
