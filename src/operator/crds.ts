import { setTimeout as sleep } from 'node:timers/promises';
import * as z from 'zod';
import { ciliumEndpointDefinition } from '../api/crds/cilium-endpoint.ts';
import { ciliumIdentityDefinition } from '../api/crds/cilium-identity.ts';
import { ciliumNodeDefinition } from '../api/crds/cilium-node.ts';
import { type CustomResourceDefinition, schemaVersionAnnotation } from '../api/crds/custom-resource.ts';
import { l2AnnouncementPolicyDefinition } from '../api/crds/l2-announcement-policy.ts';
import { loadBalancerIPPoolDefinition } from '../api/crds/load-balancer-ip-pool.ts';
import { serviceExportDefinition, serviceImportDefinition } from '../api/crds/mcs-api.gen.ts';
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

/** Those of the Multi-Cluster Services API, of SIG Multicluster: whoever installs them first, nobody puts older ones in their place. */
export const mcsDefinitions: readonly CustomResourceDefinition[] = [
  serviceExportDefinition,
  serviceImportDefinition,
];

const strings = z.record(z.string(), z.string()).nullish();
const Installed = z.object({
  metadata: z.object({ name: z.string(), annotations: strings, labels: strings }),
  status: z.object({ conditions: z.array(Condition).nullish() }).nullish(),
});

/**
 * Installs or upgrades the custom resource definitions and waits until the API server serves them. One that a
 * newer release has written stays as it is. Rejects with the API server's reason when a definition is refused.
 */
export async function installDefinitions(
  client: KubeClient,
  options: {
    /** Default: those that agents wait for. */
    definitions?: readonly CustomResourceDefinition[];
    signal: AbortSignal;
    onInstalled?: (name: string) => void;
  },
): Promise<void> {
  await Promise.all((options.definitions ?? definitions).map(each => install(client, each, options)));
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
  if (!present || isOlder(present, definition)) {
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

type Versioned = {
  readonly metadata: {
    readonly annotations?: Readonly<Record<string, string>> | null | undefined;
    readonly labels?: Readonly<Record<string, string>> | null | undefined;
  };
};

/** By our own number of the schema; of SIG Multicluster's by release and revision, which its definitions carry. */
function isOlder(present: Versioned, wanted: Versioned): boolean {
  const ours = ({ metadata }: Versioned): number[] => [
    Number(metadata.annotations?.[schemaVersionAnnotation] ?? 0) || 0,
  ];
  const theirs = ({ metadata: { labels } }: Versioned): number[] => [
    ...(labels?.['multicluster.x-k8s.io/release-version']?.match(/\d+/g) ?? []).map(Number),
    Number(labels?.['multicluster.x-k8s.io/crd-schema-revision'] ?? 0) || 0,
  ];
  const of = wanted.metadata.annotations?.[schemaVersionAnnotation] === undefined ? theirs : ours;
  const [before, after] = [of(present), of(wanted)];
  const at = after.findIndex((each, n) => each !== (before[n] ?? 0));
  return at >= 0 && (before[at] ?? 0) < after[at]!;
}
