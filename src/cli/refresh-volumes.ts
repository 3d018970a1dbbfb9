import type { KubeClient } from '../kube/client.ts';
import { pathOf, resources } from '../kube/resource.ts';
import { isNotFound } from '../kube/status.ts';
import { isthmusPods } from './isthmus-pods.ts';

/**
 * Has the kubelets look at the Secrets and ConfigMaps of agents and mirrors now. By itself a kubelet writes a
 * changed Secret into a running pod with its next periodic sync, which may be more than a minute away; a change
 * of the pod's annotations is a sync at once.
 */
export async function refreshMeshVolumes(client: KubeClient, namespace: string): Promise<void> {
  const annotations = { 'isthmus.io/volumes-refreshed': new Date().toISOString() };
  const pods = (await isthmusPods(client, namespace)).filter(pod => pod.component !== 'isthmus-operator');
  await Promise.all(
    pods.map(async ({ name }) => {
      try {
        await client.patch(pathOf(resources.pods, { namespace, name }), 'merge', {
          metadata: { annotations },
        });
      } catch (error) {
        // A pod that is gone meanwhile has a successor, which reads what is there now.
        if (!isNotFound(error)) throw error;
      }
    }),
  );
}
