import { execFile } from 'node:child_process';
import { copyFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import * as z from 'zod';
import { Failure } from '../../src/cli/failure.ts';
import { Lease } from '../../src/kube/objects.ts';
import { pathOf, resources, typeOf } from '../../src/kube/resource.ts';
import { initProcess } from '../../src/lab/node.ts';
import { ownCommand } from '../../src/lab/own-command.ts';
import type { Result } from '../control-plane/report.ts';
import { agentOf, askedAgent, samplesOf, whenReady } from './agent.ts';
import type { Bed } from './bed.ts';
import { type Crowd, clusterIp, serviceObject, sliceObject } from './crowd.ts';
import { empty, fill } from './fill.ts';

const run = promisify(execFile);

/** What the table promises; the run fails where it is not kept. */
const limits = {
  /** Milliseconds of processor time between two visits to a timer of 2 ms. */
  task: 20 + 2,
  /** Seconds of a call of the plugin, its own work in the pod's namespace included: a bucket of the metric. */
  cniAdd: 1,
  /** Seconds between two renewals of a lease, of which there is one in 5 s: after its duration another may take it. */
  renewal: 15,
} as const;

const pods = 10;

/** 100,000 endpoints arrive in a cluster of one node that has pods to start and a lease to renew. */
export async function loop(bed: Bed): Promise<Result[]> {
  const { cluster, lab, namespace } = bed;
  const crowd: Crowd = { namespace, prefix: 'arrival', services: 2000, endpoints: 100_000, first: 8192 };
  const probe = await installProbe(bed);
  await announceOne(bed);
  const agent = agentOf(lab, cluster);
  if (agent === undefined) throw new Error('no agent runs');
  await whenReady(agent);
  const before = await askedAgent(agent, '/v1/metrics');
  const renewals = watchRenewals(bed);
  process.kill(agent, 'SIGUSR2');
  const started = performance.now();
  const filling = fill(lab, cluster, crowd);
  const names = Array.from({ length: pods }, (_, n) => `arrival-${n}`);
  await Promise.all(names.map(name => startPod(bed, name)));
  await filling;
  await bed.whenServed(crowd);
  const took = performance.now() - started;
  await cluster.kubectl(
    ...['-n', namespace, 'wait', '--for=condition=Ready', '--timeout=180s'],
    ...names.map(name => `pod/${name}`),
  );
  const { longest, late, visits } = probe();
  const gap = await renewals();
  const slowest = slowestAdd(before, await askedAgent(agent, '/v1/metrics'));
  if (agentOf(lab, cluster) !== agent) throw new Error('the agent did not survive');
  await empty(lab, cluster, crowd);
  const what = '100,000 endpoints arrive';
  if (longest > limits.task || slowest > limits.cniAdd || gap > limits.renewal) process.exitCode = 1;
  return [
    {
      what: `${what}: until all are in the maps, s`,
      isthmus: (took / 1000).toFixed(1),
      goal: '',
      cilium: '',
    },
    {
      what: `${what}: agent's longest task, ms of processor time (those above ${limits.task} of all)`,
      isthmus: `${longest} (${late} of ${visits})`,
      goal: `≤ ${limits.task}`,
      cilium: '',
    },
    {
      what: `${what}: slowest of ${pods} CNI ADD, s`,
      isthmus: `≤ ${slowest}`,
      goal: `≤ ${limits.cniAdd}`,
      cilium: '',
    },
    {
      what: `${what}: longest time between two renewals of a lease (every 5 s, lost after 15), s`,
      isthmus: gap.toFixed(1),
      goal: `≤ ${limits.renewal}`,
      cilium: '',
    },
  ];
}

/** Gives the agent the probe, and L2 announcements; what is returned reads what the probe saw. */
async function installProbe({
  lab,
  cluster,
  node,
}: Bed): Promise<() => { longest: number; late: number; visits: number }> {
  const pid = initProcess(lab.layout, node);
  if (pid === undefined) throw new Failure(`node ${node.name} is down`);
  const folder = `/proc/${pid}/root/run/isthmus`;
  copyFileSync(join(import.meta.dirname, 'loop-probe.mjs'), join(folder, 'loop-probe.mjs'));
  const [command, ...words] = ownCommand('upgrade', '--wait', '--set', 'l2announcements.enabled=true');
  await run(command, words, { env: { ...process.env, KUBECONFIG: cluster.kubeconfig } });
  const kubectl = (...words: readonly string[]): Promise<string> =>
    cluster.kubectl('-n', 'kube-system', ...words);
  const daemonSet = 'daemonset/isthmus';
  await kubectl('set', 'env', daemonSet, 'NODE_OPTIONS=--import=/run/isthmus/loop-probe.mjs');
  await kubectl('rollout', 'status', daemonSet, '--timeout=120s');
  return () => {
    const seen = z
      .record(z.string(), z.number())
      .parse(JSON.parse(readFileSync(join(folder, 'loop-probe.json'), 'utf8')));
    let [longest, late, visits] = [0, 0, 0];
    for (const [milliseconds, count] of Object.entries(seen)) {
      longest = Math.max(longest, Number(milliseconds));
      visits += count;
      if (Number(milliseconds) > limits.task) late += count;
    }
    return { longest, late, visits };
  };
}

/** A service whose address the node announces, for the lease that goes with it. */
async function announceOne({ client, cluster, namespace }: Bed): Promise<void> {
  // A control plane's node is as a rule not to be behind load balancers; here is no other.
  await cluster.kubectl(
    'label',
    'nodes',
    '--all',
    'node.kubernetes.io/exclude-from-external-load-balancers-',
  );
  const [a, b, c] = cluster.plan.nodes[0]!.address.split('.');
  await client.apply(pathOf(resources.loadBalancerIPPools, { name: 'bench' }), {
    ...typeOf(resources.loadBalancerIPPools),
    metadata: { name: 'bench' },
    spec: { blocks: [{ cidr: `${a}.${b}.${c}.224/30` }] },
  });
  await client.apply(pathOf(resources.l2AnnouncementPolicies, { name: 'bench' }), {
    ...typeOf(resources.l2AnnouncementPolicies),
    metadata: { name: 'bench' },
    spec: { loadBalancerIPs: true },
  });
  const service = serviceObject('announced', clusterIp(cluster.plan.serviceSubnet, 1000));
  await client.create(
    pathOf(resources.endpointSlices, { namespace }),
    sliceObject('announced', ['100.127.0.1']),
  );
  await client.create(pathOf(resources.services, { namespace }), {
    ...service,
    spec: { ...service.spec, type: 'LoadBalancer' },
  });
  for (const limit = performance.now() + 60_000; !(await renewTime({ client, namespace })); await pause(200))
    if (performance.now() > limit) throw new Error('nobody announces the address');
}

async function renewTime({
  client,
  namespace,
}: Pick<Bed, 'client' | 'namespace'>): Promise<string | undefined> {
  const name = `cilium-l2announce-${namespace}-announced`;
  const lease = await client
    .get(pathOf(resources.leases, { namespace: 'kube-system', name }), Lease)
    .catch(() => undefined);
  return lease?.spec?.renewTime ?? undefined;
}

/** Follows the lease; the longest time between two renewals, in seconds, when it is asked. */
function watchRenewals(bed: Bed): () => Promise<number> {
  const stop = new AbortController();
  const stamps = new Set<number>();
  const watching = (async () => {
    while (!stop.signal.aborted) {
      const text = await renewTime(bed);
      if (text) stamps.add(Date.parse(text));
      await pause(200);
    }
  })();
  return async () => {
    stop.abort();
    await watching;
    const list = [...stamps, Date.now()];
    return Math.max(...list.slice(1).map((each, n) => each - list[n]!)) / 1000;
  };
}

async function startPod({ client, namespace, node }: Bed, name: string): Promise<void> {
  await client.create(pathOf(resources.pods, { namespace }), {
    ...typeOf(resources.pods),
    metadata: { name },
    spec: {
      nodeName: node.name,
      terminationGracePeriodSeconds: 0,
      automountServiceAccountToken: false,
      containers: [
        {
          name: 'c',
          image: 'registry.k8s.io/e2e-test-images/agnhost:2.57',
          imagePullPolicy: 'IfNotPresent',
          args: ['pause'],
        },
      ],
    },
  });
}

/** The smallest bucket, in seconds, that holds every successful ADD since then. */
function slowestAdd(before: string, after: string): number {
  const count = (text: string, bucket: string): number => {
    for (const [labels, value] of samplesOf(text, 'isthmus_cni_call_duration_seconds_bucket'))
      if (
        labels.includes(`le="${bucket}"`) &&
        labels.includes('command="ADD"') &&
        labels.includes('code="0"')
      )
        return value;
    return 0;
  };
  const since = (bucket: string): number => count(after, bucket) - count(before, bucket);
  const all = since('+Inf');
  if (all === 0) throw new Error('no pod was added');
  for (const bucket of ['0.005', '0.01', '0.02', '0.05', '0.1', '0.2', '0.5', '1', '2', '5', '10'])
    if (since(bucket) === all) return Number(bucket);
  return Number.POSITIVE_INFINITY;
}
