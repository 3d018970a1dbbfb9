import * as z from 'zod';
import { MANAGED_BY_LABEL, MESH_SLICES } from '../api/endpoint-slice.ts';
import type { KubeClient } from '../kube/client.ts';
import { pathOf, resources } from '../kube/resource.ts';

const SliceList = z.object({
  items: z.array(
    z.object({ metadata: z.object({ namespace: z.string(), name: z.string(), uid: z.string() }) }),
  ),
});

/**
 * Removes the slices of other clusters' endpoints where nobody keeps them any more: they would stay as they are, and
 * DNS would go on answering with them. Resolves to their number.
 */
export async function removeMeshSlices(client: KubeClient, signal?: AbortSignal): Promise<number> {
  const query = { labelSelector: `${MANAGED_BY_LABEL}=${MESH_SLICES}` };
  const { items } = await client.get(pathOf(resources.endpointSlices), SliceList, { query, signal });
  for (const { metadata } of items) {
    const { namespace, name, uid } = metadata;
    const path = pathOf(resources.endpointSlices, { namespace, name });
    await client.delete(path, { preconditions: { uid }, signal });
  }
  return items.length;
}
