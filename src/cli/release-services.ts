import * as z from 'zod';
import {
  cleanupFinalizerPatch,
  isCleanupFinalizerOurs,
  LoadBalancerServiceObject,
  loadBalancerService,
} from '../api/load-balancer-service.ts';
import { pathOf, resources } from '../kube/resource.ts';
import { isNotFound } from '../kube/status.ts';
import { type ClusterChoice, clientOf } from './kubeconfig.ts';

const ServiceList = z.object({ items: z.array(LoadBalancerServiceObject) });

/**
 * Takes the finalizer of a load balancer from the services that the operator gave it to: without an operator they could
 * not be deleted any more. Call it when no operator runs.
 */
export async function releaseServices(cluster: ClusterChoice, report: (line: string) => void): Promise<void> {
  const client = clientOf(cluster);
  try {
    const { items } = await client.get(pathOf(resources.services), ServiceList);
    const held = items.map(object => loadBalancerService(object, [4, 6])).filter(isCleanupFinalizerOurs);
    for (const { namespace, name, uid } of held) {
      const path = pathOf(resources.services, { namespace, name, subresource: 'status' });
      await client
        .patch(path, 'strategic', { metadata: { uid, ...cleanupFinalizerPatch.remove } })
        .catch((error: unknown) => {
          if (!isNotFound(error)) throw error;
        });
    }
    if (held.length > 0) report(`🧹 Services that can be deleted without an operator again: ${held.length}`);
  } finally {
    client.close();
  }
}
