import { execFile } from 'node:child_process';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Lease } from '../../src/kube/objects.ts';
import { pathOf, resources, typeOf } from '../../src/kube/resource.ts';
import { ownCommand } from '../../src/lab/own-command.ts';
import type { Result } from '../control-plane/report.ts';
import { agentOf, askedAgent, whenReady } from './agent.ts';
import type { Bed } from './bed.ts';
import { type Crowd, clusterIp, serviceObject, sliceObject } from './crowd.ts';
import { installProbe, slowestAdd, startPod, TASK_LIMIT } from './event-loop.ts';
import { empty, fill } from './fill.ts';

const run = promisify(execFile);

/** What the table promises; the run fails where it is not kept. */
const limits = {
  task: TASK_LIMIT,
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
  const [command, ...words] = ownCommand('upgrade', '--wait', '--set', 'l2announcements.enabled=true');
  await run(command, words, { env: { ...process.env, KUBECONFIG: cluster.kubeconfig } });
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
  const { longest, late, visits, tasks } = probe();
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
      what: `${what}: those above, ms of processor time in ms of the clock (in which the heap was collected)`,
      isthmus: tasks,
      goal: '',
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
