import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { refreshMeshVolumes } from '../../src/cli/refresh-volumes.ts';
import { pathOf, resources, typeOf } from '../../src/kube/resource.ts';
import { now } from '../control-plane/bed.ts';
import { timeEndpoints } from '../control-plane/map-watch.ts';
import { type Result, seconds } from '../control-plane/report.ts';
import { cpuOf, memoryOf, startOf } from '../lab-daemons.ts';
import { agentOf, askedAgent, restartAgent, samplesOf } from '../services/agent.ts';
import type { Bed } from '../services/bed.ts';
import { type LoopReport, slowestAdd, startPod, TASK_LIMIT } from '../services/event-loop.ts';
import type { SyntheticMesh } from './synthetic-mesh.ts';

export interface MeshBed extends Bed {
  readonly mesh: SyntheticMesh;
  readonly loopReport: () => LoopReport;
}

const secret = pathOf(resources.secrets, { namespace: 'kube-system', name: 'cilium-clustermesh' });
const PODS = 5;
/** Seconds that a pod may wait for its network while clusters are read: a bucket of the agent's metric. */
const CNI_LIMIT = 1;

export function agentPid({ lab, cluster }: Bed): number {
  const pid = agentOf(lab, cluster);
  if (pid === undefined) throw new Error('no agent runs');
  return pid;
}

/** Names the first clusters of the mesh to the agent, which reads them while pods are started. */
export async function connect(bed: MeshBed, clusters: number): Promise<Result[]> {
  const { mesh, loopReport } = bed;
  const agent = agentPid(bed);
  const entries = await mesh.entries(clusters);
  const addresses = mesh.addresses(clusters);
  const last = mesh.clusters[clusters - 1]!.name;
  const file = `/proc/${agent}/root/var/lib/cilium/clustermesh/${last}`;
  const { done } = await timeEndpoints(bed.lab, bed.node, { addresses, clusterId: 0, file });
  const before = await askedAgent(agent, '/v1/metrics');
  const [agentCpu, etcdCpu] = [cpuOf(agent), cpuOf(mesh.etcd.pid)];
  process.kill(agent, 'SIGUSR2');
  await bed.client.apply(secret, {
    ...typeOf(resources.secrets),
    metadata: { name: 'cilium-clustermesh', namespace: 'kube-system' },
    data: Object.fromEntries(
      Object.entries(entries).map(([name, text]) => [name, Buffer.from(text).toString('base64')]),
    ),
  });
  await refreshMeshVolumes(bed.client, 'kube-system');
  const names = Array.from({ length: PODS }, (_, n) => `pod-${clusters}-${n}-${randomUUID().slice(0, 8)}`);
  await Promise.all(names.map(name => startPod(bed, name)));
  const { file: seen, all } = await done;
  const after = await whenAllRead(agent, clusters);
  const cost = [cpuOf(agent) - agentCpu, cpuOf(mesh.etcd.pid) - etcdCpu] as const;
  await bed.cluster.kubectl(
    ...['-n', bed.namespace, 'wait', '--for=condition=Ready', '--timeout=180s'],
    ...names.map(name => `pod/${name}`),
  );
  await pause(1000);
  const { longest, late, visits } = loopReport();
  const slowest = slowestAdd(before, await askedAgent(agent, '/v1/metrics'));
  if (agentPid(bed) !== agent) throw new Error('the agent did not survive');
  const what = sizeText(bed, clusters);
  const heap = samplesOf(after, 'nodejs_heap_size_used_bytes').get('') ?? 0;
  const row = (name: string, isthmus: string, goal = ''): Result => ({
    what: `${what}: ${name}`,
    isthmus,
    goal,
    cilium: '',
  });
  const goals = {
    memory: addresses.length === 100_000 ? '≤ 250' : '',
    time: addresses.length <= 10_000 ? '< 3 s' : '',
  };
  return [
    row('connected → all in the ipcache map', seconds(all - seen), goals.time),
    row('processor time of the agent / etcd', cost.map(each => seconds(each * 1000)).join(' / ')),
    row(
      'agent, resident memory / heap in use, MiB',
      `${memoryOf(agent).toFixed(0)} / ${(heap / 2 ** 20).toFixed(0)}`,
      goals.memory,
    ),
    row(
      `agent's longest task, ms of processor time (those above ${TASK_LIMIT} of all)`,
      `${longest} (${late} of ${visits})`,
      `≤ ${TASK_LIMIT}`,
    ),
    row(`slowest of ${PODS} CNI ADD meanwhile, s`, `≤ ${slowest}`, `≤ ${CNI_LIMIT}`),
    row('etcd, resident memory, MiB', memoryOf(mesh.etcd.pid).toFixed(0)),
  ];
}

/** The agent is killed and its ipcache map removed: from exec to the last row. */
export async function startUp(bed: MeshBed, clusters: number): Promise<Result[]> {
  const { mesh } = bed;
  const etcdCpu = cpuOf(mesh.etcd.pid);
  const agent = await restartAgent(bed.lab, bed.cluster, ['ipcache']);
  const addresses = mesh.addresses(clusters);
  const { done } = await timeEndpoints(bed.lab, bed.node, { addresses, clusterId: 0, file: '/' });
  const { all } = await done;
  await whenAllRead(agent, clusters);
  const what = sizeText(bed, clusters);
  const row = (name: string, isthmus: string, goal = ''): Result => ({
    what: `${what}: ${name}`,
    isthmus,
    goal,
    cilium: '',
  });
  return [
    row(
      'agent killed, exec → all in the ipcache map',
      seconds(all - startOf(agent) * 1000),
      addresses.length === 100_000 ? '< 10 s' : '',
    ),
    row(
      '… → every cluster is ready, and nothing waits to be written',
      seconds(now() - startOf(agent) * 1000),
    ),
    row(
      '… processor time of the agent / etcd until then',
      [cpuOf(agent), cpuOf(mesh.etcd.pid) - etcdCpu].map(each => seconds(each * 1000)).join(' / '),
    ),
    row('… agent, resident memory then, MiB', memoryOf(agent).toFixed(0)),
  ];
}

function sizeText({ mesh }: MeshBed, clusters: number): string {
  const { nodes, endpoints, services } = mesh.clusters[0]!;
  return `${clusters} × (${nodes} nodes, ${endpoints} endpoints, ${services} global services)`;
}

/** Resolves to the agent's metrics when so many clusters are ready and nothing waits to be written. */
async function whenAllRead(agent: number, clusters: number): Promise<string> {
  for (const limit = performance.now() + 300_000; performance.now() < limit; await pause(250)) {
    const metrics = await askedAgent(agent, '/v1/metrics');
    const sum = (name: string): number =>
      [...samplesOf(metrics, name).values()].reduce((total, each) => total + each, 0);
    const ready = sum('isthmus_clustermesh_remote_cluster_readiness_status');
    if (ready === clusters && sum('isthmus_reconciler_pending') === 0) return metrics;
  }
  throw new Error(`not all of ${clusters} clusters were read after 300 s`);
}
