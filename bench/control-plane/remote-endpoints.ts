import { existsSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { refreshMeshVolumes } from '../../src/cli/refresh-volumes.ts';
import { pathOf, resources } from '../../src/kube/resource.ts';
import { cpuOf, daemons } from '../lab-daemons.ts';
import type { Bed } from './bed.ts';
import { timeEndpoints } from './map-watch.ts';
import { quantile, type Result, seconds } from './report.ts';
import { SyntheticCluster, synthetic } from './synthetic-cluster.ts';

/** A third cluster that us can be connected to, with as many endpoints as wanted. */
export interface RemoteEndpoints extends AsyncDisposable {
  /**
   * Connects us to the cluster with so many endpoints. Resolves when every agent of us has them in its map, to what
   * each took since its configuration named the cluster.
   */
  connect(count: number): Promise<readonly Connected[]>;
  /** Takes the cluster away again; resolves when no agent knows of it. */
  disconnect(): Promise<void>;
}

interface Connected {
  /** µs. */
  readonly time: number;
  /** CPU time in ms. */
  readonly cpu: number;
}

/** Free on any machine that runs a lab: nodes have their etcd's there, and this one is the host. */
const port = 32_390;
const secret = pathOf(resources.secrets, { namespace: 'kube-system', name: 'cilium-clustermesh' });
const configFile = (pid: number): string => `/proc/${pid}/root/var/lib/cilium/clustermesh/${synthetic.name}`;

export async function remoteEndpoints(bed: Bed): Promise<RemoteEndpoints> {
  const { lab, us } = bed;
  const cluster = await SyntheticCluster.start(lab.plan.router.hostAddress, port, ['us']);
  const entries = await cluster.remoteEntries('us');
  let connected = false;
  const write = async (data: Record<string, string | null>): Promise<void> => {
    await us.client.patch(secret, 'merge', { data });
    await refreshMeshVolumes(us.client, 'kube-system');
  };
  const agents = () => daemons(lab).filter(each => each.name === 'agent' && each.cluster === 'us');
  const disconnect = async (): Promise<void> => {
    connected = false;
    await write(Object.fromEntries(Object.keys(entries).map(name => [name, null])));
    while (agents().some(({ pid }) => existsSync(configFile(pid)))) await pause(100);
  };
  return {
    disconnect,
    async connect(count) {
      await cluster.resize(count);
      const reading = agents();
      const before = reading.map(({ pid }) => cpuOf(pid));
      const timings = await Promise.all(
        reading.map(({ node, pid }) => {
          const plan = us.cluster.plan.nodes.find(each => each.name === node)!;
          const { addresses } = cluster;
          return timeEndpoints(lab, plan, { addresses, clusterId: synthetic.id, file: configFile(pid) });
        }),
      );
      const encoded = Object.entries(entries).map(([name, text]) => [
        name,
        Buffer.from(text).toString('base64'),
      ]);
      connected = true;
      await write(Object.fromEntries(encoded));
      return Promise.all(
        timings.map(async ({ done }, index) => {
          const { file, all } = await done;
          return { time: all - file, cpu: cpuOf(reading[index]!.pid) - before[index]! };
        }),
      );
    },
    async [Symbol.asyncDispose]() {
      if (connected) await disconnect();
      await cluster[Symbol.asyncDispose]();
    },
  };
}

export function connectResults(count: number, agents: readonly Connected[]): Result[] {
  const what = `a newly connected cluster's ${count} endpoints → ipcache map of each of ${agents.length} agents`;
  const times = agents.map(each => each.time);
  return [
    {
      what,
      isthmus: `${seconds(quantile(times, 0))} … ${seconds(quantile(times, 1))}`,
      goal: '< 3 s',
      cilium: '110 s',
    },
    {
      what: `${what}: CPU time of an agent`,
      isthmus: agents.map(each => `${(each.cpu / 1000).toFixed(2)} s`).join(', '),
      goal: '',
      cilium: '',
    },
  ];
}
