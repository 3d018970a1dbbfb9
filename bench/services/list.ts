import * as z from 'zod';
import type { KubeClient } from '../../src/kube/client.ts';
import { pathOf, resources } from '../../src/kube/resource.ts';

const listed = z.object({ metadata: z.object({ continue: z.string().optional() }) });

/** Milliseconds in which the API server gives out all services and slices to one who does nothing with them. */
export async function listEverything(client: KubeClient): Promise<number> {
  const started = performance.now();
  await Promise.all(
    [resources.services, resources.endpointSlices].map(async resource => {
      let next: string | undefined;
      do {
        const page = await client.get(pathOf(resource), listed, { query: { limit: 500, continue: next } });
        next = page.metadata.continue || undefined;
      } while (next);
    }),
  );
  return performance.now() - started;
}
