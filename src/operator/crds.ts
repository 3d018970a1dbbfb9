import { setTimeout as sleep } from 'node:timers/promises';
import * as z from 'zod';
import { ciliumEndpointDefinition } from '../api/crds/cilium-endpoint.ts';
import { ciliumIdentityDefinition } from '../api/crds/cilium-identity.ts';
import { ciliumNodeDefinition } from '../api/crds/cilium-node.ts';
import {
  type CustomResourceDefinition,
  schemaVersion,
  schemaVersionAnnotation,
} from '../api/crds/custom-resource.ts';
import { l2AnnouncementPolicyDefinition } from '../api/crds/l2-announcement-policy.ts';
import { loadBalancerIPPoolDefinition } from '../api/crds/load-balancer-ip-pool.ts';
import type { KubeClient } from '../kube/client.ts';
import { Condition, conditionOf } from '../kube/objects.ts';
import { pathOf, resources } from '../kube/resource.ts';
import { isNotFound } from '../kube/status.ts';

export const definitions: readonly CustomResourceDefinition[] = [
  ciliumNodeDefinition,
  ciliumIdentityDefinition,
  ciliumEndpointDefinition,
  loadBalancerIPPoolDefinition,
  l2AnnouncementPolicyDefinition,
];

const Installed = z.object({
  metadata: z.object({ name: z.string(), annotations: z.record(z.string(), z.string()).nullish() }),
  status: z.object({ conditions: z.array(Condition).nullish() }).nullish(),
});

/**
 * Installs or upgrades the custom resource definitions and waits until the API server serves them. One that a
 * newer release has written stays as it is. Rejects with the API server's reason when a definition is refused.
 */
export async function installDefinitions(
  client: KubeClient,
  options: { signal: AbortSignal; onInstalled?: (name: string) => void },
): Promise<void> {
  await Promise.all(definitions.map(each => install(client, each, options)));
}

async function install(
  client: KubeClient,
  definition: CustomResourceDefinition,
  options: { signal: AbortSignal; onInstalled?: (name: string) => void },
): Promise<void> {
  const { signal } = options;
  const { name } = definition.metadata;
  const path = pathOf(resources.crds, { name });
  let present = await find(client, path, signal);
  if (versionOf(present) < schemaVersion) {
    await client.apply(path, definition, { signal });
    options.onInstalled?.(name);
    present = await find(client, path, signal);
  }
  while (!present || conditionOf(present, 'Established')?.status !== 'True') {
    const refused = present && conditionOf(present, 'NamesAccepted');
    if (refused?.status === 'False') throw new Error(`${name}: ${refused.message ?? refused.reason}`);
    await sleep(50, undefined, { signal });
    present = await find(client, path, signal);
  }
}

async function find(
  client: KubeClient,
  path: string,
  signal: AbortSignal,
): Promise<z.infer<typeof Installed> | undefined> {
  try {
    return await client.get(path, Installed, { signal });
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

/** 0: absent, or not one of ours yet. */
function versionOf(present: z.infer<typeof Installed> | undefined): number {
  return Number(present?.metadata.annotations?.[schemaVersionAnnotation] ?? 0) || 0;
}
