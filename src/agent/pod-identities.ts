import type { MaxClusters } from '../api/identity-number.ts';
import { labelFilter } from '../api/labels.ts';
import { IdentityAllocator } from '../identity/allocator.ts';
import { derivePodLabels } from '../identity/pod.ts';
import { followPodIdentities, type PodIdentityRow, podIdentitiesTable } from '../identity/pod-identity.ts';
import type { KubeClient } from '../kube/client.ts';
import type { Logger } from '../log.ts';
import type { ReadonlyTable } from '../table/table.ts';
import type { Endpoint } from './endpoint.ts';
import { endpointKey } from './endpoint.ts';
import type { Endpoints } from './endpoints.ts';
import type { Sources } from './sources.ts';

export interface PodIdentitiesOptions {
  readonly client: KubeClient;
  readonly sources: Pick<Sources, 'pods' | 'namespaces' | 'identities'>;
  readonly endpoints: Endpoints;
  readonly cluster: string;
  readonly clusterId: number;
  readonly maxClusters: MaxClusters;
  /** Patterns of identity-relevant labels beyond the default ones. */
  readonly labels: string;
  readonly signal: AbortSignal;
  readonly log: Logger;
}

export interface PodIdentities {
  readonly table: ReadonlyTable<PodIdentityRow>;
  /** The identity of a new endpoint's pod; waits until pod, namespace and identity are known. */
  identify(endpoint: Endpoint): Promise<number>;
}

/** Gives this node's pods their identities, and endpoints a new one whenever their pod's labels change. */
export function runPodIdentities(options: PodIdentitiesOptions): PodIdentities {
  const { client, sources, endpoints, signal, log } = options;
  const filter = options.labels === '' ? labelFilter() : labelFilter(options.labels);
  const labels = derivePodLabels(sources.pods, sources.namespaces, { cluster: options.cluster, filter });
  const allocator = new IdentityAllocator({
    client,
    clusterId: options.clusterId,
    maxClusters: options.maxClusters,
    identities: sources.identities,
    inUse: identity => table.by('identity', String(identity))[Symbol.iterator]().next().done === false,
    onError: error => log.warn({ error }, 'identity'),
  });
  const table = podIdentitiesTable();
  followPodIdentities(table, {
    labels,
    identities: sources.identities,
    allocator,
    signal,
    onError: (pod, error, delay) => log.warn({ pod, error: error.message, delay }, 'no identity yet'),
  });
  table.subscribe(({ after }) => {
    if (!after) return;
    for (const endpoint of endpoints.table.by('pod', `${after.namespace}/${after.name}`))
      if (belongs(endpoint, after) && endpoint.state !== 'deleting')
        endpoints.setIdentity(endpointKey(endpoint), after.identity);
  });
  return {
    table,
    identify(endpoint) {
      const key = `${endpoint.namespace}/${endpoint.podName}`;
      const now = table.get(key);
      if (now && belongs(endpoint, now)) return Promise.resolve(now.identity);
      return new Promise((resolve, reject) => {
        const unsubscribe = table.subscribe(({ after }) => {
          if (!after || `${after.namespace}/${after.name}` !== key || !belongs(endpoint, after)) return;
          end();
          resolve(after.identity);
        });
        const gone = endpoints.table.subscribe(({ key: changed, after }) => {
          if (after || changed !== endpointKey(endpoint)) return;
          end();
          reject(new Error(`endpoint of pod ${key} was removed before its identity was known`));
        });
        const end = (): void => {
          unsubscribe();
          gone();
        };
      });
    },
  };
}

/** A StatefulSet's pod comes again under its name: only the UID tells them apart. */
function belongs(endpoint: Endpoint, row: PodIdentityRow): boolean {
  return endpoint.podUid === '' || endpoint.podUid === row.uid;
}
