/**
 * `npm run bench:pods [-- --peer cilium]`: how long a pod takes from the request that creates it until it is
 * Running, through Isthmus, the bridge plugin with host-local, and Cilium where asked. Each has a cluster of one
 * node in one lab; pods start in turn, one at a time.
 *
 * The kubelet says Running at its look once a second, so creations are spread evenly over that second (see
 * control-plane/pod-start.ts): the mean holds half a second of waiting for it.
 * Options: --pods N of each, --peer cilium, --name LAB (made, and removed afterwards, unless it is up), --keep.
 */
import { copyFileSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { kubeFromConfig } from '../src/kube/client.ts';
import { pathOf, resources, typeOf } from '../src/kube/resource.ts';
import { ensureBinaries } from '../src/lab/binaries.ts';
import { nodeRoot } from '../src/lab/node-disk.ts';
import type { LabCluster } from '../src/lab/open-lab.ts';
import { log } from '../src/log.ts';
import { type BenchCluster, benchLab } from './bench-lab.ts';
import { podStarter, spreadOverSecond, startTimes } from './control-plane/pod-start.ts';

const { values } = parseArgs({
  options: {
    name: { type: 'string', default: 'bench-pods' },
    peer: { type: 'string' },
    pods: { type: 'string', default: '30' },
    keep: { type: 'boolean', default: false },
  },
});
if (values.peer !== undefined && values.peer !== 'cilium')
  throw new Error(`--peer: found "${values.peer}", expected "cilium"`);
log.level = 'error';

const clusters: BenchCluster[] = [
  { name: 'isthmus', network: 'isthmus', workers: 0 },
  { name: 'bridge', network: 'none', workers: 0 },
];
if (values.peer !== undefined) clusters.push({ name: 'cilium', network: 'cilium', workers: 0 });
await using bench = await benchLab(values.name, clusters, values.keep);
await useBridge(bench.lab.cluster('bridge'));

await using stack = new AsyncDisposableStack();
const contenders = await Promise.all(
  clusters.map(async ({ name }) => {
    const cluster = bench.lab.cluster(name);
    const client = kubeFromConfig({ component: 'bench', kubeconfig: cluster.kubeconfig });
    stack.defer(() => client.close());
    const namespace = `bench-${process.pid}`;
    await client.create(pathOf(resources.namespaces), {
      ...typeOf(resources.namespaces),
      metadata: { name: namespace },
    });
    const pods = stack.use(await podStarter(client, namespace, cluster.plan.nodes[0]!.name));
    return { name, pods, times: [] as number[] };
  }),
);
const before = loadavg()[0]!;
const count = Number(values.pods);
const warmUp = 2;
for (let n = -warmUp; n < count; n++)
  for (const { pods, times } of n % 2 === 0 ? contenders : contenders.toReversed()) {
    if (n >= 0) await spreadOverSecond(n, count);
    const time = await pods.start();
    if (n >= 0) times.push(time);
  }
const title: Readonly<Record<string, string>> = {
  isthmus: 'Isthmus',
  bridge: 'bridge + host-local',
  cilium: `Cilium ${bench.cilium}`,
};
console.log('| network | s, min / mean / max |');
console.log('| --- | --- |');
for (const { name, times } of contenders) console.log(`| ${title[name]} | ${startTimes(times)} |`);
console.log(
  `\n${count} pods of each in turn, load ${before.toFixed(1)} at the start and ${loadavg()[0]!.toFixed(1)} at the end`,
);

/** Gives the one node of a cluster the bridge plugin with addresses from its pod CIDR. */
async function useBridge(cluster: LabCluster): Promise<void> {
  const [node] = cluster.plan.nodes;
  const executables = await ensureBinaries(['bridge', 'host-local'], { report: line => console.error(line) });
  const root = nodeRoot(node!);
  for (const [name, path] of Object.entries(executables)) copyFileSync(path, join(root, 'opt/cni/bin', name));
  const subnet = await cluster.kubectl('get', 'node', node!.name, '-o', 'jsonpath={.spec.podCIDR}');
  const bridge = {
    type: 'bridge',
    bridge: 'cni0',
    isGateway: true,
    ipam: { type: 'host-local', ranges: [[{ subnet }]], routes: [{ dst: '0.0.0.0/0' }] },
  };
  writeFileSync(
    join(root, 'etc/cni/net.d/10-bridge.conflist'),
    JSON.stringify({ cniVersion: '1.0.0', name: 'bridge', plugins: [bridge] }),
  );
  await cluster.kubectl('wait', '--for=condition=Ready', 'node', '--all', '--timeout=60s');
}
