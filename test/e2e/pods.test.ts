/** A pod's life on its node: hostPort, many at once, and the node's own bookkeeping afterwards. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, test } from 'node:test';
import { type ClusterOfTest, eventually, mesh, namespace, ready, serverPod } from './mesh.ts';

let us: ClusterOfTest;
let ns: Awaited<ReturnType<typeof namespace>>;
const nodeIp: Record<string, string> = {};

before(async () => {
  ({ us } = await mesh());
  ns = await namespace('pods');
  for (const node of ['us-worker', 'us-worker2'])
    nodeIp[node] = await us.kubectl(
      'get',
      'node',
      node,
      '-o',
      'jsonpath={.status.addresses[?(@.type=="InternalIP")].address}',
    );
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
  const here = `${nodeIp['us-worker']}:18080/hostname`;
  assert.equal(await fromHere(here), 'exposed');
  for (const from of ['client', 'neighbour', 'exposed'])
    assert.equal(await us.sh(ns.name, from, `curl -s -m 3 http://${here}`), 'exposed', `from ${from}`);
  assert.equal(await onNode('us-worker', `curl -s -m 3 http://${here}`), 'exposed');
  assert.equal(await onNode('us-worker2', `curl -s -m 3 http://${here}`), 'exposed');
  assert.equal(await fromHere(`${nodeIp['us-worker2']}:18080/hostname`), 'curl 7');
  await us.kubectl('-n', ns.name, 'delete', 'pod', 'exposed');
  assert.equal(await fromHere(here), 'curl 7');
});

test('thirty pods at once on one node all work, and leave nothing when they go', async () => {
  const names = Array.from({ length: 30 }, (_, at) => `crowd-${at}`);
  const devices = (): Promise<string> => onNode('us-worker', 'ls /sys/class/net | grep -c ^ist || true');
  const files = (): Promise<string> => onNode('us-worker', 'ls /run/isthmus/endpoints | wc -l');
  const programs = (): Promise<string> =>
    onNode('us-worker', 'ls /sys/fs/bpf/isthmus/links | grep -c ^from_pod || true');
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
