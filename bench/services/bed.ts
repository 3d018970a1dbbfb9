import { type KubeClient, kubeFromConfig } from '../../src/kube/client.ts';
import { pathOf, resources, typeOf } from '../../src/kube/resource.ts';
import type { Lab, LabCluster } from '../../src/lab/open-lab.ts';
import type { NodePlan } from '../../src/lab/plan.ts';
import { mapFolder, timeServices } from '../control-plane/map-watch.ts';
import { type Crowd, crowdAddresses } from './crowd.ts';

/** What every row works with: a cluster of one node, and a namespace in it. */
export interface Bed extends AsyncDisposable {
  readonly lab: Lab;
  readonly network: 'isthmus';
  readonly cluster: LabCluster;
  readonly node: NodePlan;
  readonly client: KubeClient;
  readonly namespace: string;
  /** Resolves when the node serves all of a crowd. */
  whenServed(crowd: Crowd): Promise<void>;
}

export async function openBed(lab: Lab, name: string): Promise<Bed> {
  const cluster = lab.cluster(name);
  const client = kubeFromConfig({ component: 'bench', kubeconfig: cluster.kubeconfig });
  const namespace = `bench-${process.pid}`;
  const node = cluster.plan.nodes[0]!;
  await client.create(pathOf(resources.namespaces), {
    ...typeOf(resources.namespaces),
    metadata: { name: namespace },
  });
  return {
    lab,
    network: 'isthmus',
    cluster,
    node,
    client,
    namespace,
    async whenServed(crowd) {
      const { done } = await timeServices(
        mapFolder(lab, node),
        crowdAddresses(cluster.plan.serviceSubnet, crowd),
        crowd.endpoints / crowd.services,
      );
      await done;
    },
    async [Symbol.asyncDispose]() {
      await client.delete(pathOf(resources.namespaces, { name: namespace }));
      client.close();
    },
  };
}
