/** A pod's life on its node: hostPort, many at once, and the node's own bookkeeping afterwards. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, test } from 'node:test';
import {
  type ClusterOfTest,
  eventually,
  families,
  inUrl,
  mesh,
  namespace,
  nodeAddress,
  ready,
  serverPod,
} from './mesh.ts';

let us: ClusterOfTest;
let ns: Awaited<ReturnType<typeof namespace>>;

before(async () => {
  ({ us } = await mesh());
  ns = await namespace('pods');
});
after(() => ns?.[Symbol.asyncDispose]());

/** What a page says to this machine, or the exit status of curl. */
const fromHere = (address: string): Promise<string> =>
  new Promise(resolve =>
    execFile('curl', ['-s', '-m', '3', `http://${address}`], (error, stdout) =>
      resolve(error ? `curl ${error.code}` : stdout),
    ),
  );

const onNode = async (node: string, line: string): Promise<string> => (await us.onNode(node, line)).trim();

test('a hostPort answers at its node, from everywhere, and at no other node', async () => {
  const pod = JSON.parse(serverPod('exposed', { node: 'us-worker' }));
  pod.spec.containers[0].ports = [{ containerPort: 8080, hostPort: 18080 }];
  await us.apply(JSON.stringify(pod), ns.name);
  await us.apply(serverPod('client', { node: 'us-worker2' }), ns.name);
  await us.apply(serverPod('neighbour', { node: 'us-worker' }), ns.name);
  await ready(us, ns.name, 'exposed', 'client', 'neighbour');
  const urls = await Promise.all(
    families.map(async family => ({
      here: `${inUrl(await nodeAddress(us, 'us-worker', family))}:18080/hostname`,
      elsewhere: `${inUrl(await nodeAddress(us, 'us-worker2', family))}:18080/hostname`,
    })),
  );
  for (const { here, elsewhere } of urls) {
    assert.equal(await fromHere(here), 'exposed', here);
    for (const from of ['client', 'neighbour', 'exposed'])
      assert.equal(
        await us.sh(ns.name, from, `curl -s -m 3 http://${here}`),
        'exposed',
        `${here} from ${from}`,
      );
    for (const node of ['us-worker', 'us-worker2'])
      assert.equal(await onNode(node, `curl -s -m 3 http://${here}`), 'exposed', `${here} on ${node}`);
    assert.equal(await fromHere(elsewhere), 'curl 7', elsewhere);
  }
  await us.kubectl('-n', ns.name, 'delete', 'pod', 'exposed');
  for (const { here } of urls) assert.equal(await fromHere(here), 'curl 7', here);
});

test('thirty pods at once on one node all work, and leave nothing when they go', async () => {
  const names = Array.from({ length: 30 }, (_, at) => `crowd-${at}`);
  const devices = (): Promise<string> => onNode('us-worker', 'ls /sys/class/net | grep -c ^ist || true');
  const files = (): Promise<string> => onNode('us-worker', 'ls /run/isthmus/endpoints | wc -l');
  const programs = (): Promise<string> =>
    onNode('us-worker', 'ls /sys/fs/bpf/isthmus/links | grep -c ^from_pod || true');
  // Pods of files before this one may still be on their way out.
  await eventually(
    'no pod of the node is ending',
    async () => {
      const pods = ['get', 'pods', '-A', '--field-selector', 'spec.nodeName=us-worker', '-o'];
      return (await us.kubectl(...pods, 'jsonpath={.items[*].metadata.deletionTimestamp}')) === '';
    },
    90,
  );
  const before = [await devices(), await files(), await programs()];
  await Promise.all(names.map(name => us.apply(serverPod(name, { node: 'us-worker' }), ns.name)));
  await ready(us, ns.name, ...names);
  assert.equal(Number(await devices()), Number(before[0]) + 30);
  await us.kubectl('-n', ns.name, 'delete', 'pods', ...names);
  await eventually(
    'devices, files and programs are gone',
    async () => {
      assert.deepEqual([await devices(), await files(), await programs()], before);
      return true;
    },
    30,
  );
});
