import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type KubeClient, kubeFromConfig } from '../../src/kube/client.ts';
import { Secret } from '../../src/kube/objects.ts';
import { pathOf, resources, typeOf } from '../../src/kube/resource.ts';
import { isAlreadyExists } from '../../src/kube/status.ts';
import { dialEndpoint, type EtcdConnection } from '../../src/kvstore/connection.ts';
import type { Lab, LabCluster } from '../../src/lab/open-lab.ts';
import type { NodePlan } from '../../src/lab/plan.ts';

export type NetworkName = 'isthmus' | 'cilium';

/** Names of the joined clusters that a network is measured in; things change in the first. */
export const clusterNames: Readonly<Record<NetworkName, readonly [string, string]>> = {
  isthmus: ['us', 'eu'],
  cilium: ['cilium1', 'cilium2'],
};

/** One of the two clusters that are measured. */
export interface Side {
  readonly cluster: LabCluster;
  readonly client: KubeClient;
  /** A worker, whose maps are looked at. */
  readonly node: NodePlan;
}

/** What every row works with: the lab, two clusters of a network (things change in `us`), and a namespace in both. */
export interface Bed extends AsyncDisposable {
  readonly lab: Lab;
  readonly network: NetworkName;
  readonly us: Side;
  readonly eu: Side;
  readonly namespace: string;
}

export async function openBed(lab: Lab, network: NetworkName = 'isthmus'): Promise<Bed> {
  const side = (name: string): Side => {
    const cluster = lab.cluster(name);
    const client = kubeFromConfig({ component: 'bench', kubeconfig: cluster.kubeconfig });
    return { cluster, client, node: cluster.plan.nodes.at(-1)! };
  };
  const [home, abroad] = clusterNames[network];
  const [us, eu] = [side(home), side(abroad)];
  const namespace = `bench-${process.pid}`;
  for (const { client } of [us, eu])
    await client.create(pathOf(resources.namespaces), {
      ...typeOf(resources.namespaces),
      metadata: { name: namespace },
    });
  return {
    lab,
    network,
    us,
    eu,
    namespace,
    async [Symbol.asyncDispose]() {
      for (const { client } of [us, eu]) {
        await client.delete(pathOf(resources.namespaces, { name: namespace }));
        client.close();
      }
    },
  };
}

/** Creates an object, or leaves one of the name that a broken run left. */
export async function ensure(client: KubeClient, path: string, object: object): Promise<void> {
  try {
    await client.create(path, object);
  } catch (error) {
    if (!isAlreadyExists(error)) throw error;
  }
}

/** The mesh etcd of a cluster as its administrator sees it. */
export async function meshEtcd({ cluster, client }: Side): Promise<EtcdConnection> {
  const folder = mkdtempSync(join(tmpdir(), 'isthmus-bench-etcd-'));
  try {
    const { data } = await client.get(
      pathOf(resources.secrets, { namespace: 'kube-system', name: 'clustermesh-apiserver-admin-cert' }),
      Secret,
    );
    const file = (name: string): string => {
      const path = join(folder, name);
      writeFileSync(path, Buffer.from(data?.[name] ?? '', 'base64'), { mode: 0o600 });
      return path;
    };
    const tls = { ca: file('ca.crt'), cert: file('tls.crt'), key: file('tls.key') };
    const host = cluster.plan.nodes[0]!.address;
    const endpoint = { host, port: 32379, serverName: 'clustermesh-apiserver.kube-system.svc' };
    return await dialEndpoint(endpoint, { tls });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Microseconds of CLOCK_MONOTONIC, the clock of every stamp. */
export function now(): number {
  return Number(process.hrtime.bigint() / 1000n);
}
