/** What Cilium's agents say of themselves and of other clusters. */
import * as z from 'zod';
import { type ClusterOfTest, eventually, isthmusOk } from '../e2e/mesh.ts';

export interface CiliumAgent {
  readonly node: string;
  /** Runs cilium-dbg in the agent's pod. */
  dbg(...args: string[]): Promise<string>;
}

const Pods = z.object({
  items: z.array(
    z.object({ metadata: z.object({ name: z.string() }), spec: z.object({ nodeName: z.string() }) }),
  ),
});

/** The agents of a cluster, one on each node. */
export async function ciliumAgents(cluster: ClusterOfTest): Promise<CiliumAgent[]> {
  const { items } = await cluster.json(Pods, '-n', 'kube-system', 'get', 'pods', '-l', 'k8s-app=cilium');
  return items.map(({ metadata, spec }) => ({
    node: spec.nodeName,
    dbg: (...args) =>
      cluster.kubectl(
        ...['-n', 'kube-system', 'exec', metadata.name, '-c', 'cilium-agent', '--', 'cilium-dbg'],
        ...args,
      ),
  }));
}

const RemoteCluster = z.object({
  name: z.string(),
  ready: z.boolean().default(false),
  status: z.string().default(''),
  config: z
    .object({ 'cluster-id': z.number(), kvstoremesh: z.boolean().default(false) })
    .partial()
    .default({}),
  'num-nodes': z.number().default(0),
  'num-endpoints': z.number().default(0),
  'num-identities': z.number().default(0),
  'num-shared-services': z.number().default(0),
  'num-failures': z.number().default(0),
});
export type CiliumRemote = z.infer<typeof RemoteCluster>;

/** What an agent knows of another cluster; undefined when it knows none of that name. */
export async function remoteAt(agent: CiliumAgent, name: string): Promise<CiliumRemote | undefined> {
  const Status = z.object({
    'cluster-mesh': z.object({ clusters: z.array(RemoteCluster).default([]) }).default({ clusters: [] }),
  });
  const status = Status.parse(JSON.parse(await agent.dbg('status', '-o', 'json')));
  return status['cluster-mesh'].clusters.find(each => each.name === name);
}

/** Waits until each agent of Cilium says that us is ready and has two nodes, and Isthmus that every other cluster is. */
export async function bothReady(agents: readonly CiliumAgent[], seconds = 120): Promise<void> {
  for (const agent of agents)
    await eventually(
      `us at Cilium on ${agent.node}`,
      async () => {
        const remote = await remoteAt(agent, 'us');
        if (!remote?.ready) throw new Error(remote?.status ?? 'not configured');
        return remote['num-nodes'] === 2;
      },
      seconds,
    );
  await isthmusOk('clustermesh', 'status', '--context', 'us', '--wait', '--wait-duration', `${seconds}s`);
}

/** A row of an agent's ipcache. */
export interface CiliumAddress {
  readonly identity: number;
  /** `0.0.0.0` for an address that is not behind a tunnel. */
  readonly tunnel: string;
}

/** Prefix → whose it is and behind which node, as the datapath has it. */
export async function ipcacheAt(agent: CiliumAgent): Promise<ReadonlyMap<string, CiliumAddress>> {
  const rows = z
    .record(z.string(), z.array(z.string()))
    .parse(JSON.parse(await agent.dbg('bpf', 'ipcache', 'list', '-o', 'json')));
  return new Map(
    Object.entries(rows).map(([prefix, [text = '']]) => {
      const [, identity, tunnel] = /identity=(\d+) .*tunnelendpoint=(\S+)/.exec(text) ?? [];
      return [prefix, { identity: Number(identity), tunnel: tunnel ?? '' }];
    }),
  );
}
